//! Containers: life, logs, isolation, recovery.

mod attacks;
mod calls;
mod isolation;
mod life;
mod recover;
mod run;
mod support;
mod terminal;
