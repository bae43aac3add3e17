//! Sealing of what must not lie on a disk in clear: secrets and parameters.
//!
//! Each value has a key of its own, drawn for it, and that key is wrapped by
//! the operator's: the journal and its checkpoints hold both, and neither is
//! of use without the operator's key. AES-256-GCM for both, with the place of
//! the value as associated data, so that a value moved elsewhere does not
//! open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

/// Bytes of a key.
pub const SEAL_KEY_BYTES: usize = 32;
/// Bytes of a nonce (NIST SP 800-38D, 5.2.1.1).
const NONCE_BYTES: usize = 12;

/// A value could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The library refused, for want of memory or randomness.
    #[error("the value could not be sealed")]
    Seal,
    /// It was sealed with another operator's key.
    #[error("the value was sealed with key {sealed}, and this is key {given}")]
    OtherKey {
        /// The key it was sealed with.
        sealed: String,
        /// The key there is.
        given: String,
    },
    /// It is damaged, or not from this place.
    #[error("the sealed value is damaged")]
    Damaged,
}

/// The operator's key.
#[derive(Clone)]
pub struct SealKey {
    bytes: [u8; SEAL_KEY_BYTES],
    /// Says which key it is and nothing of it.
    id: String,
}

impl fmt::Debug for SealKey {
    // Never prints the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A value as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The [`SealKey`]'s id.
    key: String,
    /// The value's own key, wrapped: nonce, then ciphertext with its tag.
    wrapped: minato_wire::Blob,
    /// The value, likewise.
    text: minato_wire::Blob,
}

impl SealKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; SEAL_KEY_BYTES]) -> SealKey {
        let hash = digest(&SHA256, &bytes);
        let id = hash.as_ref().iter().take(4);
        let id = id.map(|byte| format!("{byte:02x}")).collect();
        SealKey { bytes, id }
    }

    /// A new key.
    pub fn generate() -> Result<SealKey, SealError> {
        draw().map(SealKey::new)
    }

    /// Says which key it is, and nothing of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bytes, to be kept in a safe place.
    pub fn bytes(&self) -> &[u8; SEAL_KEY_BYTES] {
        &self.bytes
    }

    /// Seals a value for a place.
    pub(crate) fn seal(
        &self,
        place: &str,
        value: &[u8],
    ) -> Result<Sealed, SealError> {
        let own = draw()?;
        Ok(Sealed {
            key: self.id.clone(),
            wrapped: close(&self.bytes, place, &own)?,
            text: close(&own, place, value)?,
        })
    }

    /// Opens a value that was sealed for this place.
    pub(crate) fn open(
        &self,
        place: &str,
        sealed: &Sealed,
    ) -> Result<Vec<u8>, SealError> {
        if sealed.key != self.id {
            let (sealed, given) = (sealed.key.clone(), self.id.clone());
            return Err(SealError::OtherKey { sealed, given });
        }
        let own = open(&self.bytes, place, &sealed.wrapped.0)?;
        let own = own.try_into().map_err(|_| SealError::Damaged)?;
        open(&own, place, &sealed.text.0)
    }
}

impl Sealed {
    /// What callers see who ask for the value as it is kept.
    pub(crate) fn ciphertext(&self) -> minato_wire::Blob {
        minato_wire::Blob([&self.wrapped.0[..], &self.text.0].concat())
    }
}

fn draw() -> Result<[u8; SEAL_KEY_BYTES], SealError> {
    let mut bytes = [0; SEAL_KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| SealError::Seal)?;
    Ok(bytes)
}

fn close(
    key: &[u8; SEAL_KEY_BYTES],
    place: &str,
    value: &[u8],
) -> Result<minato_wire::Blob, SealError> {
    let mut text = value.to_vec();
    let nonce = RandomizedNonceKey::new(&AES_256_GCM, key)
        .and_then(|key| {
            key.seal_in_place_append_tag(Aad::from(place), &mut text)
        })
        .map_err(|_| SealError::Seal)?;
    Ok(minato_wire::Blob([&nonce.as_ref()[..], &text].concat()))
}

fn open(
    key: &[u8; SEAL_KEY_BYTES],
    place: &str,
    closed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let damaged = |_| SealError::Damaged;
    let (nonce, text) =
        closed.split_at_checked(NONCE_BYTES).ok_or(SealError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(damaged)?;
    let mut text = text.to_vec();
    let length = RandomizedNonceKey::new(&AES_256_GCM, key)
        .and_then(|key| key.open_in_place(nonce, Aad::from(place), &mut text))
        .map_err(damaged)?
        .len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens(value in any::<Vec<u8>>(), place in ".*") {
            let key = SealKey::generate().unwrap();
            let sealed = key.seal(&place, &value).unwrap();
            prop_assert_eq!(key.open(&place, &sealed).unwrap(), value);
        }

        #[test]
        fn a_changed_byte_opens_nothing(at in 0_usize..200, flip in 1_u8..) {
            let key = SealKey::generate().unwrap();
            let mut sealed = key.seal("here", b"a secret value").unwrap();
            let wrapped = sealed.wrapped.0.len();
            let all = wrapped + sealed.text.0.len();
            let at = at % all;
            match at.checked_sub(wrapped) {
                None => sealed.wrapped.0[at] ^= flip,
                Some(at) => sealed.text.0[at] ^= flip,
            }
            prop_assert!(key.open("here", &sealed).is_err());
        }
    }

    #[test]
    fn neither_another_place_nor_another_key_opens_it() {
        let key = SealKey::new([7; SEAL_KEY_BYTES]);
        let sealed = key.seal("here", b"value").unwrap();
        assert!(matches!(key.open("there", &sealed), Err(SealError::Damaged)));
        let other = SealKey::new([8; SEAL_KEY_BYTES]);
        let refused = other.open("here", &sealed);
        assert!(matches!(refused, Err(SealError::OtherKey { .. })));
    }

    #[test]
    fn the_same_value_never_looks_the_same_and_never_shows() {
        let key = SealKey::new([7; SEAL_KEY_BYTES]);
        let [a, b] = [0; 2].map(|_| key.seal("here", b"in clear").unwrap());
        assert_ne!(a, b);
        let shown =
            serde_json::to_string(&a).unwrap() + &format!("{a:?}{key:?}");
        assert!(!shown.contains("in clear") && !shown.contains("[7, 7"));
    }
}
