//! `cargo xtask`: this workspace's generators and checks.

mod codegen;
mod floors;
mod licences;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  codegen [--check]  write crates/wire's generated modules from the botocore
                     models; --check only compares (drift fails)
  licences           licences, banned crates and sources, as deny.toml says
  floors             no crate uses a floor above its own
  tidy               file lengths, licences of our own sources, stray files";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("."));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["codegen"] => codegen::run(root, codegen::Mode::Write),
        ["codegen", "--check"] => codegen::run(root, codegen::Mode::Check),
        ["licences"] => licences::run(root),
        ["floors"] => floors::run(root),
        ["tidy"] => tidy::run(root),
        _ => bail!("{USAGE}"),
    }
}
