//! `cargo xtask licences`: what `deny.toml` decides about licences, banned
//! crates and sources, checked from `cargo tree`.
//!
//! cargo-deny checks more, and runs where it is installed; building it in
//! every CI run would take longer than the rest of the checks.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The decisions of `deny.toml` that are checked here.
#[derive(Debug, Default)]
struct Decisions {
    allowed: Vec<String>,
    /// A crate and a licence that it alone may have.
    exceptions: Vec<(String, String)>,
    banned: Vec<String>,
    /// Crates that name no licence, read by a person.
    clarified: Vec<String>,
}

pub(crate) fn run(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root.join("deny.toml"))
        .context("read deny.toml")?;
    let decisions = Decisions::parse(&text);
    if decisions.allowed.is_empty() || decisions.banned.is_empty() {
        bail!("deny.toml: no allowed licences or no banned crates found");
    }
    let packages = packages(root)?;
    let broken: Vec<String> =
        packages.iter().flat_map(|package| decisions.check(package)).collect();
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    println!("licences: {} packages, all as deny.toml says", packages.len());
    Ok(())
}

/// A package of the tree.
#[derive(Debug)]
struct Package {
    name: String,
    licence: String,
    /// Where it comes from, if not from the registry.
    from: Option<String>,
}

/// Every package that a build for Linux, or its tests, links or runs.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let output = Command::new("cargo")
        .args(["tree", "--workspace", "--prefix", "none", "--quiet"])
        .args(["--edges", "normal,build,dev", "--format", "{p}|{l}"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .context("run cargo tree")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(" (*)").or(Some(line)))
        .collect();
    Ok(lines.into_iter().filter_map(package).collect())
}

/// Reads `NAME vVERSION [(FROM)]|LICENCE`.
fn package(line: &str) -> Option<Package> {
    let (package, licence) = line.split_once('|')?;
    let name = package.split(' ').next()?.to_owned();
    let from = package
        .split_once('(')
        .map(|(_, from)| from.trim_end_matches(')').to_owned())
        // Procedural macros are marked, paths are our own.
        .filter(|from| from != "proc-macro" && !from.starts_with('/'));
    Some(Package { name, licence: licence.to_owned(), from })
}

impl Decisions {
    /// Reads the few forms that `deny.toml` uses; a form it does not know
    /// allows nothing, so a mistake shows.
    fn parse(text: &str) -> Decisions {
        let mut decisions = Decisions::default();
        let mut section = "";
        let mut is_allow = false;
        for line in text.lines() {
            let line = line.trim();
            if section == "[licenses.clarify]" && line.starts_with("crate =") {
                decisions.clarified.extend(quoted(line));
            }
            if let Some(name) = line.strip_prefix('[')
                && let Some(name) = name.strip_suffix(']')
                && !name.contains(['"', ' '])
            {
                section = name;
                continue;
            }
            is_allow |= section == "licenses" && line.starts_with("allow = [");
            let plain = line.split('#').next().unwrap_or_default();
            let words = quoted(plain);
            if line.starts_with("{ crate = ") {
                let mut words = words.into_iter();
                let Some(name) = words.next() else { continue };
                if section == "licenses" {
                    let licences = words.map(|one| (name.clone(), one));
                    decisions.exceptions.extend(licences);
                } else if section == "bans" {
                    decisions.banned.push(name);
                }
            } else if is_allow {
                decisions.allowed.extend(words);
            }
            if is_allow && line.ends_with(']') {
                is_allow = false;
            }
        }
        decisions
    }

    fn check(&self, package: &Package) -> Vec<String> {
        let Package { name, licence, from } = package;
        let mut broken = vec![];
        if self.banned.contains(name) {
            broken.push(format!("{name} is banned by deny.toml"));
        }
        if let Some(from) = from {
            broken.push(format!("{name} comes from {from}, not a registry"));
        }
        let is_allowed = |one: &str| {
            // `MPL-2.0+` is satisfied by MPL-2.0.
            let one = one.trim_end_matches('+');
            self.allowed.iter().any(|allowed| allowed == one)
                || self
                    .exceptions
                    .iter()
                    .any(|(of, allowed)| of == name && allowed == one)
        };
        if !self.clarified.contains(name) && !satisfied(licence, &is_allowed) {
            broken.push(format!("{name}: licence {licence:?} is not allowed"));
        }
        broken
    }
}

fn quoted(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied by what is allowed. `/`, the
/// old way of writing `OR`, is read too.
fn satisfied(expression: &str, is_allowed: &impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ");
    let spaced = spaced.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let found = any(&words, &mut at, is_allowed);
    found && at == words.len()
}

fn any(words: &[&str], at: &mut usize, ok: &impl Fn(&str) -> bool) -> bool {
    let mut found = all(words, at, ok);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        found |= all(words, at, ok);
    }
    found
}

fn all(words: &[&str], at: &mut usize, ok: &impl Fn(&str) -> bool) -> bool {
    let mut found = one(words, at, ok);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        found &= one(words, at, ok);
    }
    found
}

fn one(words: &[&str], at: &mut usize, ok: &impl Fn(&str) -> bool) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let found = any(words, at, ok);
        let is_closed = words.get(*at) == Some(&")");
        *at += 1;
        return found && is_closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return ok(&format!("{word} WITH {exception}"));
    }
    ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        let ok = |one: &str| {
            ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"].contains(&one)
        };
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-3.0) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(satisfied(good, &ok), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT MIT"] {
            assert!(!satisfied(bad, &ok), "{bad}");
        }
    }

    #[test]
    fn decisions_are_read() {
        let decisions = Decisions::parse(
            "[licenses]\nallow = [\n  \"MIT\", \"ISC\", # \"GPL-3.0\"\n]\n\
             exceptions = [\n  { crate = \"imbl\", allow = [\"MPL-2.0\"] },\n]\n\
             [bans]\ndeny = [\n  { crate = \"ring\", reason = \"x\" },\n]\n",
        );
        assert_eq!(decisions.allowed, ["MIT", "ISC"]);
        assert_eq!(decisions.banned, ["ring"]);
        let broken = |line: &str| decisions.check(&package(line).unwrap());
        assert!(broken("imbl v7.0.0|MPL-2.0+").is_empty());
        assert!(broken("serde_derive v1.0.0 (proc-macro)|MIT").is_empty());
        assert!(!broken("other v7.0.0|MPL-2.0").is_empty());
        assert!(!broken("ring v1.0.0|MIT").is_empty());
        assert!(!broken("forked v1.0.0 (git+somewhere)|MIT").is_empty());
    }
}
