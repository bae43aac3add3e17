//! Frames between the control plane and an agent, of both kinds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_wire::{acs, tcs};

fuzz_target!(|text: &str| {
    if let Ok(message) = acs::Message::decode(text)
        && let Ok(again) = message.encode()
    {
        assert!(acs::Message::decode(&again).is_ok(), "{again}");
    }
    let _ = tcs::Message::decode(text);
});
