//! Temporary credentials.

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// A temporary credential until it expires.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// `ASIA` and 16 more characters.
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

impl std::fmt::Debug for SessionRow {
    // Never prints the secret or the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRow")
            .field("access_key_id", &self.access_key_id)
            .field("arn", &self.arn)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl SessionRow {
    /// Index over the time of expiry.
    pub(crate) const BY_EXPIRY: &'static str = "expiry";

    pub(crate) fn key_of(access_key_id: &str) -> Key {
        Key::of([access_key_id])
    }
}

impl Row for SessionRow {
    const TABLE: &'static str = "sts.session";

    fn key(&self) -> Key {
        SessionRow::key_of(&self.access_key_id)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let at = self.expires_at.as_millis().unsigned_abs();
        vec![(SessionRow::BY_EXPIRY, Key::root().with_u64(at))]
    }
}
