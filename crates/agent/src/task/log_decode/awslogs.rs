//! The options of driver `awslogs`.
//!
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html>
//! and <https://docs.docker.com/engine/logging/drivers/awslogs/>.

use std::time::Duration;

use super::{COMMON, LogOwner, Options};
use crate::logs::tag::{TagField, TagTemplate};
use crate::task::decode::{DecodeTaskError, malformed, unsupported};
use crate::task::plan::{AwslogsPlan, LogPlan, MultilinePlan};

/// How long an event of several lines may grow, where it is not said.
const FLUSH_SECONDS: u64 = 5;

const OPTIONS: [&str; 10] = [
    "awslogs-group",
    "awslogs-region",
    "awslogs-stream-prefix",
    "awslogs-stream",
    "awslogs-create-group",
    "awslogs-datetime-format",
    "awslogs-multiline-pattern",
    "awslogs-force-flush-interval-seconds",
    "awslogs-format",
    "tag",
];

pub(super) fn decode(
    options: Options<'_>,
    owner: LogOwner<'_>,
) -> Result<LogPlan, DecodeTaskError> {
    options.known(&[&OPTIONS, &COMMON])?;
    let needed = |name: &str| {
        options.get(name).map(str::to_owned).ok_or_else(|| {
            malformed(format!("must specify a value for log opt '{name}'"))
        })
    };
    let multiline = multiline(options)?;
    // CloudWatch finds embedded metrics in any event since it no longer asks
    // for a header; the format only says that lines are left as they are.
    match options.get("awslogs-format") {
        None => {}
        Some("json/emf") if multiline.is_none() => {}
        Some(_) => return Err(options.wrong("awslogs-format")),
    }
    Ok(LogPlan::Awslogs(AwslogsPlan {
        group: needed("awslogs-group")?,
        region: needed("awslogs-region")?,
        stream: stream(options, owner)?,
        create_group: options.flag("awslogs-create-group")?,
        multiline,
        max_buffer_bytes: options.buffer()?,
    }))
}

/// The stream: as given, with a prefix as ECS has it, or by Docker's tag.
fn stream(
    options: Options<'_>,
    owner: LogOwner<'_>,
) -> Result<String, DecodeTaskError> {
    let LogOwner { task_id, name, id, image } = owner;
    if let Some(stream) = options.get("awslogs-stream") {
        return Ok(stream.to_owned());
    }
    if let Some(prefix) = options.get("awslogs-stream-prefix") {
        return Ok(format!("{prefix}/{name}/{task_id}"));
    }
    let Some(tag) = options.get("tag") else { return Ok(id.to_owned()) };
    let refused =
        |part| unsupported(format!("{part} in the tag of log driver awslogs"));
    let template = TagTemplate::parse(tag).map_err(refused)?;
    let image_id = std::cell::Cell::new(false);
    let stream = template.render(|field| match field {
        TagField::Id => id.get(..12).unwrap_or(id).to_owned(),
        TagField::FullId => id.to_owned(),
        TagField::Name => name.to_owned(),
        TagField::ImageName => image.to_owned(),
        TagField::DaemonName => "docker".to_owned(),
        TagField::ImageId | TagField::ImageFullId => {
            image_id.set(true);
            String::new()
        }
    });
    // The stream is named before the image is there.
    if image_id.get() {
        return Err(refused("an image's id".to_owned()));
    }
    // Characters that a stream's name cannot have (API reference).
    Ok(stream.replace([':', '*'], "_"))
}

fn multiline(
    options: Options<'_>,
) -> Result<Option<MultilinePlan>, DecodeTaskError> {
    let seconds = options
        .read("awslogs-force-flush-interval-seconds", |it| {
            it.parse::<u64>().ok().filter(|seconds| *seconds > 0)
        })?;
    let pattern = options.regex("awslogs-multiline-pattern")?;
    let format = options.get("awslogs-datetime-format").map(datetime_pattern);
    let pattern = match (pattern, format) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(malformed(
                "awslogs-datetime-format and awslogs-multiline-pattern \
                 cannot be used together",
            ));
        }
        (Some(pattern), None) | (None, Some(pattern)) => pattern,
    };
    let max_age = Duration::from_secs(seconds.unwrap_or(FLUSH_SECONDS));
    Ok(Some(MultilinePlan { pattern, max_age }))
}

/// A `strftime` format as a regular expression.
///
/// The conversions that Docker's documentation names; anything else is text.
fn datetime_pattern(format: &str) -> String {
    let mut pattern = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            continue;
        }
        let part = match chars.next() {
            Some('a') => "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
            Some('A') => {
                "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
            }
            Some('w') => "[0-6]",
            Some('d') => "(?:0[1-9]|[12][0-9]|3[01])",
            Some('b') => "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
            Some('B') => {
                "(?:January|February|March|April|May|June|July|August|\
                 September|October|November|December)"
            }
            Some('m') => "(?:0[1-9]|1[0-2])",
            Some('Y') => "[0-9]{4}",
            Some('y') => "[0-9]{2}",
            Some('H') => "(?:[01][0-9]|2[0-3])",
            Some('I') => "(?:0[0-9]|1[0-2])",
            Some('p') => "[AP]M",
            Some('M' | 'S') => "[0-5][0-9]",
            Some('f') => "[0-9]{6}",
            Some('L') => "\\.[0-9]{3}",
            Some('z') => "[+-][0-9]{4}",
            Some('Z') => "[A-Z]{1,4}T",
            Some('j') => "(?:0[0-9][1-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-6])",
            Some('%') => "%",
            Some(other) => {
                pattern.push('%');
                pattern
                    .push_str(&regex::escape(other.encode_utf8(&mut [0; 4])));
                continue;
            }
            None => "%",
        };
        pattern.push_str(part);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn formats_match_the_times_they_write() {
        for (format, yes, no) in [
            ("%Y-%m-%d %H:%M:%S", "x 2026-11-28 23:59:00 y", "2026-13-28"),
            ("\\[%b %d, %Y %I:%M:%S\\]", "\\[May 01, 2017 01:00:00\\]", "["),
            ("[%H:%M:%S%L]", "[07:00:59.123]", "[07:00:59]"),
            ("100%%", "100%", "1000"),
            ("%q", "%q", "q"),
            ("%", "%", "x"),
        ] {
            let regex = Regex::new(&datetime_pattern(format)).unwrap();
            assert!(regex.is_match(yes), "{format} {yes}");
            assert!(!regex.is_match(no), "{format} {no}");
        }
    }
}
