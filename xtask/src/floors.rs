//! `cargo xtask floors`: a crate may use only the floors below its own.
//!
//! The table is DESIGN's; the facts come from `cargo metadata`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crates by floor. Test-only edges (dev-dependencies) are free.
const FLOORS: &[(&str, u8)] = &[
    ("minato-wire", 0),
    ("minato-core", 1),
    ("minato-store", 2),
    ("minato-client", 2),
    ("minato-control", 3),
    ("minato-engine", 3),
    ("minato-agent", 4),
    ("minato-gateway", 4),
    ("minato-sim", 5),
    ("minato", 6),
    ("minato-e2e", 7),
    ("xtask", 7),
];

/// Edges that the floors would allow and the design does not.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("minato-client", "minato-store", "a client knows only the wire"),
    ("minato-control", "minato-client", "the control plane calls nobody"),
    ("minato-engine", "minato-store", "the engine knows no control plane"),
    ("minato-engine", "minato-wire", "the engine knows nothing of ECS"),
    ("minato-agent", "minato-control", "they meet only in `wire`"),
    ("minato-agent", "minato-store", "the agent keeps its own state file"),
    ("minato-gateway", "minato-store", "requests go through `control`"),
    ("minato-store", "minato-wire", "the store knows nothing of AWS"),
];

/// Crates that `wire` and `core` must not link: no runtime, no I/O.
const PURE_MUST_NOT: &[&str] = &["tokio", "hyper", "redb", "rand", "nix"];

pub(crate) fn run(root: &Path) -> Result<()> {
    let broken = check(&edges(root)?)?;
    if broken.is_empty() {
        println!("floors: every edge goes down");
        return Ok(());
    }
    bail!("{}", broken.join("\n"))
}

/// Normal and build dependencies by package, of workspace members.
fn edges(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut edges = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().context("package name")?;
        let uses = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .map(str::to_owned)
            .collect();
        edges.insert(name.to_owned(), uses);
    }
    Ok(edges)
}

fn check(edges: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>> {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut broken = vec![];
    for (package, uses) in edges {
        let floor = *floors
            .get(package.as_str())
            .with_context(|| format!("{package} has no floor: add it"))?;
        for used in uses {
            if let Some(&below) = floors.get(used.as_str())
                && below >= floor
            {
                broken.push(format!(
                    "{package} (floor {floor}) uses {used} (floor {below})"
                ));
            }
            for (from, to, why) in FORBIDDEN {
                if package == from && used == to {
                    broken.push(format!("{package} uses {used}: {why}"));
                }
            }
            if floor <= 1 && PURE_MUST_NOT.contains(&used.as_str()) {
                broken.push(format!("{package} is pure and uses {used}"));
            }
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(from.to_owned(), vec![to.to_owned()])])
    }

    #[test]
    fn edges_go_down_only() {
        assert!(check(&edge("minato-core", "minato-wire")).unwrap().is_empty());
        for (from, to) in [
            ("minato-wire", "minato-core"),
            ("minato-agent", "minato-control"),
            ("minato-gateway", "minato-agent"),
            ("minato-core", "tokio"),
        ] {
            assert_eq!(check(&edge(from, to)).unwrap().len(), 1, "{from} {to}");
        }
    }

    #[test]
    fn a_crate_without_a_floor_is_an_error() {
        assert!(check(&edge("minato-new", "serde")).is_err());
    }
}
