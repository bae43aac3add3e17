//! What of a container goes into its log records, whatever their form.

use std::sync::Arc;

use minato_core::env::Ids;
use regex::Regex;

use super::tag::TagField;
use super::{forward, gelf, journal, json_line, syslog};
use crate::runtime::{LogLine, LogPosition, Stream};
use crate::steps;
use crate::task::plan::{ExtrasPlan, RecordForm, RemotePlan};
use crate::task::record::ContainerFacts;

/// Digits of a container's short id, as Docker's.
const SHORT_ID: usize = 12;

/// What is known of the container that writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    /// Its id.
    pub(crate) id: String,
    /// Its name, without the slash that Docker puts before it.
    pub(crate) name: String,
    /// Its image as the definition has it, and the image's id.
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// What it was started with.
    pub(crate) command: String,
    pub(crate) created_ms: i64,
    /// The host's name.
    pub(crate) host: String,
    pub(crate) tag: String,
    /// Variables and labels that were asked for.
    pub(crate) extras: Vec<(String, String)>,
}

impl Writer {
    pub(crate) fn of(
        cx: &steps::ContainerContext,
        facts: &ContainerFacts,
        plan: &RemotePlan,
    ) -> Writer {
        let image = facts.image.clone().unwrap_or_default();
        let labels = steps::labels(&cx.task.plan, &cx.plan);
        let env = steps::env(cx, &image);
        let env = env.iter().filter_map(|pair| pair.split_once('='));
        let labels = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let mut extras = vec![];
        let ExtrasPlan { labels_regex, env_regex, .. } = &plan.extras;
        pick(labels, &plan.extras.labels, labels_regex, &mut extras);
        pick(env, &plan.extras.env, env_regex, &mut extras);
        let host = rustix::system::uname();
        let mut writer = Writer {
            id: cx.plan.id.clone(),
            name: cx.plan.name.clone(),
            image: cx.plan.image.clone(),
            image_id: image.id.clone(),
            command: steps::args(cx, &image).unwrap_or_default().join(" "),
            created_ms: facts.started_at_ms.unwrap_or(0),
            host: host.nodename().to_string_lossy().into_owned(),
            tag: String::new(),
            extras,
        };
        writer.tag = plan.tag.render(|field| writer.field(field));
        writer
    }

    pub(crate) fn short_id(&self) -> &str {
        short(&self.id)
    }

    fn field(&self, field: TagField) -> String {
        let digits = self.image_id.split_once(':').map_or("", |(_, hex)| hex);
        match field {
            TagField::Id => self.short_id().to_owned(),
            TagField::FullId => self.id.clone(),
            TagField::Name => self.name.clone(),
            TagField::ImageId => short(digits).to_owned(),
            TagField::ImageFullId => self.image_id.clone(),
            TagField::ImageName => self.image.clone(),
            TagField::DaemonName => "docker".to_owned(),
        }
    }

    /// A line as a record; `None` where the form has none for it.
    pub(crate) fn encode(
        &self,
        form: RecordForm,
        piece: &Piece<'_>,
        chunk: Option<&str>,
    ) -> Option<Vec<u8>> {
        // Docker's drivers for syslog and GELF leave out empty lines.
        let is_empty = piece.line.bytes.is_empty();
        match form {
            RecordForm::Forward { sub_second, .. } => {
                Some(forward::record(self, piece, sub_second, chunk))
            }
            RecordForm::Syslog { facility, format } => (!is_empty)
                .then(|| syslog::message(self, piece, facility, format)),
            RecordForm::Gelf { .. } => {
                (!is_empty).then(|| gelf::message(self, piece))
            }
            RecordForm::Journal => Some(journal::entry(self, piece)),
            RecordForm::JsonLine => Some(json_line::line(self, piece)),
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

fn pick<'a>(
    all: impl Iterator<Item = (&'a str, &'a str)>,
    names: &[String],
    pattern: &Option<String>,
    into: &mut Vec<(String, String)>,
) {
    // It was compiled when the plan was made.
    let pattern = pattern.as_deref().and_then(|text| Regex::new(text).ok());
    for (name, value) in all {
        let is_meant = names.iter().any(|wanted| wanted == name)
            || pattern.as_ref().is_some_and(|it| it.is_match(name));
        if is_meant {
            into.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// A line, or a piece of one that was too long.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) line: &'a LogLine,
    pub(crate) part: Option<Part>,
}

/// Where in a long line a piece belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The same for all pieces of a line.
    pub(crate) id: String,
    /// From 1 up.
    pub(crate) ordinal: u64,
    pub(crate) is_last: bool,
}

/// Numbers the pieces of long lines.
pub(crate) struct Pieces {
    ids: Arc<dyn Ids>,
    /// Of the two outputs: the line that is not yet whole.
    open: [Option<(String, u64)>; 2],
    /// The last place where every line was whole.
    whole: Option<LogPosition>,
}

impl Pieces {
    pub(crate) fn new(ids: Arc<dyn Ids>) -> Pieces {
        Pieces { ids, open: [None, None], whole: None }
    }

    /// Takes note of a line and the place after it.
    pub(crate) fn note(
        &mut self,
        line: &LogLine,
        position: LogPosition,
    ) -> Option<Part> {
        let slot = match line.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let open = self.open[slot].take();
        let part = match (open, line.partial) {
            (None, false) => None,
            (open, partial) => {
                let (id, before) = open.unwrap_or_else(|| (self.id(), 0));
                let ordinal = before + 1;
                if partial {
                    self.open[slot] = Some((id.clone(), ordinal));
                }
                Some(Part { id, ordinal, is_last: !partial })
            }
        };
        if self.open.iter().all(Option::is_none) {
            self.whole = Some(position);
        }
        part
    }

    /// 64 hexadecimal digits, as Docker's.
    fn id(&self) -> String {
        format!("{:032x}{:032x}", self.ids.uuid(), self.ids.uuid())
    }

    /// Where a reader may go on that remembers nothing.
    pub(crate) fn whole(&mut self) -> Option<LogPosition> {
        self.whole.take()
    }
}

/// A time in nanoseconds since the epoch; one that cannot be is the epoch.
pub(crate) fn time(time_ns: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or_default()
}
