//! Frames of the Session Manager data channel, as a client may send them.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use minato_wire::ssm_channel::{AgentSide, Effect, Message};

// Frames, each with its length in two bytes before it.
fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let mut side = AgentSide::new("ecs-execute-command-0", 1, 0);
    let mut now = 0;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (frame, next) = after.split_at(length.min(after.len()));
        rest = next;
        now += 50;
        let frame = Bytes::copy_from_slice(frame);
        if let Ok(message) = Message::decode(&frame) {
            let again = Message::decode(&message.encode());
            assert!(again.is_ok_and(|it| it.payload == message.payload));
        }
        side.receive(&frame, frame.len() % 2 == 0, now);
        if side.wants_output() {
            side.output(frame.slice(..frame.len() / 2), now);
        }
        side.tick(now);
        let mut effects = 0;
        while let Some(effect) = side.next_effect() {
            effects += 1;
            assert!(effects < 10_000, "one frame makes no flood");
            // What we send is well formed.
            if let Effect::Send(frame) = effect {
                assert!(Message::decode(&frame).is_ok());
            }
        }
    }
});
