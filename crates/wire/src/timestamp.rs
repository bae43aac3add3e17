//! Points in time, to the millisecond, as AWS sends them.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch, UTC.
///
/// In JSON it is a number of seconds with a fraction, as AWS JSON 1.1 sends
/// timestamps; on input an ISO 8601 string is taken too, because botocore and
/// the docs use both. XML uses [`Timestamp::to_iso`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time and `millis` more (or less, if negative), saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time, saturating.
    pub const fn millis_since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Parses an ISO 8601 / RFC 3339 instant; a missing zone means UTC and a
    /// bare date means its midnight.
    pub fn from_iso(text: &str) -> Option<Timestamp> {
        let instant = text
            .parse::<jiff::Timestamp>()
            .or_else(|_| format!("{text}Z").parse())
            .or_else(|_| format!("{text}T00:00:00Z").parse())
            .ok()?;
        Some(Timestamp(instant.as_millisecond()))
    }

    /// `2006-01-02T15:04:05Z`, with milliseconds where there are any.
    pub fn to_iso(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => instant.to_string(),
            // Outside years -9999..9999: no calendar form exists.
            Err(_) => self.0.to_string(),
        }
    }

    /// From seconds since the epoch; `None` where it is not a time at all.
    pub fn from_secs_f64(seconds: f64) -> Option<Timestamp> {
        // Year 9999 in seconds; also refuses NaN and infinities.
        const LIMIT: f64 = 253_402_300_800.0;
        if !(-LIMIT..LIMIT).contains(&seconds) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within the limit above, a millisecond count fits"
        )]
        Some(Timestamp((seconds * 1000.0).round() as i64))
    }

    /// Seconds since the epoch with a millisecond fraction.
    pub fn as_secs_f64(self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "millisecond counts stay below 2^53 until year 287396"
        )]
        let millis = self.0 as f64;
        millis / 1000.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(
        &self,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            return serializer.serialize_i64(self.0 / 1000);
        }
        serializer.serialize_f64(self.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("epoch seconds or an ISO 8601 time")
            }

            fn visit_f64<E: de::Error>(
                self,
                value: f64,
            ) -> Result<Timestamp, E> {
                Timestamp::from_secs_f64(value)
                    .ok_or_else(|| E::custom("time out of range"))
            }

            fn visit_i64<E: de::Error>(
                self,
                value: i64,
            ) -> Result<Timestamp, E> {
                value
                    .checked_mul(1000)
                    .map(Timestamp)
                    .ok_or_else(|| E::custom("time out of range"))
            }

            fn visit_u64<E: de::Error>(
                self,
                value: u64,
            ) -> Result<Timestamp, E> {
                i64::try_from(value)
                    .map_err(|_| E::custom("time out of range"))
                    .and_then(|value| self.visit_i64(value))
            }

            fn visit_str<E: de::Error>(
                self,
                text: &str,
            ) -> Result<Timestamp, E> {
                Timestamp::from_iso(text)
                    .ok_or_else(|| E::custom("not an ISO 8601 time"))
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_epoch_seconds_with_a_fraction() {
        let time = Timestamp::from_millis(1_731_955_207_123);
        assert_eq!(serde_json::to_string(&time).unwrap(), "1731955207.123");
        let whole = Timestamp::from_millis(1_731_955_207_000);
        assert_eq!(serde_json::to_string(&whole).unwrap(), "1731955207");
    }

    #[test]
    fn input_takes_numbers_and_iso_text() {
        for text in [
            "1731955207.123",
            r#""2024-11-18T18:40:07.123Z""#,
            r#""2024-11-18T18:40:07.123""#,
            r#""2024-11-18T19:40:07.123+01:00""#,
        ] {
            let time: Timestamp = serde_json::from_str(text).unwrap();
            assert_eq!(time.as_millis(), 1_731_955_207_123, "{text}");
        }
        for text in ["1e300", "\"yesterday\"", "true", "-1e19"] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_date_is_its_midnight() {
        let time = Timestamp::from_iso("1970-01-02").unwrap();
        assert_eq!(time.as_millis(), 86_400_000);
        assert_eq!(time.to_iso(), "1970-01-02T00:00:00Z");
    }
}
