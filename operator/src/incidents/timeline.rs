//! A happening as a line of a timeline, and the happenings of the last while, for the incident that is about to be opened.
//!
//! Why it exists: what broke something often happened before anybody noticed. So a new incident begins with what was going on,
//! deploys and changed settings in particular. It must never grow with what happens, and never write what a happening does not say.

use std::collections::VecDeque;

use buslane_shared::UnixMs;

use super::rules::severity_name;
use super::words::{tidy, utc, with_why};
use crate::happening::{Happening, What};
use crate::view::{Alert, Entry};

/// Author of what happens by itself.
pub(crate) const SELF: &str = "buslane";

/// How far back a new incident looks.
const BEFORE_MS: u64 = 15 * 60 * 1_000;

/// Happenings that are remembered for it: one every four seconds of that time.
const BEFORE_MAX: usize = 225;

/// How far back deploys and changed settings are told to whoever is called.
const CHANGES_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many of them: more do not fit on the screen of a phone.
const CHANGES_MAX: usize = 8;

/// Longest text of an entry that writes itself, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

/// Longest name of an author, in characters.
pub(super) const AUTHOR_CHARS_MAX: usize = 128;

/// The line of a happening.
pub(super) fn entry(happening: &Happening) -> Entry {
    let (author, kind, text) = told(&happening.what, &happening.node);
    Entry {
        at_ms: happening.at_ms,
        author: tidy(author, AUTHOR_CHARS_MAX),
        kind: kind.to_owned(),
        text: tidy(&text, TEXT_CHARS_MAX),
    }
}

fn told<'a>(what: &'a What, node: &str) -> (&'a str, &'static str, String) {
    match what {
        What::Posture { from, to, why } => (SELF, "posture", format!("{node}: {from} → {to} ({why})")),
        What::OrderGiven { order, order_kind, author, reason, until_ms } => {
            let until = utc(*until_ms);
            (author, "order", format!("Order {order} on {node}: {order_kind} until {until}; {reason}"))
        }
        What::OrderEnded { order } => (SELF, "order", format!("Order {order} is over on {node}")),
        What::Reloaded { author, keys } => {
            (author, "reload", format!("Settings of {node} changed: {}", keys.join(", ")))
        }
        What::Mark { mark, text, author } => (author, "mark", format!("{mark}: {text}")),
        What::Process { phase, version } => (SELF, "process", format!("{node} {phase} ({version})")),
        What::AlertRaised(alert) => (SELF, "alert", raised(alert)),
        What::AlertCleared(alert) => (SELF, "alert", format!("Cleared: {}", alert.title)),
        What::IncidentSaid(said) => {
            (&said.author, "note", format!("About {} on {node}: {}", said.key, said.word.name()))
        }
        What::Drain { begins: true, author } => (author, "drain", format!("{node} drains")),
        What::Drain { begins: false, author } => (author, "drain", format!("{node} takes sessions again")),
    }
}

fn raised(alert: &Alert) -> String {
    format!("Raised ({}): {}", severity_name(alert.severity), with_why(&alert.title, &alert.why))
}

/// What happened lately.
#[derive(Debug, Default)]
pub(super) struct Recent {
    all: VecDeque<Entry>,
    changes: VecDeque<Entry>,
}

impl Recent {
    /// Remembers.
    pub(super) fn push(&mut self, happening: &Happening, entry: Entry) {
        if is_change(&happening.what) {
            push_bounded(&mut self.changes, entry.clone(), CHANGES_MAX);
        }
        push_bounded(&mut self.all, entry, BEFORE_MAX);
    }

    /// What happened in the time before, oldest first.
    pub(super) fn before(&self, now_ms: UnixMs) -> Vec<Entry> {
        since(&self.all, now_ms.saturating_sub(BEFORE_MS))
    }

    /// Deploys and changed settings of the last day, oldest first.
    pub(super) fn changes(&self, now_ms: UnixMs) -> Vec<Entry> {
        since(&self.changes, now_ms.saturating_sub(CHANGES_MS))
    }
}

/// Whether it changed the system, and so may have broken it.
fn is_change(what: &What) -> bool {
    match what {
        What::Reloaded { .. } => true,
        What::Mark { mark, .. } => mark == "deploy" || mark == "config",
        // Another version came, or nobody knows why it stopped.
        What::Process { .. } => true,
        _ => false,
    }
}

fn push_bounded(entries: &mut VecDeque<Entry>, entry: Entry, count_max: usize) {
    if entries.len() >= count_max {
        entries.pop_front();
    }
    entries.push_back(entry);
}

fn since(entries: &VecDeque<Entry>, from_ms: UnixMs) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.at_ms >= from_ms).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::testing::{alert, happened, mark};
    use crate::view::Severity;

    #[test]
    fn every_happening_is_a_line() {
        let table = [
            (
                What::Posture { from: "normal".into(), to: "emergency".into(), why: "logins 5.2".into() },
                "buslane posture sm1: normal → emergency (logins 5.2)",
            ),
            (
                What::OrderGiven {
                    order: 17,
                    order_kind: "emergency".into(),
                    author: "mina".into(),
                    reason: "new\nyear".into(),
                    until_ms: 1_767_225_792_000,
                },
                "mina order Order 17 on sm1: emergency until 2026-01-01 00:03:12; new year",
            ),
            (What::OrderEnded { order: 17 }, "buslane order Order 17 is over on sm1"),
            (
                What::Reloaded { author: "jo".into(), keys: vec!["a.b".into(), "c".into()] },
                "jo reload Settings of sm1 changed: a.b, c",
            ),
            (mark("deploy", "v2"), "jo mark deploy: v2"),
            (
                What::Process { phase: "started".into(), version: "0.1.0".into() },
                "buslane process sm1 started (0.1.0)",
            ),
            (
                What::AlertRaised(alert("store/down", Severity::High)),
                "buslane alert Raised (high): store/down is wrong. 3 of 5 failed",
            ),
            (
                What::AlertCleared(alert("store/down", Severity::High)),
                "buslane alert Cleared: store/down is wrong.",
            ),
            (What::Drain { begins: true, author: "jo".into() }, "jo drain sm1 drains"),
            (What::Drain { begins: false, author: "jo".into() }, "jo drain sm1 takes sessions again"),
        ];
        for (what, wanted) in table {
            let entry = entry(&happened(5, what));
            assert_eq!(format!("{} {} {}", entry.author, entry.kind, entry.text), wanted);
            assert_eq!(entry.at_ms, 5);
        }
    }

    #[test]
    fn the_memory_is_bounded_in_time_and_number() {
        let mut recent = Recent::default();
        for at_ms in 0..1_000 {
            let happening = happened(at_ms, mark("deploy", &at_ms.to_string()));
            recent.push(&happening, entry(&happening));
        }
        assert_eq!(recent.before(1_000).len(), BEFORE_MAX);
        assert_eq!(recent.changes(1_000).len(), CHANGES_MAX);
        assert_eq!(recent.changes(1_000).last().unwrap().text, "deploy: 999");
        assert!(recent.before(BEFORE_MS + 1_000).is_empty());
        assert_eq!(recent.changes(BEFORE_MS + 1_000).len(), CHANGES_MAX);
        assert!(recent.changes(CHANGES_MS + 1_000).is_empty());
    }

    #[test]
    fn drills_and_notes_are_told_and_are_no_changes() {
        let mut recent = Recent::default();
        for kind in ["drill", "note"] {
            let happening = happened(1, mark(kind, "x"));
            recent.push(&happening, entry(&happening));
        }
        assert_eq!((recent.before(2).len(), recent.changes(2).len()), (2, 0));
    }
}
