//! The real control plane and simulated hosts in one process, on virtual
//! time, from one seed.
//!
//! Nothing here decides what a scheduler decides: hosts speak ACS and report
//! by signed `Submit*` calls, and the checker asks only what must hold
//! whatever was decided.

mod chance;
mod check;
mod disk;
pub mod fleet;
mod host;
mod play;
mod promise;
pub mod rehearse;
mod world;

/// What a clean run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of all commits in their order: equal for equal runs.
    pub trace: u64,
    /// How many commits were checked.
    pub commits: u64,
    /// How often the control plane was killed.
    pub kills: u64,
}

/// Plays the world of a seed to its end; the error says what did not hold.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(play::play(seed))
}
