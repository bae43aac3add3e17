//! The options of drivers that send records to a receiver.
//!
//! `https://docs.docker.com/engine/logging/drivers/` has a page for each.

use std::path::PathBuf;
use std::time::Duration;

use super::{COMMON, EXTRAS, LogOwner, Options, parse_size};
use crate::logs::tag::TagTemplate;
use crate::logs::{journal, syslog};
use crate::task::decode::{DecodeTaskError, malformed, unsupported};
use crate::task::plan::{
    GelfCompression, LogAddress, LogPlan, RecordForm, SyslogFormat,
};

/// Where Fluentd listens, by default.
const FLUENTD_ADDRESS: &str = "127.0.0.1:24224";
const FLUENTD_PORT: u16 = 24224;
const SYSLOG_PORT: u16 = 514;
/// Where a local syslog listens.
const SYSLOG_SOCKET: &str = "/dev/log";
/// `fluentd-async-reconnect-interval`, in milliseconds.
const RECONNECT_MS: std::ops::RangeInclusive<u64> = 100..=10_000;

/// The driver that sends to the task's own log router: Docker's `fluentd`,
/// with options that the upstream agent sets. The container's own options are
/// the router's affair.
pub(super) fn firelens(
    options: Options<'_>,
    owner: LogOwner<'_>,
) -> Result<LogPlan, DecodeTaskError> {
    let form = RecordForm::Forward { sub_second: true, is_acknowledged: false };
    let LogOwner { task_id, name, .. } = owner;
    let given = std::collections::BTreeMap::new();
    let mut plan = Options { given: &given, ..options }.remote(
        "awsfirelens",
        form,
        LogAddress::Router,
    )?;
    plan.tag = TagTemplate::literal(format!("{name}-firelens-{task_id}"));
    plan.must_connect = false;
    plan.max_buffer_bytes = options.buffer()?;
    if let Some(limit) = events(options, "log-driver-buffer-limit")? {
        plan.batch_max = plan.batch_max.min(limit);
    }
    Ok(LogPlan::Remote(Box::new(plan)))
}

/// A number of records to have in memory: at least one.
fn events(
    options: Options<'_>,
    name: &str,
) -> Result<Option<usize>, DecodeTaskError> {
    options.read(name, |text| {
        let number = usize::try_from(parse_size(text)?).ok()?;
        Some(number.max(1))
    })
}

pub(super) fn fluentd(
    options: Options<'_>,
) -> Result<LogPlan, DecodeTaskError> {
    options.known(&[
        &COMMON,
        &EXTRAS,
        &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-connect",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
        ],
    ])?;
    let address = options.get("fluentd-address").unwrap_or(FLUENTD_ADDRESS);
    let wrong = || options.wrong("fluentd-address");
    let address = match address.split_once("://") {
        None => LogAddress::Tcp(host_port(address, Some(FLUENTD_PORT))?),
        Some(("tcp", rest)) => {
            LogAddress::Tcp(host_port(rest, Some(FLUENTD_PORT))?)
        }
        Some(("unix", path)) => {
            LogAddress::Unix(socket_path(path).ok_or_else(wrong)?)
        }
        Some(("tls", _)) => return Err(unsupported("a log driver with TLS")),
        Some(_) => return Err(wrong()),
    };
    let form = RecordForm::Forward {
        sub_second: options.flag("fluentd-sub-second-precision")?,
        is_acknowledged: options.flag("fluentd-request-ack")?,
    };
    let mut plan = options.remote("fluentd", form, address)?;
    // The old name of the option means the same.
    plan.must_connect = !options.flag("fluentd-async")?
        && !options.flag("fluentd-async-connect")?;
    let millis =
        |name: &str| options.read(name, |text| text.parse::<u64>().ok());
    if let Some(wait) = millis("fluentd-retry-wait")? {
        plan.retry_wait = Duration::from_millis(wait.max(1));
    }
    let retries =
        options.read("fluentd-max-retries", |text| text.parse::<u32>().ok())?;
    if let Some(retries) = retries {
        plan.max_attempts = retries.saturating_add(1);
    }
    if let Some(limit) = events(options, "fluentd-buffer-limit")? {
        plan.batch_max = plan.batch_max.min(limit);
    }
    plan.reconnect_every = options
        .read("fluentd-async-reconnect-interval", |text| {
            let millis = text.parse::<u64>().ok()?;
            RECONNECT_MS.contains(&millis).then_some(millis)
        })?
        .map(Duration::from_millis);
    Ok(LogPlan::Remote(Box::new(plan)))
}

pub(super) fn syslog(options: Options<'_>) -> Result<LogPlan, DecodeTaskError> {
    // TLS's options are not among them: there is no TLS.
    options.known(&[
        &COMMON,
        &EXTRAS,
        &["syslog-address", "syslog-facility", "syslog-format"],
    ])?;
    let wrong = || options.wrong("syslog-address");
    let address = match options.get("syslog-address") {
        None => LogAddress::Unixgram(PathBuf::from(SYSLOG_SOCKET)),
        Some(text) => match text.split_once("://").ok_or_else(wrong)? {
            ("tcp", rest) => {
                LogAddress::Tcp(host_port(rest, Some(SYSLOG_PORT))?)
            }
            ("udp", rest) => {
                LogAddress::Udp(host_port(rest, Some(SYSLOG_PORT))?)
            }
            ("unix", path) => {
                LogAddress::Unix(socket_path(path).ok_or_else(wrong)?)
            }
            ("unixgram", path) => {
                LogAddress::Unixgram(socket_path(path).ok_or_else(wrong)?)
            }
            ("tcp+tls", _) => {
                return Err(unsupported("a log driver with TLS"));
            }
            _ => return Err(wrong()),
        },
    };
    /// `daemon`, Docker's default.
    const DAEMON: u8 = 3;
    let facility = options.read("syslog-facility", syslog::facility)?;
    let format = options.read("syslog-format", |text| match text {
        "rfc3164" => Some(SyslogFormat::Rfc3164),
        "rfc5424" => Some(SyslogFormat::Rfc5424),
        "rfc5424micro" => Some(SyslogFormat::Rfc5424Micro),
        _ => None,
    })?;
    let form = RecordForm::Syslog {
        facility: facility.unwrap_or(DAEMON),
        format: format.unwrap_or(SyslogFormat::Local),
    };
    let plan = options.remote("syslog", form, address)?;
    Ok(LogPlan::Remote(Box::new(plan)))
}

pub(super) fn gelf(options: Options<'_>) -> Result<LogPlan, DecodeTaskError> {
    options.known(&[
        &COMMON,
        &EXTRAS,
        &[
            "gelf-address",
            "gelf-compression-type",
            "gelf-compression-level",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ],
    ])?;
    let text = options.get("gelf-address").ok_or_else(|| {
        malformed("gelf-address is a required parameter of log driver gelf")
    })?;
    let wrong = || options.wrong("gelf-address");
    let (protocol, rest) = text.split_once("://").ok_or_else(wrong)?;
    let address = match protocol {
        "udp" => LogAddress::Udp(host_port(rest, None)?),
        "tcp" => LogAddress::Tcp(host_port(rest, None)?),
        _ => return Err(wrong()),
    };
    let is_tcp = protocol == "tcp";
    for (names, is_right) in [
        (["gelf-compression-type", "gelf-compression-level"], !is_tcp),
        (["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"], is_tcp),
    ] {
        for name in names {
            if options.get(name).is_some() && !is_right {
                return Err(malformed(format!("{name} with {protocol}")));
            }
        }
    }
    /// Docker's default: the fastest.
    const LEVEL: u32 = 1;
    let level = options.read("gelf-compression-level", |text| {
        text.parse::<u32>().ok().filter(|level| *level <= 9)
    })?;
    let level = level.unwrap_or(LEVEL);
    let compression = options.read("gelf-compression-type", |text| {
        Some(match text {
            "gzip" => GelfCompression::Gzip(level),
            "zlib" => GelfCompression::Zlib(level),
            "none" => GelfCompression::None,
            _ => return None,
        })
    })?;
    let compression = compression.unwrap_or(GelfCompression::Gzip(level));
    let form = RecordForm::Gelf { compression };
    let mut plan = options.remote("gelf", form, address)?;
    let number =
        |name: &str| options.read(name, |text| text.parse::<u32>().ok());
    if let Some(attempts) = number("gelf-tcp-max-reconnect")? {
        plan.max_attempts = attempts.saturating_add(1);
    }
    if let Some(seconds) = number("gelf-tcp-reconnect-delay")? {
        plan.retry_wait = Duration::from_secs(seconds.into());
    }
    Ok(LogPlan::Remote(Box::new(plan)))
}

pub(super) fn journald(
    options: Options<'_>,
) -> Result<LogPlan, DecodeTaskError> {
    options.known(&[&COMMON, &EXTRAS])?;
    let address = LogAddress::Unixgram(PathBuf::from(journal::SOCKET));
    let plan = options.remote("journald", RecordForm::Journal, address)?;
    Ok(LogPlan::Remote(Box::new(plan)))
}

/// `HOST:PORT`; without a port, the default one.
fn host_port(
    text: &str,
    default: Option<u16>,
) -> Result<String, DecodeTaskError> {
    let wrong = || malformed(format!("the address {text:?} of a log driver"));
    // The colons within brackets are those of an IPv6 address.
    let after = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after..].rfind(':') {
        Some(at) => (&text[..after + at], Some(&text[after + at + 1..])),
        None => (text, None),
    };
    let port = match port {
        None => default.ok_or_else(wrong)?,
        Some(port) => port.parse().map_err(|_| wrong())?,
    };
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

fn socket_path(text: &str) -> Option<PathBuf> {
    text.starts_with('/').then(|| PathBuf::from(text))
}
