//! What a container wrote, read from the engine's files.

use std::time::Duration;

use minato_engine::container::{LogEntry, LogReader, LogStream};
use tokio::time::Instant;

use super::other;
use crate::runtime::{LogChunk, LogLine, LogPosition, LogSource, Op, Stream};

pub(super) struct EngineLog {
    pub(super) reader: LogReader,
}

impl LogSource for EngineLog {
    fn next(&mut self, max: usize, wait: Duration) -> Op<'_, LogChunk> {
        Box::pin(async move {
            let deadline = Instant::now() + wait;
            let mut chunk = LogChunk::default();
            // The first entry is worth waiting for, the rest is taken as far
            // as it is there.
            let next = self.reader.next();
            let mut entry = match tokio::time::timeout_at(deadline, next).await
            {
                Err(_) => return Ok(chunk),
                Ok(entry) => entry.map_err(|error| other(&error))?,
            };
            if entry.is_none() {
                chunk.end = true;
                return Ok(chunk);
            }
            while let Some(found) = entry {
                match found {
                    LogEntry::Line(line) => {
                        let position =
                            serde_json::to_string(&self.reader.position())
                                .map_err(|error| other(&error))?;
                        chunk.lines.push((
                            LogLine {
                                stream: match line.stream {
                                    LogStream::Stdout => Stream::Stdout,
                                    LogStream::Stderr => Stream::Stderr,
                                },
                                time_ns: i64::try_from(line.time_ns)
                                    .unwrap_or(i64::MAX),
                                bytes: line.bytes,
                                partial: line.partial,
                            },
                            LogPosition(position),
                        ));
                    }
                    LogEntry::Dropped { lines } => chunk.lost_lines += lines,
                }
                if chunk.lines.len() >= max {
                    break;
                }
                entry =
                    self.reader.try_next().map_err(|error| other(&error))?;
            }
            Ok(chunk)
        })
    }

    fn acknowledge<'a>(&'a mut self, position: &'a LogPosition) -> Op<'a, ()> {
        Box::pin(async move {
            let position = serde_json::from_str(&position.0)
                .map_err(|error| other(&error))?;
            self.reader.acknowledge(position).map_err(|error| other(&error))
        })
    }
}
