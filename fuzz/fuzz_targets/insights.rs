//! Queries of Logs Insights, and events sent through them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use minato_core::insights::{Event, Origin, Query, ResultRow, Run, TooLarge};

fn answer(
    query: &Query,
    messages: &[&str],
) -> (u64, Result<Vec<ResultRow>, TooLarge>) {
    let mut run = Run::new(query, 1_700_000_000_000, 1_000);
    for (at, message) in (0..).zip(messages) {
        let origin = Origin {
            timestamp: 1_700_000_000_000 + 250 * at,
            sequence: at.unsigned_abs(),
            group: 1,
            stream: 2,
        };
        let (ingested_at, stream, log) = (origin.timestamp + 1, "s", "0:g");
        let event = Event { origin, ingested_at, message, stream, log };
        if let Err(error) = run.push(&event) {
            return (run.matched(), Err(error));
        }
    }
    (run.matched(), run.finish())
}

// A query, and after an empty line messages, one on each.
fuzz_target!(|input: &str| {
    let _ = Origin::parse(input);
    let (query, text) = input.split_once("\n\n").unwrap_or((input, ""));
    let Ok(query) = Query::parse(query) else { return };
    let messages: Vec<_> = text.lines().collect();
    let (matched, rows) = answer(&query, &messages);
    // The quick look over a block must not hide what matches.
    assert!(matched == 0 || query.could_match_in(text.as_bytes()));
    assert!(matched <= messages.len() as u64);
    // The same events give the same answer.
    assert_eq!(answer(&query, &messages), (matched, rows.clone()));
    for origin in rows.iter().flatten().filter_map(|row| row.origin) {
        assert_eq!(Origin::parse(&origin.pointer()), Some(origin));
    }
});
