//! `cargo xtask tidy`: what no lint looks at.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lines a hand-written source file may have before it must be split; the
/// style says 500, this is where CI stops us.
const LINES_MAX: usize = 700;
/// Words that mean something was left unfinished.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "FIXME"];

pub(crate) fn run(root: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut broken = vec![];
    for name in names.split('\0').filter(|name| name.ends_with(".rs")) {
        let Ok(text) = std::fs::read_to_string(root.join(name)) else {
            continue; // removed in the work tree, not yet in the index
        };
        broken.extend(faults(name, &text));
    }
    if broken.is_empty() {
        println!("tidy: nothing to say");
        return Ok(());
    }
    bail!("{}", broken.join("\n"))
}

fn faults(name: &str, text: &str) -> Vec<String> {
    let generated = text.starts_with(crate::codegen::GENERATED_MARK);
    let itself = name == "xtask/src/tidy.rs";
    let mut faults = vec![];
    if !generated && text.lines().count() > LINES_MAX {
        faults.push(format!("{name}: over {LINES_MAX} lines; split it"));
    }
    for (number, line) in text.lines().enumerate() {
        if !itself && UNFINISHED.iter().any(|word| line.contains(word)) {
            faults.push(format!("{name}:{}: unfinished", number + 1));
        }
        if line.ends_with(' ') || line.contains('\t') && !line.contains('"') {
            faults.push(format!("{name}:{}: stray white space", number + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_unfinished_files_are_named() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(faults("a.rs", &long).len(), 1);
        assert_eq!(faults("a.rs", "fn f() { todo!() }").len(), 1);
        assert!(faults("a.rs", "fn f() {}\n").is_empty());
    }
}
