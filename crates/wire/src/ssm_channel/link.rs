//! Numbers, acknowledgements and repeats: one side of a channel
//! (`exec-channel.md`, 6).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::message::{Message, MessageType, PayloadType};
use super::payload::Acknowledge;
use super::uuid_text;

/// Bytes on their way that are not acknowledged; then a side waits. The stock
/// sides have no such window and keep up to 100,000 messages of 1 KiB.
const WINDOW_BYTES: usize = 1 << 20;
/// Messages on their way; the plugin's reorder buffer has 10,000 places.
const WINDOW_MESSAGES: usize = 4096;
/// How far ahead of the next expected number a message may be.
const AHEAD_MAX: i64 = 10_000;
/// Bytes that may wait for an earlier message.
const EARLY_BYTES_MAX: usize = 4 << 20;

/// First wait for an acknowledgement, in milliseconds; both stock sides' own.
const FIRST_TIMEOUT_MS: i64 = 200;
const FIRST_ROUND_TRIP_MS: i64 = 100;
const TIMEOUT_MAX_MS: i64 = 1000;
const CLOCK_STEP_MS: i64 = 10;

/// Which side of a channel this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Beside the container: sends output, takes input.
    Agent,
    /// Beside the user: sends input, takes output.
    Client,
}

impl Role {
    const fn sends(self) -> MessageType {
        match self {
            Role::Agent => MessageType::OutputStreamData,
            Role::Client => MessageType::InputStreamData,
        }
    }

    const fn takes(self) -> MessageType {
        match self {
            Role::Agent => MessageType::InputStreamData,
            Role::Client => MessageType::OutputStreamData,
        }
    }
}

/// One side of a channel. It outlives the sockets under it.
#[derive(Debug)]
pub struct Link {
    role: Role,
    next_id: u128,
    next: i64,
    unacked: VecDeque<Unacked>,
    unacked_bytes: usize,
    timing: Timing,
    /// Repeats below this number were all sent on the present socket, in
    /// order.
    resent_below: i64,
    expected: i64,
    early: BTreeMap<i64, (PayloadType, Bytes)>,
    early_bytes: usize,
}

#[derive(Debug)]
struct Unacked {
    sequence: i64,
    frame: Bytes,
    sent_ms: i64,
    is_repeat: bool,
}

/// What a message brought.
#[derive(Debug, Default)]
pub struct Taken {
    /// To be sent back.
    pub answer: Option<Bytes>,
    /// What is now next in order, perhaps together with what had come early.
    pub delivered: Vec<(PayloadType, Bytes)>,
}

impl Link {
    /// A side of a new channel; its messages' ids begin at `first_id`.
    pub fn new(role: Role, first_id: u128) -> Link {
        Link {
            role,
            next_id: first_id,
            next: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            timing: Timing::default(),
            resent_below: 0,
            expected: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
        }
    }

    /// Whether more may be sent before something is acknowledged.
    pub fn has_room(&self) -> bool {
        self.unacked_bytes < WINDOW_BYTES
            && self.unacked.len() < WINDOW_MESSAGES
    }

    /// Whether the other side has everything.
    pub fn is_settled(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Numbers a message and answers its frame, which is kept until it is
    /// acknowledged.
    pub fn send(
        &mut self,
        payload_type: PayloadType,
        payload: Bytes,
        now_ms: i64,
    ) -> Bytes {
        let sequence = self.next;
        self.next += 1;
        let message = Message {
            r#type: self.role.sends(),
            created_ms: created(now_ms),
            sequence,
            flags: u64::from(sequence == 0),
            id: self.draw_id(),
            payload_type,
            payload,
        };
        let frame = message.encode();
        self.unacked_bytes += frame.len();
        self.unacked.push_back(Unacked {
            sequence,
            frame: frame.clone(),
            sent_ms: now_ms,
            is_repeat: false,
        });
        frame
    }

    /// A message outside the sequence.
    pub fn control(
        &mut self,
        r#type: MessageType,
        payload: Bytes,
        now_ms: i64,
    ) -> Bytes {
        let message = Message {
            r#type,
            created_ms: created(now_ms),
            sequence: 0,
            flags: 3,
            id: self.draw_id(),
            payload_type: PayloadType::None,
            payload,
        };
        message.encode()
    }

    /// Takes a message of the other side's. Where there is no room for what it
    /// brings, `has_room` is false: it is then not acknowledged and comes
    /// again.
    pub fn take(
        &mut self,
        message: Message,
        has_room: bool,
        now_ms: i64,
    ) -> Taken {
        if message.r#type == MessageType::Acknowledge {
            if let Ok(ack) =
                serde_json::from_slice::<Acknowledge>(&message.payload)
            {
                self.acknowledged(&ack, now_ms);
            }
            return Taken::default();
        }
        let is_old = message.sequence < self.expected;
        if message.r#type != self.role.takes()
            || message.sequence < 0
            || message.sequence >= self.expected + AHEAD_MAX
            || (!is_old && !has_room)
        {
            return Taken::default();
        }
        let is_early = message.sequence > self.expected;
        if is_early
            && self.early_bytes + message.payload.len() > EARLY_BYTES_MAX
        {
            return Taken::default();
        }
        // Also of one that is here already: its acknowledgement may be lost.
        let answer = Some(self.acknowledge(&message, now_ms));
        let Message { sequence, payload_type, payload, .. } = message;
        if is_early {
            let length = payload.len();
            if self.early.insert(sequence, (payload_type, payload)).is_none() {
                self.early_bytes += length;
            }
            return Taken { answer, delivered: vec![] };
        }
        let mut delivered = vec![];
        if !is_old {
            delivered.push((payload_type, payload));
            self.expected += 1;
            while let Some((kind, bytes)) = self.early.remove(&self.expected) {
                self.early_bytes -= bytes.len();
                delivered.push((kind, bytes));
                self.expected += 1;
            }
        }
        Taken { answer, delivered }
    }

    /// The frame to send again now, if one is due: only ever the oldest.
    pub fn due(&mut self, now_ms: i64) -> Option<Bytes> {
        let timeout = self.timing.timeout_ms;
        let oldest = self.unacked.front_mut()?;
        if now_ms - oldest.sent_ms <= timeout {
            return None;
        }
        oldest.sent_ms = now_ms;
        oldest.is_repeat = true;
        Some(oldest.frame.clone())
    }

    /// All that is not acknowledged, to be sent on a new socket.
    ///
    /// The plugin does not acknowledge what it has already. `is_lossless` says
    /// that it has begun to take everything: an acknowledgement of a later
    /// repeat then means that it had the earlier ones.
    pub fn resend_all(&mut self, is_lossless: bool, now_ms: i64) -> Vec<Bytes> {
        if is_lossless {
            self.resent_below = self.next;
        }
        let again = |unacked: &mut Unacked| {
            unacked.sent_ms = now_ms;
            unacked.is_repeat = true;
            unacked.frame.clone()
        };
        self.unacked.iter_mut().map(again).collect()
    }

    fn acknowledged(&mut self, ack: &Acknowledge, now_ms: i64) {
        let sequence = ack.acknowledged_message_sequence_number;
        if ack.acknowledged_message_type != self.role.sends().as_str() {
            return;
        }
        let found =
            self.unacked.binary_search_by_key(&sequence, |it| it.sequence);
        if let Ok(at) = found
            && let Some(known) = self.unacked.remove(at)
        {
            self.unacked_bytes -= known.frame.len();
            // Of a repeat nobody knows which sending was acknowledged.
            if !known.is_repeat {
                self.timing.learn(now_ms - known.sent_ms);
            }
        }
        if sequence < self.resent_below {
            while self.unacked.front().is_some_and(|it| it.sequence < sequence)
            {
                if let Some(known) = self.unacked.pop_front() {
                    self.unacked_bytes -= known.frame.len();
                }
            }
        }
    }

    fn acknowledge(&mut self, message: &Message, now_ms: i64) -> Bytes {
        let ack = Acknowledge {
            acknowledged_message_type: message.r#type.as_str().to_owned(),
            acknowledged_message_id: uuid_text(message.id),
            acknowledged_message_sequence_number: message.sequence,
            is_sequential_message: true,
        };
        // Strings and numbers always have a JSON form.
        let payload = serde_json::to_vec(&ack).unwrap_or_default();
        self.control(MessageType::Acknowledge, payload.into(), now_ms)
    }

    fn draw_id(&mut self) -> u128 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }
}

fn created(now_ms: i64) -> u64 {
    // 0 would have the message dropped.
    u64::try_from(now_ms).unwrap_or(0).max(1)
}

/// How long to wait for an acknowledgement.
#[derive(Debug)]
struct Timing {
    round_trip_ms: i64,
    variation_ms: i64,
    timeout_ms: i64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            round_trip_ms: FIRST_ROUND_TRIP_MS,
            variation_ms: 0,
            timeout_ms: FIRST_TIMEOUT_MS,
        }
    }
}

impl Timing {
    fn learn(&mut self, sample_ms: i64) {
        let sample_ms = sample_ms.max(0);
        let off = (self.round_trip_ms - sample_ms).abs();
        self.variation_ms = (3 * self.variation_ms + off) / 4;
        self.round_trip_ms = (7 * self.round_trip_ms + sample_ms) / 8;
        self.timeout_ms = (self.round_trip_ms
            + CLOCK_STEP_MS.max(4 * self.variation_ms))
        .min(TIMEOUT_MAX_MS);
    }
}
