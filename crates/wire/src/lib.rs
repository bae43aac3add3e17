//! What crosses the wire: shapes, codecs and signatures of the AWS APIs that
//! Minato serves, and the messages between the control plane and its agents.
//!
//! Nothing here reads a clock, a socket or a file. A request becomes a
//! validated document and then a typed shape; an answer goes the other way.

pub mod blob;
pub mod error;
pub mod model;
pub mod text;
pub mod timestamp;

pub use blob::Blob;
pub use error::ApiError;
pub use timestamp::Timestamp;
