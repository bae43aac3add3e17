//! That a request's signature holds, as a value.

use crate::Timestamp;

/// Exists only where a signature was checked, or its check was waived on
/// purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub(super) access_key_id: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) signed_at: Timestamp,
}

impl Proof {
    /// The access key the request was signed with.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The region of the signature's scope.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The service of the signature's scope.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// When the client signed it.
    pub fn signed_at(&self) -> Timestamp {
        self.signed_at
    }
}
