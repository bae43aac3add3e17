//! CloudWatch Logs' filter patterns, and messages held against them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_core::filter_pattern::FilterPattern;

// A pattern, and after its line a message.
fuzz_target!(|input: &str| {
    let (pattern, message) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(pattern) = FilterPattern::parse(pattern) else { return };
    if pattern.matches(message) {
        // The quick look over a block must not hide what matches.
        assert!(pattern.could_match_in(message.as_bytes()));
    }
});
