//! Where a container's output is to go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::logs::tag::TagTemplate;

/// Where a container's output goes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum LogPlan {
    /// To a file on the host, of which so much is kept.
    JsonFile {
        /// Size at which a new file is begun.
        max_size_bytes: u64,
        /// Number of files.
        max_files: u32,
        /// The same lines as Docker writes them, where they were asked for.
        lines: Option<Box<RemotePlan>>,
    },
    /// To CloudWatch Logs.
    Awslogs(AwslogsPlan),
    /// To a receiver of log records.
    Remote(Box<RemotePlan>),
    /// Nowhere.
    #[default]
    None,
}

/// Where in CloudWatch Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwslogsPlan {
    /// The log group.
    pub group: String,
    /// Its region.
    pub region: String,
    /// The log stream.
    pub stream: String,
    /// Whether the group is made where there is none.
    pub create_group: bool,
    /// Which lines begin an event; every line does where there is nothing.
    pub multiline: Option<MultilinePlan>,
    /// `non-blocking` with this much of a buffer; `None` is `blocking`.
    pub max_buffer_bytes: Option<u64>,
}

/// How lines become events of several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultilinePlan {
    /// A regular expression that the first line of an event matches.
    pub pattern: String,
    /// An event takes no lines later than this after its first.
    pub max_age: Duration,
}

/// A receiver of records, and how it gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePlan {
    /// The driver, by Docker's name.
    pub driver: &'static str,
    /// How a record is written.
    pub form: RecordForm,
    /// Where it goes.
    pub address: LogAddress,
    /// What the receiver knows the container by.
    pub tag: TagTemplate,
    /// What else of the container goes with each record.
    pub extras: ExtrasPlan,
    /// Whether the container starts only if the receiver can be reached.
    pub must_connect: bool,
    /// The wait after the first failure.
    pub retry_wait: Duration,
    /// How often a record is tried before it is lost.
    pub max_attempts: u32,
    /// Connections are made anew after this time.
    pub reconnect_every: Option<Duration>,
    /// Most records in memory.
    pub batch_max: usize,
    /// `non-blocking` with this much of a buffer; `None` is `blocking`.
    pub max_buffer_bytes: Option<u64>,
}

/// The forms of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordForm {
    /// The Fluentd forward protocol.
    Forward {
        /// Whether times have nanoseconds.
        sub_second: bool,
        /// Whether the receiver says what it has.
        is_acknowledged: bool,
    },
    /// A syslog message.
    Syslog {
        /// Its facility, 0 to 23.
        facility: u8,
        /// Its format.
        format: SyslogFormat,
    },
    /// A GELF message.
    Gelf {
        /// How a datagram is made smaller.
        compression: GelfCompression,
    },
    /// An entry of systemd's journal.
    Journal,
    /// A line of Docker's `json-file`.
    JsonLine,
}

/// The formats of a syslog message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogFormat {
    /// What a local syslog expects: no host name.
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
}

/// How a GELF datagram is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GelfCompression {
    /// gzip, of the level given.
    Gzip(u32),
    /// zlib, of the level given.
    Zlib(u32),
    /// Not at all.
    None,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogAddress {
    /// A TCP connection to `HOST:PORT`.
    Tcp(String),
    /// Datagrams to `HOST:PORT`.
    Udp(String),
    /// A stream socket of the host's.
    Unix(PathBuf),
    /// A datagram socket of the host's.
    Unixgram(PathBuf),
    /// The socket of the task's own log router.
    Router,
    /// Files on the host, the newest of which has the container's name.
    Files {
        /// Size at which a new file is begun; none is never.
        max_size_bytes: Option<u64>,
        /// Number of files.
        max_files: u32,
    },
}

/// Variables and labels that go with each record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtrasPlan {
    /// Labels by name.
    pub labels: Vec<String>,
    /// Labels by a regular expression.
    pub labels_regex: Option<String>,
    /// Variables by name.
    pub env: Vec<String>,
    /// Variables by a regular expression.
    pub env_regex: Option<String>,
}

/// What a log router is to do (FireLens).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterPlan {
    /// What it is.
    pub kind: RouterKind,
    /// Whether records get the task's names.
    pub has_metadata: bool,
    /// A further configuration file.
    pub include: Option<IncludePlan>,
    /// Options of the containers whose output it takes, in their order.
    pub outputs: Vec<RouterOutput>,
}

/// Where a router's further configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncludePlan {
    /// A file in the router's container.
    File(String),
    /// An object in S3 by its ARN, not checked yet: what is wrong with it is
    /// told when it is fetched, as upstream.
    Object(String),
}

/// The kinds of log routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterKind {
    /// Fluentd.
    Fluentd,
    /// Fluent Bit.
    FluentBit,
}

impl RouterKind {
    /// As ECS writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            RouterKind::Fluentd => "fluentd",
            RouterKind::FluentBit => "fluentbit",
        }
    }

    /// The option that names a router's output plugin.
    pub const fn output_key(self) -> &'static str {
        match self {
            RouterKind::Fluentd => "@type",
            RouterKind::FluentBit => "Name",
        }
    }
}

/// Where a router sends a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterOutput {
    /// The container.
    pub container: String,
    /// Its log options; secret ones name variables of the router's.
    pub options: BTreeMap<String, String>,
}
