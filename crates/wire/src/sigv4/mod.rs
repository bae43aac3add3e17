//! AWS Signature Version 4: signing, and verifying what others signed.
//!
//! Verifying goes in three steps, because the key has to be looked up in
//! between: [`Unverified::parse`] reads what the request claims, the caller
//! finds the [`Key`] of [`Unverified::access_key_id`], and
//! [`Unverified::verify`] checks everything and gives a [`Proof`].
//!
//! Paths are normalised and encoded twice, as every service but S3 does it;
//! requests to S3 can be signed too, but not verified.

mod canonical;
mod error;
mod keys;
mod parse;
mod proof;
mod sign;
#[cfg(test)]
mod tests;
mod time;
mod verify;

pub use canonical::RequestParts;
pub use error::AuthError;
pub use keys::KeyCache;
pub use parse::Unverified;
pub use proof::Proof;
pub use sign::{
    PayloadHash, PresignError, SignError, Signer, presign, s3_object_path,
    sign, sign_hashed,
};
pub use verify::{Expected, Key};

/// The only algorithm taken.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The last part of a credential scope.
const TERMINATOR: &str = "aws4_request";

/// Stands for the body's hash where a client does not sign the body.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Seven days in seconds, the longest a presigned request may be good for.
const MAX_EXPIRES_SECS: i64 = 604_800;
