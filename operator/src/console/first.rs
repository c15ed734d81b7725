//! The first view: what the node knows when the page is asked for, in words, for whoever reads it without JavaScript.
//!
//! Everything is text already; the templates escape it. What is not known is a dash, and never a zero.

use std::sync::Arc;

use buslane_chassis::oversee::PostureView;
use buslane_shared::UnixMs;
use buslane_shared::class::Class;
use buslane_shared::overload::orders::Order;
use buslane_shared::overload::posture;

use super::rows::{AlertRow, Case, NodeRow};
use super::story::{self, Split};
use super::words::{NONE, clock, count, mebibytes, micros, percent, rate};
use crate::view::{ClassSample, IncidentView, NodeView, Sample, StatusView};

/// What is known.
pub(super) struct Facts {
    pub(super) sample: Option<Arc<Sample>>,
    pub(super) posture: Option<PostureView>,
    pub(super) order: Option<Order>,
    pub(super) status: StatusView,
    pub(super) incidents: Vec<IncidentView>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) now_ms: UnixMs,
}

/// The first page in words.
pub(super) struct Now {
    pub(super) posture: String,
    pub(super) word: String,
    pub(super) since: String,
    pub(super) story: String,
    pub(super) cause: String,
    pub(super) order: String,
    pub(super) tiles: Vec<Tile>,
    pub(super) split: Vec<Part>,
    pub(super) summary: String,
    pub(super) alerts: Vec<AlertRow>,
    pub(super) incidents: Vec<Case>,
    pub(super) nodes: Vec<NodeRow>,
}

/// A figure.
pub(super) struct Tile {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) big: String,
    pub(super) more: String,
}

/// Foreground or background.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) rows: Vec<ClassRow>,
}

/// A class.
pub(super) struct ClassRow {
    pub(super) class: &'static str,
    pub(super) title: &'static str,
    pub(super) offered: String,
    pub(super) served: String,
    pub(super) deferred: String,
    pub(super) refused: String,
    pub(super) waiting: String,
    pub(super) p50: String,
    pub(super) p99: String,
}

impl Now {
    /// In words.
    pub(super) fn of(facts: &Facts) -> Self {
        let sample = facts.sample.as_deref();
        let posture = facts.posture.as_ref();
        let name = posture.map(|view| posture::name(view.posture));
        Self {
            posture: name.unwrap_or("unknown").to_owned(),
            word: name.unwrap_or("unknown").to_uppercase(),
            since: posture.map(|view| format!("since {}", clock(view.since_ms))).unwrap_or_default(),
            story: sample.map_or_else(|| "Nothing was measured yet.".to_owned(), story::story),
            cause: posture.map(cause).unwrap_or_default(),
            order: facts.order.as_ref().map(|order| in_force(order, facts.now_ms)).unwrap_or_default(),
            tiles: tiles(sample),
            split: parts(sample),
            summary: facts.status.summary.clone(),
            alerts: facts.status.alerts.iter().map(AlertRow::of).collect(),
            incidents: facts.incidents.iter().map(Case::of).collect(),
            nodes: facts.nodes.iter().map(NodeRow::of).collect(),
        }
    }
}

fn cause(view: &PostureView) -> String {
    match &view.cause {
        Some(cause) => format!(
            "Signal {}: {} against a limit of {}.",
            cause.signal,
            count(cause.value),
            count(cause.limit)
        ),
        None => String::new(),
    }
}

fn in_force(order: &Order, now_ms: UnixMs) -> String {
    let left_s = order.until_ms.saturating_sub(now_ms) / 1_000;
    let (kind, author, reason) = (order.kind.name(), &order.author, &order.reason);
    format!("Order {kind} by {author}: “{reason}”. It ends at {}, in {left_s} s.", clock(order.until_ms))
}

fn tiles(sample: Option<&Sample>) -> Vec<Tile> {
    let tile = |key, title, said: Option<(String, String)>| {
        let (big, more) = said.unwrap_or_else(|| (NONE.to_owned(), String::new()));
        Tile { key, title, big, more }
    };
    let splits = sample.map(story::split);
    let share = |split: Split| {
        let big = if split.is_quiet() { "quiet".to_owned() } else { percent(split.served, split.offered) };
        (big, format!("{} of {}", rate(split.served), rate(split.offered)))
    };
    let talk = sample.and_then(|sample| sample.classes.get(1));
    vec![
        tile("front", "Foreground", splits.map(|(front, _)| share(front))),
        tile(
            "talk",
            "Talk",
            talk.map(|talk| (micros(talk.p99_us), format!("median {}", micros(talk.p50_us)))),
        ),
        tile("back", "Background", splits.map(|(_, back)| share(back))),
        tile("logins", "Logins", sample.map(logins)),
        tile("sessions", "Sessions", sample.map(sessions)),
    ]
}

fn logins(sample: &Sample) -> (String, String) {
    (count(sample.logins.offered_per_s), format!("{} let in", rate(sample.logins.served_per_s)))
}

// A node does not hold 2^52 sessions.
#[allow(clippy::cast_precision_loss)]
fn sessions(sample: &Sample) -> (String, String) {
    let all = sample.sessions_front.saturating_add(sample.sessions_wake);
    (count(all as f64), format!("{:.2} CPU · {}", sample.processors, mebibytes(sample.resident_bytes)))
}

fn parts(sample: Option<&Sample>) -> Vec<Part> {
    let rows = |foreground: bool| {
        let classes = Class::ALL.into_iter().filter(|class| class.is_foreground() == foreground);
        classes.map(|class| ClassRow::of(class, sample)).collect()
    };
    vec![
        Part { name: "Foreground: what a person looks at", rows: rows(true) },
        Part { name: "Background: what the phone does by itself", rows: rows(false) },
    ]
}

impl ClassRow {
    fn of(class: Class, sample: Option<&Sample>) -> Self {
        let row = sample.and_then(|sample| sample.classes.iter().find(|row| row.class == class.name()));
        let per_s = |of: fn(&ClassSample) -> f64| row.map_or_else(|| NONE.to_owned(), |row| rate(of(row)));
        Self {
            class: class.name(),
            title: class.title(),
            offered: per_s(|row| row.offered_per_s),
            served: per_s(|row| row.served_per_s),
            deferred: per_s(|row| row.deferred_per_s),
            refused: per_s(|row| row.refused_per_s),
            waiting: row.map_or_else(|| NONE.to_owned(), |row| row.waiting.to_string()),
            p50: micros(row.and_then(|row| row.p50_us)),
            p99: micros(row.and_then(|row| row.p99_us)),
        }
    }
}
