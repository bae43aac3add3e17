//! Containers: life, logs, isolation, recovery.

mod isolation;
mod life;
mod recover;
mod run;
mod support;
