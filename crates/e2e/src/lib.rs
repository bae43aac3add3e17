//! Starts the real `minato` binary as a user would, and looks at it with
//! nothing but stock AWS clients and the kernel.
//!
//! A [`Site`] is one Minato in a network namespace and a data directory of
//! its own. [`Site::finish`] takes it down and fails if anything is left; a
//! site that is dropped on the way of a panic is killed process by process,
//! each by the id that the kernel lists for the site's control groups.

mod boto;
mod ending;
mod leftovers;
mod programs;
mod site;

pub use boto::{Boto, CallError};
pub use ending::run_to_end;
pub use leftovers::Traces;
pub use programs::{
    IMAGE, STANDINS, image_archive, make_image, minato_program, repository,
    standin_archives,
};
pub use site::Site;

use std::time::Duration;

/// How often a wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `probe` has an answer; `None` if it has none in time.
pub fn wait_for<T>(
    longest: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = uptime() + longest;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if uptime() > deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Time since the machine started: a clock that nobody sets.
pub fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.0))
}
