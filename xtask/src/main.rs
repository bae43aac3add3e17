//! `cargo xtask`: this workspace's generators and checks.

mod codegen;
mod floors;
mod licences;
mod tidy;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  codegen [--check]  write crates/wire's generated modules from the botocore
                     models; --check only compares (drift fails)
  licences           licences, banned crates and sources, as deny.toml says
  floors             no crate uses a floor above its own
  sim [--seeds N] [--from S]
                     plays seeds in the simulator; a failure says how to
                     play it again
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
        ["sim", options @ ..] => sim(root, options),
        _ => bail!("{USAGE}"),
    }
}

fn sim(root: &Path, options: &[&str]) -> Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "-p", "minato-sim", "--"])
        .args(options)
        .current_dir(root)
        .status()
        .context("run minato-sim")?;
    if !status.success() {
        bail!("the simulator failed");
    }
    Ok(())
}
