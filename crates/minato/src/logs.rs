//! `minato logs`, and the following of logs that `minato run` does too.
//!
//! Output of the `awslogs` driver is read where it went, in CloudWatch Logs;
//! other output is read from the host's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use minato_client::CallError;
use minato_engine::container::{LogEntry, LogPosition, LogReader};
use minato_wire::ecs::{self, LogDriver};
use minato_wire::logs::{FilterLogEventsRequest, FilterLogEventsResponse};

use crate::api::{Api, block_on, id_of};
use crate::args::LogsArgs;
use crate::home::Home;

/// How often a follower looks for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks after a task's end: its last lines may still be on their way.
const LAST_LOOKS: u32 = 5;
/// Colours of containers, in turn: those that read well on light and dark.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

pub(crate) fn run(home: &Home, args: &LogsArgs) -> Result<ExitCode> {
    let api = Api::of(home)?;
    block_on(async {
        let task = api.find(&args.task).await?;
        let definition = api.definition(&task).await?;
        let mut follower = Follower::of(home, &task, &definition);
        if let Some(container) = &args.container {
            follower.only(container)?;
        }
        let mut looks_left = LAST_LOOKS;
        loop {
            follower.look(&api).await?;
            if !args.follow {
                return Ok(ExitCode::SUCCESS);
            }
            if is_stopped(&api, &task).await? {
                looks_left -= 1;
                if looks_left == 0 {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
}

async fn is_stopped(api: &Api, task: &ecs::Task) -> Result<bool> {
    let cluster = task.cluster_arn.clone().unwrap_or_default();
    let arn = task.task_arn.clone().unwrap_or_default();
    let now = api.describe(&cluster, &[arn]).await?;
    Ok(now.iter().all(|task| task.last_status.as_deref() == Some("STOPPED")))
}

/// Prints what is new in the logs of a task's containers.
pub(crate) struct Follower {
    sources: Vec<Source>,
    width: usize,
    is_coloured: bool,
}

/// One container's output.
struct Source {
    name: String,
    colour: u8,
    kind: Kind,
}

enum Kind {
    /// A stream of CloudWatch Logs: from when on, and what was seen then.
    Stream {
        group: String,
        stream: String,
        from_ms: i64,
        seen: BTreeSet<String>,
    },
    /// The host's files.
    Files { reader: LogReader, partial: BTreeMap<u8, Vec<u8>> },
    /// The driver keeps nothing.
    Nothing,
}

impl Follower {
    /// Follows all containers of a task from the beginning.
    pub(crate) fn of(
        home: &Home,
        task: &ecs::Task,
        definition: &ecs::TaskDefinition,
    ) -> Follower {
        let containers = definition.container_definitions.iter().flatten();
        let sources: Vec<Source> = containers
            .zip(COLOURS.iter().cycle())
            .map(|(container, colour)| Source {
                name: container.name.clone().unwrap_or_default(),
                colour: *colour,
                kind: Kind::of(home, task, container),
            })
            .collect();
        Follower {
            width: sources.iter().map(|one| one.name.len()).max().unwrap_or(0),
            sources,
            is_coloured: std::io::stdout().is_terminal(),
        }
    }

    /// Puts the task before the name of each container, where the output of
    /// several tasks is mixed.
    pub(crate) fn name_task(&mut self, task: &ecs::Task) {
        let id: String = id_of(task).chars().take(6).collect();
        for source in &mut self.sources {
            source.name = format!("{id}/{}", source.name);
            self.width = self.width.max(source.name.len());
        }
    }

    /// Keeps one container only.
    fn only(&mut self, container: &str) -> Result<()> {
        self.sources.retain(|source| source.name == container);
        anyhow::ensure!(
            !self.sources.is_empty(),
            "the task has no container {container}"
        );
        Ok(())
    }

    /// Prints the lines that came since the last look.
    pub(crate) async fn look(&mut self, api: &Api) -> Result<()> {
        let mut lines: Vec<(i64, usize, String)> = vec![];
        for (index, source) in self.sources.iter_mut().enumerate() {
            for (at, line) in source.kind.read(api).await? {
                lines.push((at, index, line));
            }
        }
        // By time across containers; a container's own order stays.
        lines.sort_by_key(|(at, _, _)| *at);
        let mut out = std::io::stdout().lock();
        for (_, index, line) in lines {
            let Source { name, colour, .. } = &self.sources[index];
            let width = self.width;
            let written = if self.is_coloured {
                writeln!(out, "\x1b[{colour}m{name:width$} |\x1b[0m {line}")
            } else {
                writeln!(out, "{name:width$} | {line}")
            };
            // Whoever read the output is gone: so is the need for it.
            written?;
        }
        out.flush()?;
        Ok(())
    }
}

impl Kind {
    fn of(
        home: &Home,
        task: &ecs::Task,
        container: &ecs::ContainerDefinition,
    ) -> Kind {
        let name = container.name.as_deref().unwrap_or_default();
        let shown = task
            .containers
            .iter()
            .flatten()
            .find(|known| known.name.as_deref() == Some(name));
        let runtime_id = shown.and_then(|known| known.runtime_id.clone());
        let log = container.log_configuration.as_ref();
        let options = log.and_then(|log| log.options.as_ref());
        let option = |name: &str| options.and_then(|all| all.get(name));
        match log.and_then(|log| log.log_driver) {
            Some(LogDriver::Awslogs) => {
                let stream = match option("awslogs-stream-prefix") {
                    Some(prefix) => {
                        format!("{prefix}/{name}/{}", id_of(task))
                    }
                    None => runtime_id.unwrap_or_default(),
                };
                Kind::Stream {
                    group: option("awslogs-group").cloned().unwrap_or_default(),
                    stream,
                    from_ms: 0,
                    seen: BTreeSet::new(),
                }
            }
            None | Some(LogDriver::JsonFile) => match runtime_id {
                Some(id) => {
                    Kind::files(home.containers().join(id).join("logs"))
                }
                None => Kind::Nothing,
            },
            Some(_) => Kind::Nothing,
        }
    }

    fn files(dir: PathBuf) -> Kind {
        let reader = LogReader::open(&dir, LogPosition::default());
        Kind::Files { reader, partial: BTreeMap::new() }
    }

    /// Lines that are new, with their times in milliseconds.
    async fn read(&mut self, api: &Api) -> Result<Vec<(i64, String)>> {
        match self {
            Kind::Nothing => Ok(vec![]),
            Kind::Files { reader, partial } => {
                let mut lines = vec![];
                while let Some(entry) = reader.try_next()? {
                    lines.extend(whole(entry, partial));
                }
                Ok(lines)
            }
            Kind::Stream { group, stream, from_ms, seen } => {
                read_stream(api, group, stream, from_ms, seen).await
            }
        }
    }
}

/// Puts lines together that were cut because they are long.
fn whole(
    entry: LogEntry,
    partial: &mut BTreeMap<u8, Vec<u8>>,
) -> Option<(i64, String)> {
    match entry {
        LogEntry::Line(line) => {
            let held = partial.entry(line.stream as u8).or_default();
            held.extend_from_slice(&line.bytes);
            if line.partial {
                return None;
            }
            let bytes = std::mem::take(held);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let millis = line.time_ns / 1_000_000;
            Some((i64::try_from(millis).unwrap_or(i64::MAX), text))
        }
        LogEntry::Dropped { lines } => {
            Some((0, format!("[{lines} lines were dropped]")))
        }
    }
}

async fn read_stream(
    api: &Api,
    group: &str,
    stream: &str,
    from_ms: &mut i64,
    seen: &mut BTreeSet<String>,
) -> Result<Vec<(i64, String)>> {
    let mut lines = vec![];
    let mut next_token = None;
    let start = *from_ms;
    loop {
        let request = FilterLogEventsRequest {
            log_group_name: Some(group.to_owned()),
            log_stream_names: Some(vec![stream.to_owned()]),
            start_time: Some(start),
            next_token,
            ..Default::default()
        };
        let page: FilterLogEventsResponse =
            match api.logs("FilterLogEvents", &request).await {
                Ok(page) => page,
                // The container has not written its first line yet.
                Err(CallError::Api(error))
                    if error.code() == "ResourceNotFoundException" =>
                {
                    return Ok(vec![]);
                }
                Err(error) => return Err(error.into()),
            };
        for event in page.events.unwrap_or_default() {
            let at = event.timestamp.unwrap_or(0);
            let id = event.event_id.unwrap_or_default();
            if at > *from_ms {
                // Only events of the newest millisecond can come again.
                seen.clear();
                *from_ms = at;
            }
            if seen.insert(id) {
                lines.push((at, event.message.unwrap_or_default()));
            }
        }
        next_token = page.next_token;
        if next_token.is_none() {
            return Ok(lines);
        }
    }
}
