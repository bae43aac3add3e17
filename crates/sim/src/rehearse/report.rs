//! What came of a play: its timeline, and each service in numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use minato_control::tables::{Service, ServiceDeployment, ServiceEvent, Task};
use minato_core::service::rules;
use minato_store::{Changes, Key, Snapshot, Watch};

use super::plan::{Expectation, Plan};
use super::svg;
use crate::world::Process;

/// A line of the timeline.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Duration,
    /// The service that tells it; none where it is the plan's doing.
    pub(super) service: Option<String>,
    pub(super) text: String,
}

/// A service through time.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// Healthy, desired and fewest tasks, whenever one of them changed.
    pub(super) points: Vec<(Duration, Point)>,
    /// When it was first steady.
    first_steady: Option<Duration>,
    /// Since when it has been steady, if it is.
    steady_since: Option<Duration>,
    rollout: String,
}

/// A service at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) healthy: u32,
    pub(super) desired: u32,
    pub(super) fewest: u32,
}

/// Writes down what happens.
pub(super) struct Recorder {
    watch: Watch,
    timeline: Vec<Entry>,
    courses: BTreeMap<String, Course>,
    /// The service of each task.
    tasks: BTreeMap<String, String>,
    /// How many events of each service have been told.
    told: BTreeMap<String, u64>,
    now: Duration,
}

impl Recorder {
    pub(super) fn new(plan: &Plan, process: &Process) -> Recorder {
        let names = plan.services.keys();
        Recorder {
            watch: process.store.watch(),
            timeline: vec![],
            courses: names
                .map(|name| (name.clone(), Course::default()))
                .collect(),
            tasks: BTreeMap::new(),
            told: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    /// The play begins.
    pub(super) fn begin(&mut self) {
        self.now = Duration::ZERO;
    }

    /// The control plane is there again.
    pub(super) fn restarted(&mut self, process: &Process) {
        self.watch = process.store.watch();
        self.read_all(&process.store.snapshot());
    }

    pub(super) fn note(
        &mut self,
        at: Duration,
        service: Option<String>,
        text: String,
    ) {
        self.timeline.push(Entry { at, service, text });
    }

    /// Looks at what has changed; `serving` are the tasks that do their work.
    pub(super) fn look(
        &mut self,
        process: &Process,
        serving: &[String],
        now: Duration,
    ) -> Result<(), String> {
        self.now = now;
        let rows = process.store.snapshot();
        match self.watch.changes() {
            Changes::Resync(_) => self.read_all(&rows),
            Changes::Rows(commits) => {
                for commit in commits {
                    for change in commit.of::<Task>() {
                        if let Some(task) = change.after {
                            self.task(&task);
                        }
                    }
                    for change in commit.of::<ServiceEvent>() {
                        if let Some(event) = change.after {
                            self.event(&event);
                        }
                    }
                    for change in commit.of::<ServiceDeployment>() {
                        if let Some(row) = change.after {
                            self.deployment(&row);
                        }
                    }
                }
            }
        }
        self.count(&rows, serving);
        Ok(())
    }

    fn read_all(&mut self, rows: &Snapshot) {
        for task in rows.scan::<Task>(&Key::root()) {
            self.task(&task);
        }
        for event in rows.scan::<ServiceEvent>(&Key::root()) {
            self.event(&event);
        }
        for row in rows.scan::<ServiceDeployment>(&Key::root()) {
            self.deployment(&row);
        }
    }

    fn task(&mut self, task: &Task) {
        if let Some(of) = &task.service {
            self.tasks.insert(task.arn(), of.name.clone());
        }
    }

    fn event(&mut self, event: &ServiceEvent) {
        let name = &event.of.name;
        let told = self.told.entry(name.clone()).or_insert(0);
        if event.number <= *told {
            return;
        }
        *told = event.number;
        let text = event.event.message.clone().unwrap_or_default();
        let prefix = format!("(service {name}) ");
        let text = text.strip_prefix(&prefix).unwrap_or(&text);
        let text = shorten(text);
        self.note(self.now, Some(name.clone()), text);
    }

    fn deployment(&mut self, row: &ServiceDeployment) {
        let Some(course) = self.courses.get_mut(&row.of.name) else { return };
        let rollout = match row.status.as_str() {
            "SUCCESSFUL" => "COMPLETED",
            "ROLLBACK_SUCCESSFUL" => "ROLLED_BACK",
            "STOPPED" | "ROLLBACK_FAILED" => "FAILED",
            _ => "IN_PROGRESS",
        };
        rollout.clone_into(&mut course.rollout);
    }

    fn count(&mut self, rows: &Snapshot, serving: &[String]) {
        let mut healthy: BTreeMap<&str, u32> = BTreeMap::new();
        for arn in serving {
            if let Some(name) = self.tasks.get(arn) {
                *healthy.entry(name).or_insert(0) += 1;
            }
        }
        let mut news = vec![];
        for service in rows.scan::<Service>(&Key::root()) {
            let Some(course) = self.courses.get_mut(&service.name) else {
                continue;
            };
            let limits = rules::limits(&service.service);
            let point = Point {
                healthy: healthy.get(&*service.name).copied().unwrap_or(0),
                desired: service.desired,
                fewest: limits.fewest_healthy(service.desired),
            };
            let last = course.points.last().map(|(_, point)| *point);
            if last != Some(point) {
                course.points.push((self.now, point));
                let Point { healthy, desired, .. } = point;
                let is_news = last.is_some_and(|it| it.healthy != healthy);
                if is_news {
                    let text = format!("{healthy} of {desired} healthy");
                    news.push((service.name.clone(), text));
                }
            }
            match (service.steady_at.is_some(), course.steady_since) {
                (true, None) => {
                    course.steady_since = Some(self.now);
                    course.first_steady.get_or_insert(self.now);
                }
                (false, Some(_)) => course.steady_since = None,
                (true, Some(_)) | (false, None) => {}
            }
        }
        for (name, text) in news {
            self.note(self.now, Some(name), text);
        }
    }

    pub(super) fn finish(self, plan: &Plan) -> Report {
        let last_event =
            plan.events.last().map_or(Duration::ZERO, |event| event.after);
        let services = self
            .courses
            .into_iter()
            .map(|(name, course)| {
                let summary = Summary::of(course, last_event, plan.length);
                (name, summary)
            })
            .collect();
        let mut report = Report {
            title: format!(
                "{} hosts, {} services, played for {} at the pace {}, seed {}",
                plan.hosts.len(),
                plan.services.len(),
                clock(plan.length),
                if plan.is_aws_pace { "of AWS" } else { "of Minato" },
                plan.seed,
            ),
            length: plan.length,
            timeline: self.timeline,
            services,
            verdicts: vec![],
        };
        for (name, expected) in &plan.expectations {
            report.judge(name, expected);
        }
        report
    }
}

/// A service in numbers.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) course: Course,
    /// The fewest healthy tasks since it was first steady, and when.
    lowest: Option<(u32, Duration)>,
    /// How long it had fewer than its minimum, since it was first steady.
    below: Duration,
    /// How long after the last event it became steady for good.
    steady_in: Option<Duration>,
}

impl Summary {
    fn of(course: Course, last_event: Duration, end: Duration) -> Summary {
        let (mut lowest, mut below) = (None, Duration::ZERO);
        if let Some(first) = course.first_steady {
            let ends = course.points.iter().skip(1).map(|(at, _)| *at);
            let spans = course.points.iter().zip(ends.chain([end]));
            for ((at, point), until) in spans {
                if until <= first {
                    continue;
                }
                let at = (*at).max(first);
                if lowest.is_none_or(|(least, _)| point.healthy < least) {
                    lowest = Some((point.healthy, at));
                }
                if point.healthy < point.fewest {
                    below += until.saturating_sub(at);
                }
            }
        }
        let steady_in =
            course.steady_since.map(|since| since.saturating_sub(last_event));
        Summary { course, lowest, below, steady_in }
    }
}

/// What came of a plan.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    pub(super) length: Duration,
    pub(super) timeline: Vec<Entry>,
    pub(super) services: BTreeMap<String, Summary>,
    /// What was expected, and whether it came.
    verdicts: Vec<(String, bool)>,
}

impl Report {
    /// Whether all came as the plan expects.
    pub fn is_as_expected(&self) -> bool {
        self.verdicts.iter().all(|(_, is_kept)| *is_kept)
    }

    /// The whole report as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let width = self.services.keys().map(String::len).max().unwrap_or(0);
        let width = width.max(4);
        for Entry { at, service, text: told } in &self.timeline {
            let who = service.as_deref().unwrap_or("PLAN");
            let at = clock(*at);
            let _ = writeln!(text, "{at:>9}  {who:width$}  {told}");
        }
        text.push('\n');
        for (name, summary) in &self.services {
            let _ = writeln!(text, "{name}: {}", summary.told());
        }
        for (told, is_kept) in &self.verdicts {
            let mark = if *is_kept { "kept  " } else { "BROKEN" };
            let _ = writeln!(text, "{mark}  {told}");
        }
        text
    }

    /// The healthy tasks of each service through time, as a picture.
    pub fn svg(&self) -> String {
        svg::draw(self)
    }

    fn judge(&mut self, name: &str, expected: &Expectation) {
        let Some(summary) = self.services.get(name) else { return };
        let mut verdicts = vec![];
        if let Some(least) = expected.lowest_healthy {
            let lowest = summary.lowest.map_or(0, |(lowest, _)| lowest);
            let told = format!(
                "{name}: at least {least} healthy; the lowest was {lowest}"
            );
            verdicts.push((told, lowest >= least));
        }
        if let Some(most) = expected.below_minimum {
            let told = format!(
                "{name}: at most {} below its minimum; it was {}",
                clock(most),
                clock(summary.below)
            );
            verdicts.push((told, summary.below <= most));
        }
        if let Some(most) = expected.steady_within {
            let took = summary.steady_in;
            let told = format!(
                "{name}: steady within {} of the last event; {}",
                clock(most),
                took.map_or("it is not steady".to_owned(), |took| format!(
                    "it took {}",
                    clock(took)
                ))
            );
            verdicts.push((told, took.is_some_and(|took| took <= most)));
        }
        if let Some(wanted) = &expected.rollout {
            let rollout = &summary.course.rollout;
            let told = format!("{name}: rollout {wanted}; it is {rollout}");
            verdicts.push((told, rollout == wanted));
        }
        self.verdicts.extend(verdicts);
    }
}

impl Summary {
    fn told(&self) -> String {
        let point = self.course.points.last();
        let point = point.map(|(_, point)| *point).unwrap_or_default();
        let mut told = match self.lowest {
            None => "it was never steady".to_owned(),
            Some((lowest, at)) => {
                format!("lowest healthy {lowest} (at {})", clock(at))
            }
        };
        let _ = write!(
            told,
            ", {} below its minimum of {}; ",
            if self.below.is_zero() {
                "never".to_owned()
            } else {
                clock(self.below)
            },
            point.fewest,
        );
        match self.course.steady_since {
            Some(since) => {
                let _ = write!(told, "steady since {}", clock(since));
            }
            None => told.push_str("not steady at the end"),
        }
        let Point { healthy, desired, .. } = point;
        let rollout = &self.course.rollout;
        let _ = write!(
            told,
            "; {healthy} of {desired} healthy at the end, rollout {rollout}"
        );
        told
    }
}

/// A time as people read it: `1:05.2`, in minutes, seconds and tenths.
pub(super) fn clock(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    let (minutes, rest) = (tenths / 600, tenths % 600);
    format!("{minutes}:{:02}.{}", rest / 10, rest % 10)
}

/// An event's text without the long ids of tasks: a few of them, cut short.
fn shorten(text: &str) -> String {
    /// So many tasks are named, by so many letters of their ids.
    const NAMED: usize = 3;
    const LETTERS: usize = 6;
    let mut parts = text.split("(task ");
    let mut short = parts.next().unwrap_or_default().to_owned();
    let mut hidden = 0;
    for (number, part) in parts.enumerate() {
        let (id, rest) = part.split_once(')').unwrap_or((part, ""));
        if number < NAMED {
            let id: String = id.chars().take(LETTERS).collect();
            let _ = write!(short, "(task {id}){rest}");
        } else {
            hidden += 1;
            if !rest.trim().is_empty() {
                let more = format!("and {hidden} more{rest}");
                short.push_str(&more);
                hidden = 0;
            }
        }
    }
    if hidden > 0 {
        let _ = write!(short, "and {hidden} more");
    }
    short
}
