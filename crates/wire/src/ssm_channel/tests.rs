//! Golden bytes of `exec-channel.md`, and channels over a bad network.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn message(payload: &'static [u8]) -> Message {
    Message {
        r#type: MessageType::OutputStreamData,
        created_ms: 0x0102_0304_0506_0708,
        sequence: 5,
        flags: 1,
        id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        payload_type: PayloadType::Output,
        payload: Bytes::from_static(payload),
    }
}

#[test]
fn a_message_has_the_bytes_of_the_reference() {
    let bytes = message(b"abc").encode();
    let mut expected = vec![];
    expected.extend_from_slice(&[0, 0, 0, 116]);
    expected.extend_from_slice(b"output_stream_data              ");
    expected.extend_from_slice(&[0, 0, 0, 1]);
    expected.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 5]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    // The later half of the UUID is written first.
    expected.extend_from_slice(&[
        0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00, 0x11, 0x22, 0x33,
        0x44, 0x55, 0x66, 0x77,
    ]);
    // SHA-256 of "abc", FIPS 180-2 appendix B.1.
    expected.extend_from_slice(&[
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde,
        0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
        0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
    ]);
    expected.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 3]);
    expected.extend_from_slice(b"abc");
    assert_eq!(bytes.as_ref(), expected);
    assert_eq!(Message::decode(&bytes), Ok(message(b"abc")));
    assert_eq!(
        uuid_text(message(b"").id),
        "00112233-4455-6677-8899-aabbccddeeff"
    );
}

#[test]
fn padding_may_be_zeros() {
    let mut bytes = message(b"abc").encode().to_vec();
    bytes[4 + 18..36].fill(0);
    assert_eq!(Message::decode(&bytes.into()), Ok(message(b"abc")));
}

#[test]
fn what_the_stock_sides_drop_is_refused() {
    let change = |at: usize, with: &[u8]| {
        let mut bytes = message(b"abc").encode().to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        Message::decode(&bytes.into()).unwrap_err()
    };
    assert_eq!(change(80, &[0]), MessageError::WrongDigest);
    assert_eq!(change(122, b"d"), MessageError::WrongDigest);
    assert_eq!(change(40, &[0; 8]), MessageError::NoDate);
    for length in [0, 115, 120, u32::MAX] {
        let error = change(0, &length.to_be_bytes());
        assert_eq!(error, MessageError::CutOff, "{length}");
    }
    assert_eq!(change(116, &[0, 0, 0, 4]), MessageError::CutOff);
    let unknown = change(4, b"inputs");
    assert!(matches!(unknown, MessageError::UnknownType { .. }), "{unknown}");
    let long = Bytes::from(vec![0; MAX_FRAME_BYTES + 1]);
    let too_long = MessageError::TooLong { length: long.len() };
    assert_eq!(Message::decode(&long), Err(too_long));
    for length in 0..120 {
        let cut = message(b"abc").encode().slice(..length);
        assert_eq!(Message::decode(&cut), Err(MessageError::CutOff));
    }
}

/// The client's part, played as the reference tells of the plugin.
struct Plugin {
    link: Link,
    shown: Vec<u8>,
    closed: Option<Value>,
}

impl Plugin {
    fn new() -> Plugin {
        let link = Link::new(Role::Client, 1 << 64);
        Plugin { link, shown: vec![], closed: None }
    }

    /// Takes a frame; answers with what it sends back.
    fn take(&mut self, frame: &Bytes) -> Vec<Bytes> {
        let message = Message::decode(frame).unwrap();
        if message.r#type == MessageType::ChannelClosed {
            self.closed = serde_json::from_slice(&message.payload).ok();
            return vec![];
        }
        let taken = self.link.take(message, true, NOW);
        let mut answers: Vec<Bytes> = taken.answer.into_iter().collect();
        for (kind, payload) in taken.delivered {
            match kind {
                PayloadType::HandshakeRequest => {
                    let asked: Value =
                        serde_json::from_slice(&payload).unwrap();
                    let action = &asked["RequestedClientActions"][0];
                    assert_eq!(action["ActionType"], "SessionType");
                    let wanted = json!({
                        "SessionType": "InteractiveCommands",
                        "Properties": null,
                    });
                    assert_eq!(action["ActionParameters"], wanted);
                    answers.push(self.say(
                        PayloadType::HandshakeResponse,
                        json!({
                            "ClientVersion": "1.2.677.0",
                            "ProcessedClientActions": [{
                                "ActionType": "SessionType", "ActionStatus": 1,
                                "ActionResult": null, "Error": "",
                            }],
                            "Errors": null,
                        }),
                    ));
                }
                PayloadType::HandshakeComplete => {
                    let size = json!({"cols": 100, "rows": 30});
                    answers.push(self.say(PayloadType::Size, size));
                }
                PayloadType::None
                | PayloadType::Output
                | PayloadType::Size
                | PayloadType::HandshakeResponse
                | PayloadType::Other(_) => {
                    self.shown.extend_from_slice(&payload)
                }
            }
        }
        answers
    }

    fn say(&mut self, kind: PayloadType, payload: Value) -> Bytes {
        self.link.send(kind, payload.to_string().into(), NOW)
    }

    fn types(&mut self, text: &'static str) -> Bytes {
        self.link.send(PayloadType::Output, text.into(), NOW)
    }
}

/// Passes frames both ways until there are none; answers the other effects.
fn converse(agent: &mut AgentSide, plugin: &mut Plugin) -> Vec<Effect> {
    let mut others = vec![];
    while let Some(effect) = agent.next_effect() {
        match effect {
            Effect::Send(frame) => {
                for answer in plugin.take(&frame) {
                    agent.receive(&answer, true, NOW);
                }
            }
            other @ (Effect::Start(_)
            | Effect::Input(_)
            | Effect::Resize(_)
            | Effect::Close) => others.push(other),
        }
    }
    others
}

fn opened() -> (AgentSide, Plugin) {
    let mut agent = AgentSide::new("s", 7, NOW);
    let mut plugin = Plugin::new();
    assert!(!agent.wants_output());
    let effects = converse(&mut agent, &mut plugin);
    let size = TerminalSize { cols: 100, rows: 30 };
    assert_eq!(effects, [Effect::Start(size)]);
    assert!(agent.wants_output());
    (agent, plugin)
}

#[test]
fn a_session_from_the_handshake_to_the_end() {
    let (mut agent, mut plugin) = opened();
    agent.output("$ ".into(), NOW);
    assert_eq!(converse(&mut agent, &mut plugin), []);
    assert_eq!(plugin.shown, b"$ ");
    let size = json!({"cols": 120, "rows": 40});
    for frame in [
        plugin.types("\u{3}"),
        plugin.say(PayloadType::Size, size),
        plugin.say(PayloadType::Size, json!({"cols": -1})),
        plugin.say(PayloadType::Other(10), json!(2)),
    ] {
        agent.receive(&frame, true, NOW);
    }
    let size = TerminalSize { cols: 120, rows: 40 };
    let effects = converse(&mut agent, &mut plugin);
    assert_eq!(effects, [Effect::Input("\u{3}".into()), Effect::Resize(size)]);
    agent.output("bye".into(), NOW);
    agent.ended(7, NOW);
    assert_eq!(plugin.closed, None, "the output comes first");
    assert_eq!(converse(&mut agent, &mut plugin), [Effect::Close]);
    assert_eq!(plugin.shown, b"$ bye");
    let closed = plugin.closed.unwrap();
    assert_eq!(closed["MessageType"], "channel_closed");
    assert_eq!(closed["SessionId"], "s");
    assert_eq!(closed["Output"], "");
    assert_eq!(closed["ExitCode"], 7);
}

#[test]
fn output_that_nobody_acknowledges_holds_the_end_up_for_two_seconds() {
    let (mut agent, _) = opened();
    agent.output("lost".into(), NOW);
    agent.ended(0, NOW);
    let is_close = |agent: &mut AgentSide| {
        std::iter::from_fn(|| agent.next_effect()).any(|e| e == Effect::Close)
    };
    agent.tick(NOW + 1_900);
    assert!(!is_close(&mut agent));
    agent.tick(NOW + 2_100);
    assert!(is_close(&mut agent));
}

#[test]
fn clients_that_say_nothing_do_not_hold_a_session() {
    let mut agent = AgentSide::new("s", 7, NOW);
    while agent.next_effect().is_some() {}
    agent.tick(NOW + 14_000);
    assert!(matches!(agent.next_effect(), Some(Effect::Send(_))), "a repeat");
    agent.tick(NOW + 16_000);
    let effects: Vec<_> = std::iter::from_fn(|| agent.next_effect()).collect();
    assert_eq!(effects.last(), Some(&Effect::Close));
    // Nobody speaks for twenty minutes.
    let (mut agent, mut plugin) = opened();
    agent.tick(NOW + 19 * 60_000);
    assert_eq!(converse(&mut agent, &mut plugin), []);
    agent.tick(NOW + 21 * 60_000);
    assert_eq!(converse(&mut agent, &mut plugin), [Effect::Close]);
    let closed = plugin.closed.unwrap();
    assert!(closed["Output"].as_str().unwrap().contains("inactivity"));
}

#[test]
fn a_client_without_a_size_gets_the_usual_one() {
    let mut agent = AgentSide::new("s", 7, NOW);
    let mut client = Link::new(Role::Client, 1);
    let answer = client.send(PayloadType::HandshakeResponse, "{}".into(), NOW);
    agent.receive(&answer, true, NOW);
    agent.tick(NOW + 2_500);
    let effects: Vec<_> = std::iter::from_fn(|| agent.next_effect()).collect();
    assert!(effects.contains(&Effect::Start(TerminalSize::default())));
}

#[test]
fn input_without_room_is_not_acknowledged_and_comes_again() {
    let (mut agent, mut plugin) = opened();
    let frame = plugin.types("x");
    agent.receive(&frame, false, NOW);
    assert_eq!(converse(&mut agent, &mut plugin), []);
    assert!(!plugin.link.is_settled());
    let again = plugin.link.due(NOW + 1_500).unwrap();
    assert_eq!(again, frame);
    agent.receive(&again, true, NOW);
    let effects = converse(&mut agent, &mut plugin);
    assert_eq!(effects, [Effect::Input("x".into())]);
    assert!(plugin.link.is_settled());
    // A duplicate is acknowledged again and not given twice.
    agent.receive(&frame, true, NOW);
    let Some(Effect::Send(ack)) = agent.next_effect() else { panic!("no ack") };
    let ack = Message::decode(&ack).unwrap();
    assert_eq!(ack.r#type, MessageType::Acknowledge);
    let said: Value = serde_json::from_slice(&ack.payload).unwrap();
    assert_eq!(said["AcknowledgedMessageType"], "input_stream_data");
    assert_eq!(said["AcknowledgedMessageSequenceNumber"], 2);
    assert_eq!(agent.next_effect(), None);
}

#[test]
fn memory_is_bounded_while_nothing_is_acknowledged() {
    let (mut agent, _) = opened();
    let mut given = 0;
    while agent.wants_output() {
        agent.output(Bytes::from_static(&[0; 64 << 10]), NOW);
        given += 64 << 10;
        assert!(given <= 2 << 20, "no end");
    }
    assert!(given >= 512 << 10);
}

#[test]
fn after_a_new_socket_an_acknowledgement_that_was_lost_is_not_waited_for() {
    let (mut agent, mut plugin) = opened();
    agent.output("one".into(), NOW);
    let Some(Effect::Send(one)) = agent.next_effect() else { panic!("none") };
    // It arrives, its acknowledgement does not; "two" does not either.
    drop(plugin.take(&one));
    agent.output("two".into(), NOW);
    while agent.next_effect().is_some() {}
    let control =
        |kind| Link::new(Role::Client, 1).control(kind, "{}".into(), NOW);
    agent.receive(&control(MessageType::PausePublication), true, NOW);
    assert!(!agent.wants_output());
    agent.receive(&control(MessageType::StartPublication), true, NOW);
    let frames: Vec<_> = std::iter::from_fn(|| agent.next_effect()).collect();
    let [Effect::Send(again), Effect::Send(two)] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(*again, one);
    // As the plugin: no acknowledgement of what it has.
    for ack in plugin.take(two) {
        agent.receive(&ack, true, NOW);
    }
    assert_eq!(plugin.shown, b"onetwo");
    agent.ended(0, NOW);
    assert!(agent.next_effect().is_some(), "nothing is waited for");
}

/// What a network does to one frame.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    IsLost,
    ComesTwice,
    ComesLate,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Arrives),
        1 => Just(Fate::IsLost),
        1 => Just(Fate::ComesTwice),
        1 => Just(Fate::ComesLate),
    ]
}

proptest! {
    #[test]
    fn any_message_survives_its_bytes(
        payload: Vec<u8>, sequence: i64, flags: u64, id: u128,
        created_ms in 1u64.., number in 0u32..20,
    ) {
        let kinds = [
            PayloadType::None, PayloadType::Output, PayloadType::Size,
            PayloadType::HandshakeRequest, PayloadType::HandshakeResponse,
            PayloadType::HandshakeComplete, PayloadType::Other(number + 8),
        ];
        let message = Message {
            r#type: MessageType::InputStreamData,
            created_ms, sequence, flags, id,
            payload_type: kinds[(number % 7) as usize],
            payload: payload.into(),
        };
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes: Vec<u8>, at in 0usize..130, byte: u8) {
        let _ = Message::decode(&bytes.clone().into());
        let mut near = message(b"abcdefgh").encode().to_vec();
        if let Some(place) = near.get_mut(at) {
            *place = byte;
        }
        let near = Bytes::from(near);
        let mut agent = AgentSide::new("s", 7, NOW);
        agent.receive(&near, true, NOW);
        agent.receive(&bytes.into(), true, NOW);
    }

    /// Loss, repeats and reordering, both ways: all of it arrives, once, in
    /// order.
    #[test]
    fn links_are_reliable(
        count in 1usize..40,
        fates in prop::collection::vec(fate(), 1..200),
    ) {
        let mut agent = Link::new(Role::Agent, 0);
        let mut client = Link::new(Role::Client, 1 << 64);
        let mut fates = fates.into_iter();
        let mut late: Vec<(bool, Bytes)> = vec![];
        let mut wire: Vec<(bool, Bytes)> = (0..count)
            .map(|at| {
                let text = Bytes::from(at.to_string());
                (true, agent.send(PayloadType::Output, text, NOW))
            })
            .collect();
        let (mut got, mut now) = (vec![], NOW);
        for _ in 0..5_000 {
            for (to_client, frame) in std::mem::take(&mut wire) {
                // After all fates the network is a good one.
                let times = match fates.next().unwrap_or(Fate::Arrives) {
                    Fate::Arrives => 1,
                    Fate::ComesTwice => 2,
                    Fate::IsLost => 0,
                    Fate::ComesLate => {
                        late.push((to_client, frame.clone()));
                        0
                    }
                };
                for _ in 0..times {
                    let message = Message::decode(&frame).unwrap();
                    let side =
                        if to_client { &mut client } else { &mut agent };
                    let taken = side.take(message, true, now);
                    wire.extend(taken.answer.map(|it| (!to_client, it)));
                    got.extend(taken.delivered.into_iter().map(|it| it.1));
                }
            }
            wire.append(&mut late);
            now += 100;
            wire.extend(agent.due(now).map(|frame| (true, frame)));
            if agent.is_settled() {
                break;
            }
        }
        prop_assert!(agent.is_settled());
        let sent: Vec<_> =
            (0..count).map(|at| Bytes::from(at.to_string())).collect();
        prop_assert_eq!(got, sent);
    }
}
