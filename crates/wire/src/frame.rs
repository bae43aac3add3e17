//! The framing that ACS and TCS share: one JSON text per message.
//!
//! A frame is `{"type": "<ShapeName>", "message": {...}}`. Members we do not
//! know are ignored and a null member is an absent one, as the upstream agent
//! has it. Absent members are not written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Why a text is not a message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The text is longer than the session allows.
    #[error("frame of {length} bytes; at most {limit} are taken")]
    TooLong {
        /// Bytes received.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The text is not JSON of the form `{"type", "message"}`.
    #[error("not a frame")]
    NotAFrame {
        /// What the JSON parser said.
        source: serde_json::Error,
    },
    /// The type is not one of this protocol's.
    #[error("unknown message type {type:?}")]
    UnknownType {
        /// The type as received, cut to a printable length.
        r#type: String,
    },
    /// The message lacks a required member or has one of the wrong type.
    #[error("malformed {type}")]
    Malformed {
        /// The message's type.
        r#type: &'static str,
        /// What the JSON parser said.
        source: serde_json::Error,
    },
}

/// A frame whose message is not interpreted yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The message's shape name.
    pub r#type: String,
    /// The message itself.
    #[serde(default)]
    pub message: Value,
}

impl Frame {
    /// Wraps a message, leaving out absent members.
    pub fn of<M: Serialize>(
        r#type: &str,
        message: &M,
    ) -> Result<Frame, serde_json::Error> {
        let mut message = serde_json::to_value(message)?;
        strip_nulls(&mut message);
        Ok(Frame { r#type: r#type.to_owned(), message })
    }

    /// The frame's JSON text.
    pub fn encode(&self) -> String {
        let kind = Value::from(self.r#type.as_str());
        format!(r#"{{"type":{kind},"message":{}}}"#, self.message)
    }

    /// Reads a frame of at most `limit` bytes.
    pub fn decode(text: &str, limit: usize) -> Result<Frame, FrameError> {
        if text.len() > limit {
            return Err(FrameError::TooLong { length: text.len(), limit });
        }
        serde_json::from_str(text)
            .map_err(|source| FrameError::NotAFrame { source })
    }

    /// Interprets the message.
    pub(crate) fn read<M: DeserializeOwned>(
        self,
        r#type: &'static str,
    ) -> Result<M, FrameError> {
        serde_json::from_value(self.message)
            .map_err(|source| FrameError::Malformed { r#type, source })
    }

    /// The error for a type that no variant has.
    pub(crate) fn unknown(self) -> FrameError {
        let r#type = self.r#type.chars().take(80).collect();
        FrameError::UnknownType { r#type }
    }
}

/// Declares the enum of a protocol's messages, its encoder and its decoder.
macro_rules! messages {
    (
        $(#[$meta:meta])* $name:ident;
        $($(#[$doc:meta])* $variant:ident = $text:literal ($body:ty),)+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $($(#[$doc])* $variant($body),)+ }

        impl $name {
            /// The value of the frame's `type`.
            pub const fn type_name(&self) -> &'static str {
                match self { $($name::$variant(_) => $text,)+ }
            }

            /// The text frame to send.
            pub fn encode(&self) -> Result<String, serde_json::Error> {
                match self {
                    $($name::$variant(message) => {
                        Ok($crate::frame::Frame::of($text, message)?.encode())
                    })+
                }
            }

            fn from_frame(
                frame: $crate::frame::Frame,
            ) -> Result<$name, $crate::frame::FrameError> {
                match frame.r#type.as_str() {
                    $($text => frame.read($text).map($name::$variant),)+
                    _ => Err(frame.unknown()),
                }
            }
        }
    };
}
pub(crate) use messages;

/// Removes null members of structures, at every depth.
pub fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// For `deserialize_with` beside `default`: null is an absent member.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
