//! From Docker's log configuration to a plan.

use std::collections::BTreeMap;

use minato_wire::acs;

use super::container_decode::parse_size;
use super::decode::{DecodeTaskError, malformed, unsupported};
use super::plan::{AwslogsPlan, LogPlan};

/// What a container without log configuration keeps; Docker keeps everything,
/// until the disk is full.
const DEFAULT_FILE_BYTES: u64 = 16 << 20;
const DEFAULT_FILES: u32 = 4;

/// Buffer of mode `non-blocking`, as the upstream agent sets it.
const DEFAULT_BUFFER_BYTES: u64 = 10 << 20;

/// Makes the log plan of a container.
pub(crate) fn decode_log(
    config: Option<&acs::LogConfig>,
    task_id: &str,
    container_name: &str,
    container_id: &str,
) -> Result<LogPlan, DecodeTaskError> {
    let Some(config) = config.filter(|config| !config.r#type.is_empty()) else {
        return Ok(LogPlan::JsonFile {
            max_size_bytes: DEFAULT_FILE_BYTES,
            max_files: DEFAULT_FILES,
        });
    };
    let options = &config.config;
    match config.r#type.as_str() {
        "none" => {
            known_options("none", options, &[])?;
            Ok(LogPlan::None)
        }
        "json-file" => decode_json_file(options),
        "awslogs" => {
            decode_awslogs(options, task_id, container_name, container_id)
        }
        other => Err(unsupported(format!("log driver {other}"))),
    }
}

/// Refuses options that would be ignored.
fn known_options(
    driver: &str,
    options: &BTreeMap<String, String>,
    known: &[&str],
) -> Result<(), DecodeTaskError> {
    for name in options.keys() {
        if !known.contains(&name.as_str()) {
            return Err(unsupported(format!(
                "log option {name} of log driver {driver}"
            )));
        }
    }
    Ok(())
}

fn decode_json_file(
    options: &BTreeMap<String, String>,
) -> Result<LogPlan, DecodeTaskError> {
    // `mode` changes nothing for a file: writing one never waits for anyone.
    known_options(
        "json-file",
        options,
        &["max-size", "max-file", "mode", "max-buffer-size"],
    )?;
    let max_files = match options.get("max-file") {
        None => None,
        Some(text) => {
            let files = text.parse::<u32>().ok().filter(|files| *files > 0);
            Some(files.ok_or_else(|| {
                malformed(format!("max-file {text:?} of log driver json-file"))
            })?)
        }
    };
    let max_size = match options.get("max-size").map(String::as_str) {
        None | Some("-1") => None,
        Some(text) => {
            let size = parse_size(text).filter(|size| *size > 0);
            Some(size.ok_or_else(|| {
                malformed(format!("max-size {text:?} of log driver json-file"))
            })?)
        }
    };
    Ok(match (max_size, max_files) {
        // Docker's default where only a size is given: one file.
        (Some(max_size_bytes), files) => {
            LogPlan::JsonFile { max_size_bytes, max_files: files.unwrap_or(1) }
        }
        (None, files) => LogPlan::JsonFile {
            max_size_bytes: DEFAULT_FILE_BYTES,
            max_files: files.unwrap_or(DEFAULT_FILES),
        },
    })
}

fn decode_awslogs(
    options: &BTreeMap<String, String>,
    task_id: &str,
    container_name: &str,
    container_id: &str,
) -> Result<LogPlan, DecodeTaskError> {
    known_options(
        "awslogs",
        options,
        &[
            "awslogs-group",
            "awslogs-region",
            "awslogs-stream-prefix",
            "awslogs-stream",
            "awslogs-create-group",
            "mode",
            "max-buffer-size",
        ],
    )?;
    let get = |name: &str| {
        options.get(name).map(String::as_str).filter(|text| !text.is_empty())
    };
    let needed = |name: &str| {
        get(name).ok_or_else(|| {
            malformed(format!("must specify a value for log opt '{name}'"))
        })
    };
    let stream = match (get("awslogs-stream"), get("awslogs-stream-prefix")) {
        (Some(stream), _) => stream.to_owned(),
        (None, Some(prefix)) => {
            format!("{prefix}/{container_name}/{task_id}")
        }
        (None, None) => container_id.to_owned(),
    };
    let create_group = match get("awslogs-create-group") {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(malformed(format!("awslogs-create-group {other:?}")));
        }
    };
    let buffer = match get("max-buffer-size") {
        None => DEFAULT_BUFFER_BYTES,
        Some(text) => parse_size(text)
            .ok_or_else(|| malformed(format!("max-buffer-size {text:?}")))?,
    };
    let max_buffer_bytes = match get("mode") {
        None | Some("blocking") => None,
        Some("non-blocking") => Some(buffer),
        Some(other) => {
            return Err(malformed(format!("log mode {other:?}")));
        }
    };
    Ok(LogPlan::Awslogs(AwslogsPlan {
        group: needed("awslogs-group")?.to_owned(),
        region: needed("awslogs-region")?.to_owned(),
        stream,
        create_group,
        max_buffer_bytes,
    }))
}
