//! What a fake container wrote.

use std::time::Duration;

use super::FakeRuntime;
use crate::runtime::{LogChunk, LogPosition, LogSource, Op};

pub(super) struct FakeLog {
    pub(super) fake: FakeRuntime,
    pub(super) id: String,
    pub(super) at: usize,
}

impl LogSource for FakeLog {
    fn next(&mut self, max: usize, wait: Duration) -> Op<'_, LogChunk> {
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + wait;
            loop {
                let changed = self.fake.changed.clone();
                let changed = changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let world = self.fake.world.lock();
                    let lines = world.logs.get(&self.id);
                    let lines = lines.map(Vec::as_slice).unwrap_or_default();
                    let ended = world
                        .containers
                        .get(&self.id)
                        .is_none_or(|container| container.exit.is_some());
                    let news: Vec<_> = lines[self.at..]
                        .iter()
                        .take(max)
                        .cloned()
                        .enumerate()
                        .map(|(i, line)| {
                            let after = (self.at + i + 1).to_string();
                            (line, LogPosition(after))
                        })
                        .collect();
                    self.at += news.len();
                    let end = ended && self.at == lines.len();
                    if !news.is_empty() || end {
                        return Ok(LogChunk {
                            lines: news,
                            lost_lines: 0,
                            end,
                        });
                    }
                }
                if tokio::time::timeout_at(deadline, changed).await.is_err() {
                    return Ok(LogChunk::default());
                }
            }
        })
    }

    fn acknowledge<'a>(&'a mut self, _: &'a LogPosition) -> Op<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
