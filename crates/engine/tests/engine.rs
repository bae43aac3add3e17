//! Integration tests of the engine, one module for each part.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod container;
mod image;
mod volume;
