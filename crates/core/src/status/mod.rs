//! Statuses as state machines.
//!
//! Each status changes in one function, [`step`](TaskStatus::step), that
//! spells out every pair of state and event. There is no `_` arm: a new state
//! or event makes the compiler ask what should happen.

mod cluster;
mod container;
mod container_instance;
mod service;
mod task;

pub use cluster::{ClusterEvent, ClusterStatus};
pub use container::{ContainerEvent, ContainerStatus};
pub use container_instance::{InstanceEvent, InstanceStatus};
pub use service::{
    RolloutEvent, RolloutState, ServiceDeploymentEvent,
    ServiceDeploymentStatus, ServiceEvent, ServiceStatus,
};
pub use task::{DesiredStatus, TaskEvent, TaskStatus};

/// An event that has no meaning in the state it met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {noun} that is {from} cannot take the event {event}")]
pub struct IllegalStep {
    /// What kind of thing has the status.
    pub noun: &'static str,
    /// The status it has.
    pub from: &'static str,
    /// The event that came.
    pub event: &'static str,
}

/// Text that is no status of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} is not the status of a {noun}")]
pub struct ParseStatusError {
    /// What kind of thing was meant.
    pub noun: &'static str,
    /// What was given.
    pub text: String,
}

/// Declares an enum with the names ECS gives its values.
macro_rules! named {
    (
        $(#[$doc:meta])*
        $name:ident is a $noun:literal {
            $($(#[$value_doc:meta])* $value:ident = $text:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$value_doc])* #[serde(rename = $text)] $value,)*
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[$($name::$value,)*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$value => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(
                &self,
                f: &mut std::fmt::Formatter<'_>,
            ) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::status::ParseStatusError;

            fn from_str(text: &str) -> Result<$name, Self::Err> {
                match text {
                    $($text => Ok($name::$value),)*
                    _ => Err($crate::status::ParseStatusError {
                        noun: $noun,
                        text: text.to_owned(),
                    }),
                }
            }
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests;
