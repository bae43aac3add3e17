//! Why a request is not who it says it is, in AWS's codes and words.

use crate::ApiError;
use crate::model::Protocol;

/// Why a signature is refused; the display is the text AWS answers with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The request carries no signature at all.
    #[error("Missing Authentication Token")]
    Missing,
    /// The signature lacks a part or has one that cannot be read.
    #[error("{0}")]
    Incomplete(String),
    /// Nobody has this access key, or not with this session token.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session token is no longer valid.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// The request is too old, or from the future.
    #[error("{0}")]
    Skewed(String),
    /// The credential is for another service, day or region.
    #[error("{0}")]
    Scope(String),
    /// A header that must be signed is not.
    #[error("'{0}' must be a 'SignedHeader' in the AWS Authorization.")]
    UnsignedHeader(String),
    /// The body is not the one whose hash is signed.
    #[error(
        "The provided 'x-amz-content-sha256' header does not match what was \
         computed."
    )]
    PayloadHash,
    /// The signature is another one than ours.
    #[error(
        "The request signature we calculated does not match the signature \
         you provided. Check your AWS Secret Access Key and signing method. \
         Consult the service documentation for details."
    )]
    Mismatch,
}

impl AuthError {
    /// The answer in the codes of a protocol. JSON services say it with 400
    /// and `...Exception`, query services with 403, EC2 has codes of its own.
    pub fn to_api_error(&self, protocol: Protocol) -> ApiError {
        let (code, status) = match protocol {
            Protocol::AwsJson(_) => (self.json_code(), 400),
            Protocol::Query => (self.query_code(), 403),
            Protocol::Ec2Query => self.ec2_code(),
        };
        let message = match (protocol, self) {
            (Protocol::Query, AuthError::Missing) => {
                "Request is missing Authentication Token".to_owned()
            }
            (Protocol::Ec2Query, AuthError::Missing) => {
                "Request must contain the access key ID.".to_owned()
            }
            (
                Protocol::Ec2Query,
                AuthError::UnknownKey | AuthError::Mismatch,
            ) => "AWS was not able to validate the provided access credentials"
                .to_owned(),
            (
                Protocol::Ec2Query,
                AuthError::ExpiredToken | AuthError::Skewed(_),
            ) => "Request has expired.".to_owned(),
            _ => self.to_string(),
        };
        ApiError::new(code, status, message)
    }

    fn json_code(&self) -> &'static str {
        match self {
            AuthError::Missing => "MissingAuthenticationTokenException",
            AuthError::Incomplete(_) => "IncompleteSignatureException",
            AuthError::UnknownKey => "UnrecognizedClientException",
            AuthError::ExpiredToken => "ExpiredTokenException",
            AuthError::Skewed(_)
            | AuthError::Scope(_)
            | AuthError::UnsignedHeader(_)
            | AuthError::PayloadHash
            | AuthError::Mismatch => "InvalidSignatureException",
        }
    }

    fn query_code(&self) -> &'static str {
        match self {
            AuthError::Missing => "MissingAuthenticationToken",
            AuthError::Incomplete(_) => "IncompleteSignature",
            AuthError::UnknownKey => "InvalidClientTokenId",
            AuthError::ExpiredToken => "ExpiredToken",
            AuthError::Skewed(_)
            | AuthError::Scope(_)
            | AuthError::UnsignedHeader(_)
            | AuthError::PayloadHash
            | AuthError::Mismatch => "SignatureDoesNotMatch",
        }
    }

    fn ec2_code(&self) -> (&'static str, u16) {
        match self {
            AuthError::Missing => ("MissingAuthenticationToken", 403),
            AuthError::Incomplete(_) => ("IncompleteSignature", 403),
            AuthError::ExpiredToken | AuthError::Skewed(_) => {
                ("RequestExpired", 400)
            }
            AuthError::UnknownKey | AuthError::Mismatch => ("AuthFailure", 401),
            AuthError::Scope(_)
            | AuthError::UnsignedHeader(_)
            | AuthError::PayloadHash => ("SignatureDoesNotMatch", 403),
        }
    }
}
