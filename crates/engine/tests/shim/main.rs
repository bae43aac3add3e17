//! A binary that is nothing but a shim, for this crate's tests and benches.

use std::process::ExitCode;

fn main() -> ExitCode {
    minato_engine::container::shim_main(std::env::args_os().skip(1))
}
