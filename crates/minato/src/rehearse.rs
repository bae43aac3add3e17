//! `minato rehearse`: a plan, played in the simulator.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use minato_sim::rehearse::{Plan, PlanError, RehearseError, rehearse};

use crate::args::{RehearseArgs, USAGE};
use crate::out::say;

/// The largest plan that is read.
const PLAN_MAX: u64 = 1 << 20;

pub(crate) fn run(args: &RehearseArgs) -> Result<ExitCode> {
    let path = args.plan.display();
    let size = fs::metadata(&args.plan)
        .with_context(|| format!("could not read {path}"))?
        .len();
    if size > PLAN_MAX {
        bail!("{path} is too large to be a plan");
    }
    let text = fs::read_to_string(&args.plan)
        .with_context(|| format!("could not read {path}"))?;
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
