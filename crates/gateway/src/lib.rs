//! The door: listeners, limits, signatures, protocols.
//!
//! A [`Gateway`] turns an HTTP request into a verified call and its answer
//! back into HTTP. It is a tower service, so the agent calls it in memory;
//! a [`Server`] puts it on a socket, where strangers may reach it, and holds
//! every client to [`Limits`].

mod connections;
mod data_channel;
mod event_body;
mod gateway;
mod limits;
mod patient;
mod request_id;
mod server;
#[cfg(test)]
mod tests;

pub use gateway::{Gateway, HEALTH_PATH, Trust};
pub use limits::Limits;
pub use server::{BindError, Server};
