//! `minato`: Amazon ECS on your own machines, in one binary.
//!
//! This crate composes: it parses the command line, puts control plane,
//! gateway, agent and engine into one process, and talks to a running one.
//! What they decide is decided in their crates.

mod api;
mod args;
mod chaos;
mod doctor;
mod down;
mod env;
mod exec;
mod explain;
mod home;
mod image;
mod logs;
mod machine;
mod out;
mod ps;
mod rehearse;
mod run;
mod stop;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    // Before anything else: the shim must find a process with one thread.
    if words.next().is_some_and(|word| word == "shim") {
        return minato_engine::container::shim_main(words);
    }
    args::run()
}
