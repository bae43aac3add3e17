//! The control plane: what the AWS APIs mean, and who makes it so.

pub mod call;

pub use call::{Backend, Call, Caller, Credential, Request, Verified};
