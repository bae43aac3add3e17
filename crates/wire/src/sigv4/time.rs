//! `20060102T150405Z`, the basic ISO 8601 form of signatures.

use crate::Timestamp;

/// Reads the basic form, or a `Date` header's.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    parse_basic(text).or_else(|| {
        let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
    })
}

fn parse_basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i16> {
        let digits = &bytes[from..to];
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(
            digits
                .iter()
                .fold(0, |sum, digit| sum * 10 + i16::from(*digit - b'0')),
        )
    };
    let small = |from: usize| -> Option<i8> {
        number(from, from + 2).and_then(|value| i8::try_from(value).ok())
    };
    let moment = jiff::civil::DateTime::new(
        number(0, 4)?,
        small(4)?,
        small(6)?,
        small(9)?,
        small(11)?,
        small(13)?,
        0,
    )
    .ok()?;
    let zoned = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

/// Writes the basic form.
pub(super) fn format(time: Timestamp) -> String {
    let text = match jiff::Timestamp::from_second(time.as_secs()) {
        Ok(instant) => instant.to_string(),
        Err(_) => jiff::Timestamp::UNIX_EPOCH.to_string(),
    };
    text.replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_one_is_written() {
        let time = Timestamp::from_millis(1_795_350_290_000);
        assert_eq!(format(time), "20261122T122450Z");
        assert_eq!(parse("20261122T122450Z"), Some(time));
        assert_eq!(parse("Sun, 22 Nov 2026 12:24:50 GMT"), Some(time));
        assert_eq!(format(time.plus_millis(999)), "20261122T122450Z");
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in
            ["", "20261322T122450Z", "20261122T122450", "2026-11-22T12:24:50Z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("２０２６１１２２T1224Z"), None);
    }
}
