//! The small languages: command lines, ARNs, times, image names, sizes and
//! plans of `minato rehearse`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_core::command_line;
use minato_engine::image::ImageReference;
use minato_sim::rehearse::Plan;
use minato_wire::Timestamp;
use minato_wire::arn::{IdReference, TaskDefinitionReference};

fuzz_target!(|input: (u8, &str)| {
    let (which, text) = input;
    match which % 5 {
        0 => {
            let _ = command_line::split(text);
        }
        1 => {
            if let Ok(image) = text.parse::<ImageReference>() {
                let again: ImageReference = image.name().parse().unwrap();
                assert_eq!(again.name(), image.name());
            }
        }
        2 => {
            let _ = IdReference::parse("task", text);
            let _ = TaskDefinitionReference::parse(text);
        }
        3 => {
            if let Some(time) = Timestamp::from_iso(text) {
                let _ = time.to_iso();
            }
        }
        _ => {
            let _ = Plan::parse(text);
        }
    }
});
