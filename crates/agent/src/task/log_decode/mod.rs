//! From Docker's log configuration to a plan.
//!
//! The options are those of Docker's drivers
//! (<https://docs.docker.com/engine/logging/configure/>) and of the task
//! definition's documentation; one that is not known, or would be ignored, is
//! refused.

mod awslogs;
mod remote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use minato_wire::acs;
use regex::Regex;

use super::container_decode::parse_size;
use super::decode::{DecodeTaskError, malformed, unsupported};
use super::plan::{ExtrasPlan, LogAddress, LogPlan, RecordForm, RemotePlan};
use crate::logs::tag::TagTemplate;

/// What a container without log configuration keeps; Docker keeps everything,
/// until the disk is full.
const DEFAULT_FILE_BYTES: u64 = 16 << 20;
const DEFAULT_FILES: u32 = 4;

/// Buffer of mode `non-blocking`, as the upstream agent sets it.
const DEFAULT_BUFFER_BYTES: u64 = 10 << 20;

/// Records that are read at a time.
const BATCH_MAX: usize = 1000;
/// The wait after a first failure: Docker's of Fluentd.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// Options that every driver has.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// Options of drivers that send more than the line.
const EXTRAS: [&str; 5] = ["tag", "labels", "labels-regex", "env", "env-regex"];

/// Who writes the log that is to be planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOwner<'a> {
    pub(crate) task_id: &'a str,
    pub(crate) name: &'a str,
    /// The container's id.
    pub(crate) id: &'a str,
    pub(crate) image: &'a str,
}

/// Makes the log plan of a container.
pub(crate) fn decode_log(
    config: Option<&acs::LogConfig>,
    owner: LogOwner<'_>,
) -> Result<LogPlan, DecodeTaskError> {
    let Some(config) = config.filter(|config| !config.r#type.is_empty()) else {
        return Ok(LogPlan::JsonFile {
            max_size_bytes: DEFAULT_FILE_BYTES,
            max_files: DEFAULT_FILES,
            lines: None,
        });
    };
    let driver = config.r#type.as_str();
    let options = Options { driver, given: &config.config };
    match driver {
        "none" => {
            options.known(&[&[]])?;
            Ok(LogPlan::None)
        }
        "json-file" => decode_json_file(options),
        "awslogs" => awslogs::decode(options, owner),
        "awsfirelens" => remote::firelens(options, owner),
        "fluentd" => remote::fluentd(options),
        "syslog" => remote::syslog(options),
        "gelf" => remote::gelf(options),
        "journald" => remote::journald(options),
        other => Err(unsupported(format!("log driver {other}"))),
    }
}

/// The options of a driver, as given.
#[derive(Clone, Copy, Debug)]
struct Options<'a> {
    driver: &'a str,
    given: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// Refuses options that would be ignored.
    fn known(&self, known: &[&[&str]]) -> Result<(), DecodeTaskError> {
        for name in self.given.keys() {
            let is_known =
                known.iter().any(|names| names.contains(&name.as_str()));
            if !is_known {
                let driver = self.driver;
                return Err(unsupported(format!(
                    "log option {name} of log driver {driver}"
                )));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let text = self.given.get(name).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    fn wrong(&self, name: &str) -> DecodeTaskError {
        let text = self.get(name).unwrap_or_default();
        let driver = self.driver;
        malformed(format!("{name} {text:?} of log driver {driver}"))
    }

    /// An option read by `read`, which has no answer for a wrong one.
    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, DecodeTaskError> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => read(text).map(Some).ok_or_else(|| self.wrong(name)),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, DecodeTaskError> {
        // As Go's `ParseBool`, but for the rarer spellings.
        let flag = self.read(name, |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })?;
        Ok(flag.unwrap_or(false))
    }

    fn list(&self, name: &str) -> Vec<String> {
        let names = self.get(name).into_iter().flat_map(|it| it.split(','));
        names.map(str::to_owned).collect()
    }

    fn regex(&self, name: &str) -> Result<Option<String>, DecodeTaskError> {
        let checked = |text: &str| Regex::new(text).ok().map(|_| text.into());
        self.read(name, checked)
    }

    fn extras(&self) -> Result<ExtrasPlan, DecodeTaskError> {
        Ok(ExtrasPlan {
            labels: self.list("labels"),
            labels_regex: self.regex("labels-regex")?,
            env: self.list("env"),
            env_regex: self.regex("env-regex")?,
        })
    }

    fn tag(&self, default: &str) -> Result<TagTemplate, DecodeTaskError> {
        let text = self.get("tag").unwrap_or(default);
        TagTemplate::parse(text).map_err(|part| {
            unsupported(format!("{part} in the tag of a log driver"))
        })
    }

    /// The buffer of mode `non-blocking`.
    fn buffer(&self) -> Result<Option<u64>, DecodeTaskError> {
        let size = self.read("max-buffer-size", parse_size)?;
        match self.get("mode") {
            None | Some("blocking") => Ok(None),
            Some("non-blocking") => {
                Ok(Some(size.unwrap_or(DEFAULT_BUFFER_BYTES)))
            }
            Some(_) => Err(self.wrong("mode")),
        }
    }

    /// A plan with everything that most drivers have in common.
    fn remote(
        &self,
        driver: &'static str,
        form: RecordForm,
        address: LogAddress,
    ) -> Result<RemotePlan, DecodeTaskError> {
        Ok(RemotePlan {
            driver,
            form,
            address,
            tag: self.tag("{{.ID}}")?,
            extras: self.extras()?,
            must_connect: true,
            retry_wait: RETRY_WAIT,
            max_attempts: u32::MAX,
            reconnect_every: None,
            batch_max: BATCH_MAX,
            max_buffer_bytes: self.buffer()?,
        })
    }
}

fn decode_json_file(options: Options<'_>) -> Result<LogPlan, DecodeTaskError> {
    options.known(&[&COMMON, &EXTRAS, &["max-size", "max-file"]])?;
    let max_files = options.read("max-file", |text| {
        text.parse::<u32>().ok().filter(|files| *files > 0)
    })?;
    let max_size = match options.get("max-size") {
        Some("-1") => None,
        _ => options.read("max-size", |text| {
            parse_size(text).filter(|size| *size > 0)
        })?,
    };
    let (max_size_bytes, max_files) = match (max_size, max_files) {
        // Docker's default where only a size is given: one file.
        (Some(size), files) => (size, files.unwrap_or(1)),
        (None, files) => (DEFAULT_FILE_BYTES, files.unwrap_or(DEFAULT_FILES)),
    };
    let address =
        LogAddress::Files { max_size_bytes: Some(max_size_bytes), max_files };
    let mut lines =
        options.remote("json-file", RecordForm::JsonLine, address)?;
    // Without one there is none in the lines, as Docker does it.
    lines.tag = options.tag("")?;
    let lines = Some(Box::new(lines));
    Ok(LogPlan::JsonFile { max_size_bytes, max_files, lines })
}
