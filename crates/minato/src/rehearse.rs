//! `minato rehearse`: a plan, played in the simulator.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context, Result, bail};
use minato_sim::rehearse::{Plan, PlanError, RehearseError, rehearse};

use crate::args::{RehearseArgs, USAGE};
use crate::out::say;

/// The largest plan, in bytes.
const PLAN_MAX: usize = 1 << 20;

/// Reads a file, or a pipe, and no more of it than shows that it is too large.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = vec![];
    let most = PLAN_MAX as u64 + 1;
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > PLAN_MAX {
        // Perhaps cut within a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(crate) fn run(args: &RehearseArgs) -> Result<ExitCode> {
    let path = args.plan.display();
    let text =
        read(&args.plan).with_context(|| format!("could not read {path}"))?;
    if text.len() > PLAN_MAX {
        bail!("{path} is too large to be a plan");
    }
    let wrong = |error: &PlanError| {
        eprintln!("{}", error.show(&path.to_string(), &text));
        Ok(ExitCode::from(USAGE))
    };
    let plan = match Plan::parse(&text) {
        Ok(plan) => plan,
        Err(error) => return wrong(&error),
    };
    let report = match rehearse(&plan) {
        Ok(report) => report,
        Err(RehearseError::Plan(error)) => return wrong(&error),
        Err(error @ RehearseError::Simulator(_)) => return Err(error.into()),
    };
    say!("{}", report.text().trim_end())?;
    if let Some(file) = &args.svg {
        fs::write(file, report.svg())
            .with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(if report.is_as_expected() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
