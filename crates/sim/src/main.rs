//! `minato-sim [--seeds N] [--from S]`: plays seeds, one after the other.
//! `minato-sim fleet [HOSTS TASKS SERVICES]`: measures a large fleet.

use std::process::ExitCode;

use minato_sim::fleet::{Size, measure};

const USAGE: &str = "usage: minato-sim [--seeds N] [--from S]\n       \
                     minato-sim fleet [HOSTS TASKS SERVICES]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "fleet") {
        return fleet(&words[1..]);
    }
    let Some((seeds, from)) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let (mut failed, mut commits, mut kills) = (0_u64, 0, 0);
    for seed in from..from.saturating_add(seeds) {
        match minato_sim::run(seed) {
            Ok(outcome) => {
                commits += outcome.commits;
                kills += outcome.kills;
            }
            Err(why) => {
                failed += 1;
                println!("seed {seed}: {why}");
                println!("  replay: cargo xtask sim --seeds 1 --from {seed}");
            }
        }
    }
    println!(
        "{seeds} seeds from {from}: {failed} failed; {commits} commits \
         checked, {kills} kills"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fleet(words: &[String]) -> ExitCode {
    let numbers: Option<Vec<u32>> =
        words.iter().map(|word| word.parse().ok()).collect();
    let size = match numbers.as_deref() {
        Some([]) => Size { hosts: 5_000, tasks: 100_000, services: 20 },
        Some([hosts, tasks, services]) if *services > 0 => {
            Size { hosts: *hosts, tasks: *tasks, services: *services }
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(size) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<(u64, u64)> {
    let (mut seeds, mut from) = (20, 0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?.parse().ok()?;
        match word.as_str() {
            "--seeds" => seeds = value,
            "--from" => from = value,
            _ => return None,
        }
    }
    Some((seeds, from))
}
