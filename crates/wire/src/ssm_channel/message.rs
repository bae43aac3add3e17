//! The binary form of one message (`exec-channel.md`, 3).

use aws_lc_rs::digest;
use bytes::{BufMut, Bytes, BytesMut};

/// The longest frame taken: stock sides send about 1.2 KiB, and the plugin
/// takes 200 KB.
pub const MAX_FRAME_BYTES: usize = 256 << 10;

/// The offset of the payload's length, which is what `HeaderLength` says.
const HEADER_LENGTH: usize = 116;
const HEADER_LENGTH_WORD: u32 = 116;
const TYPE_BYTES: usize = 32;
const SCHEMA_VERSION: u32 = 1;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Agent to client; numbered and acknowledged.
    OutputStreamData,
    /// Client to agent; numbered and acknowledged.
    InputStreamData,
    /// Both ways: one numbered message was taken.
    Acknowledge,
    /// To the client: the session is over.
    ChannelClosed,
    /// To the agent: the client is there; send.
    StartPublication,
    /// To the agent: the client is away; wait.
    PausePublication,
}

impl MessageType {
    const ALL: [MessageType; 6] = [
        MessageType::OutputStreamData,
        MessageType::InputStreamData,
        MessageType::Acknowledge,
        MessageType::ChannelClosed,
        MessageType::StartPublication,
        MessageType::PausePublication,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            MessageType::OutputStreamData => "output_stream_data",
            MessageType::InputStreamData => "input_stream_data",
            MessageType::Acknowledge => "acknowledge",
            MessageType::ChannelClosed => "channel_closed",
            MessageType::StartPublication => "start_publication",
            MessageType::PausePublication => "pause_publication",
        }
    }
}

/// What a stream message carries (`exec-channel.md`, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadType {
    /// Not a stream message.
    None,
    /// Bytes of the terminal, both ways.
    Output,
    /// The terminal's size.
    Size,
    /// The agent asks what the client can.
    HandshakeRequest,
    /// The client's answer.
    HandshakeResponse,
    /// The agent begins.
    HandshakeComplete,
    /// Another number: port sessions, encryption, separate streams.
    Other(u32),
}

impl PayloadType {
    const fn of(number: u32) -> PayloadType {
        match number {
            0 => PayloadType::None,
            1 => PayloadType::Output,
            3 => PayloadType::Size,
            5 => PayloadType::HandshakeRequest,
            6 => PayloadType::HandshakeResponse,
            7 => PayloadType::HandshakeComplete,
            other => PayloadType::Other(other),
        }
    }

    const fn number(self) -> u32 {
        match self {
            PayloadType::None => 0,
            PayloadType::Output => 1,
            PayloadType::Size => 3,
            PayloadType::HandshakeRequest => 5,
            PayloadType::HandshakeResponse => 6,
            PayloadType::HandshakeComplete => 7,
            PayloadType::Other(number) => number,
        }
    }
}

/// Why bytes are not a message. The stock sides drop such bytes in silence, so
/// that the right ones may come again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("a message of {length} bytes")]
    TooLong {
        /// Bytes received.
        length: usize,
    },
    /// Shorter than its header, or than its header says.
    #[error("a message is cut off")]
    CutOff,
    /// The payload is not the one that was sent.
    #[error("a message's digest is not its payload's")]
    WrongDigest,
    /// It says that it was made at no time.
    #[error("a message has no date")]
    NoDate,
    /// A type that nobody knows.
    #[error("unknown message type {name:?}")]
    UnknownType {
        /// As received.
        name: String,
    },
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub r#type: MessageType,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Its place in its direction's sequence; 0 where it is in none.
    pub sequence: i64,
    /// Bit 0: first of its direction, bit 1: last. Nobody reads them.
    pub flags: u64,
    /// A UUID.
    pub id: u128,
    /// What the payload is.
    pub payload_type: PayloadType,
    /// The payload.
    pub payload: Bytes,
}

impl Message {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let length = self.payload.len();
        let mut bytes = BytesMut::with_capacity(HEADER_LENGTH + 4 + length);
        bytes.put_u32(HEADER_LENGTH_WORD);
        let name = self.r#type.as_str().as_bytes();
        bytes.put_slice(name);
        bytes.put_bytes(b' ', TYPE_BYTES - name.len());
        bytes.put_u32(SCHEMA_VERSION);
        bytes.put_u64(self.created_ms);
        bytes.put_i64(self.sequence);
        bytes.put_u64(self.flags);
        // The halves of the UUID are swapped.
        bytes.put_u128(self.id.rotate_left(64));
        bytes.put_slice(digest(&self.payload).as_ref());
        bytes.put_u32(self.payload_type.number());
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }

    /// Reads a message, and checks its digest.
    pub fn decode(frame: &Bytes) -> Result<Message, MessageError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(MessageError::TooLong { length: frame.len() });
        }
        let header_length = word(frame, 0).ok_or(MessageError::CutOff)?;
        let payload_at = usize::try_from(header_length)
            .ok()
            .filter(|length| *length >= HEADER_LENGTH)
            .and_then(|length| length.checked_add(4))
            .filter(|at| *at <= frame.len())
            .ok_or(MessageError::CutOff)?;
        let r#type = MessageType::read(frame)?;
        let created_ms = long(frame, 40).ok_or(MessageError::CutOff)?;
        if created_ms == 0 {
            return Err(MessageError::NoDate);
        }
        let payload = frame.slice(payload_at..);
        let said = word(frame, payload_at - 4).ok_or(MessageError::CutOff)?;
        if usize::try_from(said).ok() != Some(payload.len()) {
            return Err(MessageError::CutOff);
        }
        if !payload.is_empty()
            && frame.get(80..112) != Some(digest(&payload).as_ref())
        {
            return Err(MessageError::WrongDigest);
        }
        let sequence = long(frame, 48).ok_or(MessageError::CutOff)?;
        let low = long(frame, 64).ok_or(MessageError::CutOff)?;
        let high = long(frame, 72).ok_or(MessageError::CutOff)?;
        Ok(Message {
            r#type,
            created_ms,
            sequence: i64::from_be_bytes(sequence.to_be_bytes()),
            flags: long(frame, 56).ok_or(MessageError::CutOff)?,
            id: u128::from(high) << 64 | u128::from(low),
            payload_type: PayloadType::of(
                word(frame, 112).ok_or(MessageError::CutOff)?,
            ),
            payload,
        })
    }
}

impl MessageType {
    /// The type of a frame that may otherwise be anything.
    pub fn read(frame: &[u8]) -> Result<MessageType, MessageError> {
        let name = frame.get(4..4 + TYPE_BYTES).ok_or(MessageError::CutOff)?;
        let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
        let from = name.iter().position(|byte| !is_padding(byte));
        let to = name.iter().rposition(|byte| !is_padding(byte));
        let name = match (from, to) {
            (Some(from), Some(to)) => name.get(from..=to).unwrap_or(&[]),
            _ => &[],
        };
        let known = MessageType::ALL
            .into_iter()
            .find(|known| known.as_str().as_bytes() == name);
        known.ok_or_else(|| MessageError::UnknownType {
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }
}

fn digest(payload: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, payload)
}

fn word(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

fn long(frame: &[u8], at: usize) -> Option<u64> {
    let bytes = frame.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}
