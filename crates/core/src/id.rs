//! Typed identifiers: an id of a task does not compile where one of a
//! container instance is wanted.
//!
//! An id is a UUID. ECS writes it as 32 hexadecimal digits in the ARNs of
//! tasks and container instances, and with dashes in those of containers and
//! attachments; both forms are read.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an id is of.
pub trait Kind {
    /// The noun of messages, such as `task`.
    const NOUN: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $alias:ident $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind {
            const NOUN: &'static str = $noun;
        }
        #[doc = concat!("The id of a ", $noun, ".")]
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// A task.
    TaskKind TaskId "task";
    /// A container of a task.
    ContainerKind ContainerId "container";
    /// A host's registration in a cluster.
    ContainerInstanceKind ContainerInstanceId "container instance";
    /// A network interface or volume attached to a task or an instance.
    AttachmentKind AttachmentId "attachment";
    /// A service, told from earlier ones of its name.
    ServiceKind ServiceId "service";
    /// What a service tells of itself.
    ServiceEventKind ServiceEventId "service event";
    /// A message of an agent's session.
    MessageKind MessageId "message";
}

/// A UUID that knows what it names.
pub struct Id<K: Kind>(u128, PhantomData<fn() -> K>);

impl<K: Kind> Id<K> {
    /// The id with these 128 bits.
    pub const fn new(uuid: u128) -> Id<K> {
        Id(uuid, PhantomData)
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The form with dashes, as in the ARN of a container.
    pub fn dashed(self) -> String {
        uuid::Uuid::from_u128(self.0).hyphenated().to_string()
    }
}

/// A UUID with its dashes, where AWS's ids are nothing more.
pub fn hyphenated(uuid: u128) -> String {
    uuid::Uuid::from_u128(uuid).hyphenated().to_string()
}

/// Text that is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a {noun}: {text}")]
pub struct ParseIdError {
    /// What was expected.
    pub noun: &'static str,
    /// What was given.
    pub text: String,
}

impl<K: Kind> FromStr for Id<K> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Id<K>, ParseIdError> {
        let wrong = || ParseIdError { noun: K::NOUN, text: text.to_owned() };
        // `Uuid` also reads braces and URNs, which ECS does not.
        if text.len() != 32 && text.len() != 36 {
            return Err(wrong());
        }
        let uuid = uuid::Uuid::try_parse(text).map_err(|_| wrong())?;
        Ok(Id::new(uuid.as_u128()))
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", K::NOUN)
    }
}

impl<K: Kind> Clone for Id<K> {
    fn clone(&self) -> Id<K> {
        *self
    }
}

impl<K: Kind> Copy for Id<K> {}

impl<K: Kind> PartialEq for Id<K> {
    fn eq(&self, other: &Id<K>) -> bool {
        self.0 == other.0
    }
}

impl<K: Kind> Eq for Id<K> {}

impl<K: Kind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Id<K>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Kind> Ord for Id<K> {
    fn cmp(&self, other: &Id<K>) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<K: Kind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Id<K>, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_writes_the_short_one() {
        let plain: TaskId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let dashed: TaskId =
            "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(plain, dashed);
        assert_eq!(plain.to_string(), "0123456789abcdef0123456789abcdef");
        assert_eq!(plain.dashed(), "01234567-89ab-cdef-0123-456789abcdef");
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            "abc",
            "{01234567-89ab-cdef-0123-456789abcde}",
            "0123456789abcdef0123456789abcdeg",
            "urn:uuid:0123456789abcdef0123456789a",
        ] {
            assert!(text.parse::<ContainerInstanceId>().is_err(), "{text}");
        }
    }

    #[test]
    fn travels_as_text() {
        let id = ContainerId::new(7);
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, "\"00000000000000000000000000000007\"");
        let back: ContainerId = serde_json::from_str(&text).unwrap();
        assert_eq!(back, id);
    }
}
