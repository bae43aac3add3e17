//! Ordered composite keys.
//!
//! A key is a list of parts. Its bytes sort as the list of parts does: first
//! part first, a shorter part before a longer one that begins with it. Each
//! part ends in `00 01`, and a zero byte inside a part is written `00 02`, so
//! that the key of the first k parts is a byte prefix of exactly those keys
//! that begin with the same k parts: a scan by prefix never cuts a part in
//! two ("web" does not find "web-2").

use std::{borrow::Cow, fmt, ops::Bound, sync::Arc};

const ESCAPE: u8 = 0x00;
const END_OF_PART: u8 = 0x01;
const ZERO_BYTE: u8 = 0x02;
/// Between an index key and the key of the row it leads to. Sorts before
/// anything a further part could begin with.
const END_OF_INDEX_KEY: [u8; 2] = [ESCAPE, 0x00];

/// An ordered composite key; also a prefix of keys, for scans.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Longest key a row may have, in encoded bytes. ARNs end at 2048
    /// characters; twice that leaves room for the parts around one.
    pub const MAX_BYTES: usize = 4096;

    /// The key of these parts, in this order.
    pub fn of<I>(parts: I) -> Key
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut bytes = Vec::new();
        for part in parts {
            push_part(&mut bytes, part.as_ref());
        }
        Key(bytes.into())
    }

    /// The key without parts: the prefix of every key.
    pub fn root() -> Key {
        Key(Arc::from([]))
    }

    /// This key with one more part.
    #[must_use]
    pub fn with(&self, part: impl AsRef<[u8]>) -> Key {
        let mut bytes = self.0.to_vec();
        push_part(&mut bytes, part.as_ref());
        Key(bytes.into())
    }

    /// This key with a number as one more part; numbers sort as numbers.
    #[must_use]
    pub fn with_u64(&self, number: u64) -> Key {
        self.with(number.to_be_bytes())
    }

    /// Whether this key begins with all the parts of `prefix`.
    pub fn starts_with(&self, prefix: &Key) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// Whether this key has no parts.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts, decoded.
    pub fn parts(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        Parts { rest: &self.0 }
    }

    /// The encoded bytes, as kept in the journal.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads bytes that [`Key::as_bytes`] gave; `None` if they are not a key.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = &rest[part_length(rest)?..];
        }
        Some(Key(bytes.into()))
    }

    /// The range of keys that begin with this one.
    pub(crate) fn range(&self) -> (Bound<Key>, Bound<Key>) {
        (Bound::Included(self.clone()), self.end_of_range())
    }

    /// The part of [`Key::range`] that comes after `after`.
    pub(crate) fn range_after(&self, after: &Key) -> (Bound<Key>, Bound<Key>) {
        if after < self {
            return self.range();
        }
        let end = self.end_of_range();
        if let Bound::Excluded(end) = &end
            && after >= end
        {
            // Nothing: maps refuse ranges that end before they start.
            return (
                Bound::Included(self.clone()),
                Bound::Excluded(self.clone()),
            );
        }
        (Bound::Excluded(after.clone()), end)
    }

    /// Where [`Key::range`] ends.
    pub(crate) fn end_of_range(&self) -> Bound<Key> {
        let mut end = self.0.to_vec();
        match end.last_mut() {
            None => Bound::Unbounded,
            // Every key ends in END_OF_PART or END_OF_INDEX_KEY, so one more
            // is the first key that does not begin with this one.
            Some(last) => {
                *last += 1;
                Bound::Excluded(Key(end.into()))
            }
        }
    }

    /// The key that an index entry was found by.
    pub(crate) fn of_index_entry(&self) -> Key {
        let mut end = 0;
        while let Some(length) = part_length(&self.0[end..]) {
            end += length;
        }
        Key(self.0[..end].into())
    }

    /// The key of an index entry: sorts by index key, then by row key.
    pub(crate) fn index_entry(&self, row: &Key) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + row.0.len() + 2);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&END_OF_INDEX_KEY);
        bytes.extend_from_slice(&row.0);
        Key(bytes.into())
    }
}

fn push_part(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.reserve(part.len() + 2);
    for &byte in part {
        bytes.push(byte);
        if byte == ESCAPE {
            bytes.push(ZERO_BYTE);
        }
    }
    bytes.extend_from_slice(&[ESCAPE, END_OF_PART]);
}

/// Encoded length of the first part, its end mark included.
fn part_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (&ESCAPE, Some(&END_OF_PART)) => return Some(at + 2),
            (&ESCAPE, Some(&ZERO_BYTE)) => at += 2,
            (&ESCAPE, _) => return None,
            _ => at += 1,
        }
    }
}

struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = part_length(self.rest)?;
        let (part, rest) = self.rest.split_at(length);
        self.rest = rest;
        let part = &part[..length - 2];
        if !part.contains(&ESCAPE) {
            return Some(Cow::Borrowed(part));
        }
        let mut decoded = Vec::with_capacity(part.len());
        let mut after_escape = false;
        for &byte in part {
            if !after_escape {
                decoded.push(byte);
            }
            after_escape = byte == ESCAPE && !after_escape;
        }
        Some(Cow::Owned(decoded))
    }
}

impl From<&str> for Key {
    fn from(part: &str) -> Key {
        Key::of([part])
    }
}

impl From<String> for Key {
    fn from(part: String) -> Key {
        Key::of([part])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parts joined by `/`, for people; not to be read back.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            write!(f, "{}", part.escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        // Few distinct bytes, so that prefixes and escapes do happen.
        let byte = prop_oneof![
            Just(0u8),
            Just(1),
            Just(2),
            Just(b'a'),
            Just(b'b'),
            Just(255)
        ];
        prop::collection::vec(prop::collection::vec(byte, 0..4), 0..4)
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_parts_do(a in parts(), b in parts()) {
            prop_assert_eq!(Key::of(&a).cmp(&Key::of(&b)), a.cmp(&b));
        }

        #[test]
        fn parts_and_bytes_come_back(a in parts()) {
            let key = Key::of(&a);
            let back: Vec<Vec<u8>> =
                key.parts().map(Cow::into_owned).collect();
            prop_assert_eq!(&back, &a);
            prop_assert_eq!(Key::from_bytes(key.as_bytes()), Some(key));
        }

        #[test]
        fn a_prefix_is_whole_parts(a in parts(), b in parts()) {
            let (key, prefix) = (Key::of(&a), Key::of(&b));
            prop_assert_eq!(key.starts_with(&prefix), a.starts_with(&b));
            let range = prefix.range();
            prop_assert_eq!(
                std::ops::RangeBounds::contains(&range, &key),
                a.starts_with(&b)
            );
        }

        #[test]
        fn an_index_entry_is_found_by_prefixes_of_its_index_key_only(
            a in parts(), row in parts(), prefix in parts(),
        ) {
            let entry = Key::of(&a).index_entry(&Key::of(&row));
            prop_assert_eq!(
                entry.starts_with(&Key::of(&prefix)),
                a.starts_with(&prefix)
            );
        }

        #[test]
        fn from_bytes_never_panics(bytes: Vec<u8>) {
            if let Some(key) = Key::from_bytes(&bytes) {
                prop_assert_eq!(Key::of(key.parts()), key);
            }
        }
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let key = Key::from("log");
        assert!(key.with_u64(9) < key.with_u64(10));
        assert!(key.with_u64(255) < key.with_u64(256));
    }

    #[test]
    fn a_range_after_its_end_is_empty() {
        let prefix = Key::from("b");
        let map: imbl::OrdMap<Key, ()> =
            [Key::from("b").with("1")].into_iter().map(|k| (k, ())).collect();
        let count = |after: &Key| map.range(prefix.range_after(after)).count();
        assert_eq!(count(&Key::from("a")), 1);
        assert_eq!(count(&Key::from("b").with("1")), 0);
        assert_eq!(count(&Key::from("c")), 0);
    }

    #[test]
    fn display_is_for_people() {
        let key = Key::of(["123456789012", "eu-west-1", "default"]);
        assert_eq!(key.to_string(), "123456789012/eu-west-1/default");
    }
}
