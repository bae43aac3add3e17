//! What Amazon ECS decides, as pure functions: statuses, placement, the
//! cluster query language, the languages of log searches, the rules of task definitions and of `RunTask`.
//!
//! Nothing here reads a clock, draws a random number or does I/O. Time, ids
//! and seeds come in with the call, so equal inputs give equal answers.

pub mod capacity;
pub mod command_line;
pub mod env;
pub mod filter_pattern;
pub mod id;
pub mod insights;
pub mod launch_volume;
pub mod name;
pub mod overrides;
pub mod placement;
pub mod query;
pub mod rule;
pub mod run_task;
pub mod service;
pub mod status;
pub mod tags;
pub mod task_definition;
