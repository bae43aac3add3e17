//! Containers: life, logs, isolation, recovery.

mod life;
mod recover;
mod support;
