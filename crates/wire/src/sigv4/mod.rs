//! AWS Signature Version 4: signing, and verifying what others signed.

mod proof;

pub use proof::Proof;
