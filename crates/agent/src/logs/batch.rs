//! Log lines as CloudWatch Logs takes them: events, in batches.

use regex::bytes::Regex;

use crate::runtime::{LogLine, LogPosition, Stream};
use crate::task::plan::MultilinePlan;

/// Most events of one `PutLogEvents`.
pub(crate) const EVENTS_MAX: usize = 10_000;
/// Most bytes of one `PutLogEvents`, each event's overhead included.
pub(crate) const BYTES_MAX: usize = 1_048_576;
/// What every event counts beyond its message.
pub(crate) const EVENT_OVERHEAD: usize = 26;
/// Most bytes of one event's message: Docker's own, 256 KiB less the overhead.
pub(crate) const MESSAGE_MAX: usize = 262_144 - EVENT_OVERHEAD;
/// Longest span of one `PutLogEvents`.
pub(crate) const SPAN_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// One log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) timestamp_ms: i64,
    pub(crate) message: String,
}

impl Event {
    fn size(&self) -> usize {
        self.message.len() + EVENT_OVERHEAD
    }
}

/// A place in the log, and which events lie before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Events made so far, by this reader.
    pub(crate) events: u64,
    /// Where to read on.
    pub(crate) position: Option<LogPosition>,
    /// Time of the last event.
    pub(crate) last_ms: i64,
    /// How many of the last events have just this time.
    pub(crate) same_ms: u64,
}

/// Makes events of lines.
///
/// Deterministic: the same lines from the same mark make the same events, so
/// that after a restart it is enough to count which of them arrived.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// Unfinished lines of the two outputs: time and bytes.
    pending: [Option<(i64, Vec<u8>)>; 2],
    /// How lines become events of several lines, if they do.
    multiline: Option<Multiline>,
    /// The place after the last line, if no line is unfinished there.
    whole: Option<LogPosition>,
    /// Where events and the log last were at one: no line unfinished.
    mark: Mark,
    events: u64,
    last_ms: i64,
    same_ms: u64,
}

impl Assembler {
    pub(crate) fn new(last_ms: i64, same_ms: u64) -> Assembler {
        Assembler {
            pending: [None, None],
            multiline: None,
            whole: None,
            mark: Mark { events: 0, position: None, last_ms, same_ms },
            events: 0,
            last_ms,
            same_ms,
        }
    }

    /// The same for events of several lines.
    pub(crate) fn with_multiline(
        mut self,
        plan: Option<&MultilinePlan>,
    ) -> Assembler {
        self.multiline = plan.and_then(Multiline::of);
        self
    }

    /// The last place that needs nothing remembered but itself.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Takes a line; `out` gets the events it completes.
    pub(crate) fn push(
        &mut self,
        line: LogLine,
        position: LogPosition,
        out: &mut Vec<Event>,
    ) {
        let time_ms = line.time_ns.div_euclid(1_000_000);
        let slot = match line.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let before = self.whole.take();
        let (time, mut bytes) =
            self.pending[slot].take().unwrap_or((time_ms, vec![]));
        bytes.extend_from_slice(&line.bytes);
        if line.partial && bytes.len() < MESSAGE_MAX {
            self.pending[slot] = Some((time, bytes));
        } else {
            self.line(time, &bytes, before, out);
        }
        if self.pending.iter().all(Option::is_none) {
            if !self.multiline.as_ref().is_some_and(Multiline::is_open) {
                self.set_mark(position.clone());
            }
            self.whole = Some(position);
        }
    }

    /// Takes a whole line, which was read after the place `before`.
    fn line(
        &mut self,
        time_ms: i64,
        line: &[u8],
        before: Option<LogPosition>,
        out: &mut Vec<Event>,
    ) {
        let Some(multiline) = &mut self.multiline else {
            self.emit(time_ms, line, out);
            return;
        };
        if multiline.is_first(time_ms, line) {
            self.close(out);
            // A new reader has to begin with this line.
            if let Some(before) = before {
                self.set_mark(before);
            }
        }
        if let Some(multiline) = &mut self.multiline {
            multiline.add(time_ms, line);
        }
    }

    /// Ends the event of several lines that is open.
    fn close(&mut self, out: &mut Vec<Event>) {
        let open = self.multiline.as_mut().and_then(|it| it.open.take());
        if let Some((time_ms, bytes)) = open {
            self.emit(time_ms, &bytes, out);
        }
    }

    fn set_mark(&mut self, position: LogPosition) {
        self.mark = Mark {
            events: self.events,
            position: Some(position),
            last_ms: self.last_ms,
            same_ms: self.same_ms,
        };
    }

    /// Ends an event of several lines that no later line can belong to.
    pub(crate) fn expire(&mut self, now_ms: i64, out: &mut Vec<Event>) {
        let is_over = self
            .multiline
            .as_ref()
            .and_then(Multiline::expires_at)
            .is_some_and(|at| now_ms >= at);
        if is_over {
            self.close(out);
            if let Some(position) = self.whole.clone() {
                self.set_mark(position);
            }
        }
    }

    /// When [`Assembler::expire`] has something to do, at the earliest.
    pub(crate) fn expires_at(&self) -> Option<i64> {
        self.multiline.as_ref().and_then(Multiline::expires_at)
    }

    /// The container ended: what is unfinished is all there is.
    pub(crate) fn finish(&mut self, out: &mut Vec<Event>) {
        for slot in 0..self.pending.len() {
            if let Some((time, bytes)) = self.pending[slot].take() {
                self.line(time, &bytes, None, out);
            }
        }
        self.close(out);
    }

    fn emit(&mut self, time_ms: i64, bytes: &[u8], out: &mut Vec<Event>) {
        // CloudWatch Logs has no empty events; Docker leaves them out too.
        let text = String::from_utf8_lossy(bytes);
        let mut rest: &str = &text;
        while !rest.is_empty() {
            let mut end = rest.len().min(MESSAGE_MAX);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (message, tail) = rest.split_at(end);
            rest = tail;
            // Events go up in time only: a clock set back must not reorder.
            let timestamp_ms = time_ms.max(self.last_ms);
            if timestamp_ms == self.last_ms {
                self.same_ms += 1;
            } else {
                self.last_ms = timestamp_ms;
                self.same_ms = 1;
            }
            self.events += 1;
            out.push(Event { timestamp_ms, message: message.to_owned() });
        }
    }
}

/// The open event of several lines, and which line begins the next one.
///
/// Which it is depends on the lines and their times alone, so that a new
/// reader makes the same events of them.
#[derive(Debug)]
struct Multiline {
    first: Regex,
    max_age_ms: i64,
    /// Time of the first line, and all lines with their line feeds.
    open: Option<(i64, Vec<u8>)>,
}

/// A line is read this much later than its time at most: after that, a line
/// that could still belong to an event has long been read.
const READ_DELAY_MS: i64 = 1000;

impl Multiline {
    /// The pattern was compiled when the plan was made.
    fn of(plan: &MultilinePlan) -> Option<Multiline> {
        let max_age_ms = i64::try_from(plan.max_age.as_millis()).ok()?;
        let first = Regex::new(&plan.pattern).ok()?;
        Some(Multiline { first, max_age_ms, open: None })
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn is_first(&self, time_ms: i64, line: &[u8]) -> bool {
        let Some((since, bytes)) = &self.open else { return true };
        time_ms.saturating_sub(*since) > self.max_age_ms
            || bytes.len() + line.len() >= MESSAGE_MAX
            || self.first.is_match(line)
    }

    fn add(&mut self, time_ms: i64, line: &[u8]) {
        let (_, bytes) = self.open.get_or_insert((time_ms, vec![]));
        bytes.extend_from_slice(line);
        // As Docker: but for lines that fill an event alone.
        if line.len() < MESSAGE_MAX {
            bytes.push(b'\n');
        }
    }

    fn expires_at(&self) -> Option<i64> {
        let (since, _) = self.open.as_ref()?;
        Some(since.saturating_add(self.max_age_ms + READ_DELAY_MS))
    }
}

/// How many of `events` fit in one `PutLogEvents`.
pub(crate) fn batch_len(events: &[Event]) -> usize {
    let Some(first) = events.first() else { return 0 };
    let mut bytes = 0;
    for (count, event) in events.iter().enumerate() {
        bytes += event.size();
        if count == EVENTS_MAX
            || bytes > BYTES_MAX
            || event.timestamp_ms - first.timestamp_ms >= SPAN_MAX_MS
        {
            // One event always fits: MESSAGE_MAX is below BYTES_MAX.
            return count;
        }
    }
    events.len()
}
