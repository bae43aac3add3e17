//! Where time and ids come from: traits only.
//!
//! The binary brings the real ones, tests and the simulator bring their own.
//! Below this line nobody may ask the machine what time it is.

use minato_wire::Timestamp;

/// The time of day.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// A source of identifiers and seeds.
pub trait Ids: Send + Sync {
    /// A fresh random (version 4) UUID, as its 128 bits.
    fn uuid(&self) -> u128;

    /// A fresh seed for a planner that has to break ties at random.
    fn seed(&self) -> u64 {
        // The low half of a version 4 UUID has 62 random bits.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "half of a UUID is all a seed needs"
        )]
        let low = self.uuid() as u64;
        low
    }
}

impl<T: Clock + ?Sized> Clock for std::sync::Arc<T> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

impl<T: Ids + ?Sized> Ids for std::sync::Arc<T> {
    fn uuid(&self) -> u128 {
        (**self).uuid()
    }

    fn seed(&self) -> u64 {
        (**self).seed()
    }
}
