//! Signing keys, derived once a day for each credential.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;

use super::TERMINATOR;

/// The most keys kept: credentials times regions in use in one day. Beyond it
/// the cache starts anew, which costs four hashes for each key.
const MAX_KEYS: usize = 4096;

/// Derives the key that signs with `secret` on one day in one scope.
pub(super) fn derive(
    secret: &str,
    date: &str,
    region: &str,
    service: &str,
) -> hmac::Key {
    let start = format!("AWS4{secret}");
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, start.as_bytes());
    for part in [date, region, service, TERMINATOR] {
        let tag = hmac::sign(&key, part.as_bytes());
        key = hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref());
    }
    key
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct KeyId {
    pub(super) secret: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
}

/// Keys of the requests verified lately. Only a request that turned out to be
/// rightly signed leaves its key here, so strangers cannot fill it.
#[derive(Default)]
pub struct KeyCache {
    keys: Mutex<HashMap<KeyId, hmac::Key>>,
}

impl KeyCache {
    /// An empty cache.
    pub fn new() -> KeyCache {
        KeyCache::default()
    }

    /// The key and whether it was there.
    pub(super) fn get(&self, id: &KeyId) -> (hmac::Key, bool) {
        let known = self.lock().get(id).cloned();
        match known {
            Some(key) => (key, true),
            None => {
                let KeyId { secret, date, region, service } = id;
                (derive(secret, date, region, service), false)
            }
        }
    }

    pub(super) fn put(&self, id: KeyId, key: hmac::Key) {
        let mut keys = self.lock();
        if keys.len() >= MAX_KEYS {
            keys.clear();
        }
        keys.insert(id, key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, hmac::Key>> {
        // A panic elsewhere cannot leave a map of keys half changed.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").finish_non_exhaustive()
    }
}
