//! The picture of a report: for each service a panel with its healthy tasks,
//! what was desired and what was the minimum, over time.

use std::fmt::Write as _;
use std::time::Duration;

use super::report::{Entry, Point, Report, Summary, clock};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 56.0;
const TOP: f64 = 30.0;
const LINE: f64 = 18.0;

/// Draws the picture.
pub(super) fn draw(report: &Report) -> String {
    let panels = report.services.len();
    let events = report.timeline.iter().filter(|it| it.service.is_none());
    let events: Vec<&Entry> = events.collect();
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(0));
    let legend = TOP + count(panels) * (PANEL + GAP);
    let height = legend + count(events.len()) * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} \
         {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut top = TOP;
    for (name, summary) in &report.services {
        panel(&mut svg, report, &events, name, summary, top);
        top += PANEL + GAP;
    }
    for (number, event) in events.iter().enumerate() {
        let told = format!(
            "{}  {}  {}",
            number + 1,
            clock(event.at),
            escape(&event.text)
        );
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#4060c0\">{told}</text>",
            legend + count(number) * LINE
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(
    svg: &mut String,
    report: &Report,
    happened: &[&Entry],
    name: &str,
    summary: &Summary,
    top: f64,
) {
    let points = &summary.course.points;
    let most = points
        .iter()
        .map(|(_, point)| point.healthy.max(point.desired))
        .max()
        .unwrap_or(1)
        .max(1);
    let bottom = top + PANEL;
    let x = |at: Duration| {
        let part = at.as_secs_f64() / report.length.as_secs_f64().max(0.001);
        LEFT + part.min(1.0) * (WIDTH - LEFT - RIGHT)
    };
    let y = |count: u32| {
        bottom - f64::from(count) / f64::from(most) * (PANEL - 26.0)
    };
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top - 8.0,
        escape(name)
    );
    for (count, label) in [(0, "0".to_owned()), (most, most.to_string())] {
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" \
             stroke=\"#dddddd\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\" fill=\"#555555\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(count) + 4.0,
            y = y(count),
        );
    }
    events(svg, happened, (top, bottom), &x);
    ticks(svg, report, bottom, &x);
    let line = |svg: &mut String, style: &str, of: fn(&Point) -> u32| {
        let path = steps(points, report.length, of, &x, &y);
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" {style}/>");
    };
    let minimum = "stroke=\"#d06000\" stroke-dasharray=\"2 3\"";
    line(svg, minimum, |point| point.fewest);
    let desired = "stroke=\"#888888\" stroke-dasharray=\"6 4\"";
    line(svg, desired, |point| point.desired);
    let healthy = "stroke=\"#1a7f37\" stroke-width=\"2\"";
    line(svg, healthy, |point| point.healthy);
    legend(svg, top);
}

/// A line that goes in steps.
fn steps(
    points: &[(Duration, Point)],
    end: Duration,
    of: fn(&Point) -> u32,
    x: &impl Fn(Duration) -> f64,
    y: &impl Fn(u32) -> f64,
) -> String {
    let mut path = String::new();
    for (at, point) in points {
        let (x, y) = (x(*at), y(of(point)));
        if path.is_empty() {
            let _ = write!(path, "M{x:.1} {y:.1}");
        } else {
            let _ = write!(path, "H{x:.1}V{y:.1}");
        }
    }
    let _ = write!(path, "H{:.1}", x(end));
    path
}

/// The plan's events, as numbered lines through the panel.
fn events(
    svg: &mut String,
    happened: &[&Entry],
    (top, bottom): (f64, f64),
    x: &impl Fn(Duration) -> f64,
) {
    let mut last = f64::MIN;
    let mut row = 0.0;
    for (number, entry) in happened.iter().enumerate() {
        let x = x(entry.at);
        // Numbers that would touch stand one below the other.
        row = if x - last < 14.0 { (row + 11.0) % 33.0 } else { 0.0 };
        last = x;
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" \
             y2=\"{bottom:.1}\" stroke=\"#4060c0\" stroke-opacity=\"0.5\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#4060c0\" font-size=\"11\">\
             {}</text>",
            x + 3.0,
            top + 10.0 + row,
            number + 1,
        );
    }
}

/// The times below a panel.
fn ticks(
    svg: &mut String,
    report: &Report,
    bottom: f64,
    x: &impl Fn(Duration) -> f64,
) {
    const TICKS: u32 = 6;
    for number in 0..=TICKS {
        let at = report.length * number / TICKS;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" \
             fill=\"#555555\">{}</text>",
            x(at),
            bottom + 16.0,
            clock(at)
        );
    }
}

fn legend(svg: &mut String, top: f64) {
    let parts = [
        ("#1a7f37", "healthy"),
        ("#888888", "desired"),
        ("#d06000", "minimum"),
    ];
    let mut x = WIDTH - RIGHT - 220.0;
    for (colour, name) in parts {
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            top - 8.0
        );
        x += 75.0;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
