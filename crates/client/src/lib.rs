//! A signed client of the AWS APIs over any tower service.
//!
//! The command line speaks HTTP with it ([`HttpTransport`]); the agent hands
//! it the gateway itself, so its calls never leave memory, but are signed and
//! checked like everybody's. Retrying is left to the callers: an agent that
//! submits a state change waits longer than a person at a prompt.

mod client;
mod error;

#[cfg(test)]
mod tests;
mod transport;

pub use client::{ApiClient, Credentials, Endpoint};
pub use error::{BoxError, CallError, NotAnEndpoint};
pub use transport::HttpTransport;
