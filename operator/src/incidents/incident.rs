//! One incident: a list of lines, and what follows from them.
//!
//! Why it exists: what is on the disk and what is shown cannot differ, because the second is computed from the first, line by
//! line, at the start as in the middle of the night. It must never change other than by a line, but for what no longer fits.

use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};

use super::machine;
use super::notice::Occasion;
use super::rules::grade;
use super::timeline::SELF;
use super::voice::{Speaker, Voice};
use crate::view::{Alert, Entry, IncidentState, IncidentView, Severity, ToldBy};

/// Lines of one incident: at one every few seconds, hours of a storm.
pub(super) const ENTRIES_MAX: usize = 2_000;

/// Of these, what happens by itself; the rest is kept for people and for how it ends.
pub(super) const HAPPENINGS_MAX: usize = 1_700;

/// Of these, what people say; the rest is kept for how it ends.
pub(super) const WORDS_MAX: usize = 1_950;

/// Key of an incident that a person opened.
pub(super) const MANUAL: &str = "manual";

/// A line of the file: an entry of the timeline, and what it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) entry: Entry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fact: Option<Fact>,
}

/// What a line changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Fact {
    Opened(Opened),
    /// It stands elsewhere. `Handling`: the author of the line sees to it.
    Moved {
        to: IncidentState,
    },
    /// It was resolved too early.
    Reopened {
        expected_ms: UnixMs,
    },
    Severity {
        to: Severity,
        expected_ms: UnixMs,
    },
    /// Its cause is gone.
    Recovered,
    /// Its cause is back.
    Relapsed {
        expected_ms: UnixMs,
    },
    /// Nobody is told until then; none: people are told again.
    Silenced {
        until_ms: Option<UnixMs>,
    },
    /// Another process tells people about it; none: this one does.
    ToldBy {
        speaker: Option<Speaker>,
    },
}

/// How an incident begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) key: String,
    pub(super) title: String,
    pub(super) severity: Severity,
    pub(super) expected_ms: UnixMs,
    #[serde(default)]
    pub(super) why: String,
    #[serde(default)]
    pub(super) affects: Vec<String>,
    #[serde(default)]
    pub(super) runbook: String,
}

/// An incident.
#[derive(Debug, Clone)]
pub(super) struct Incident {
    view: IncidentView,
    lines: Vec<Line>,
    /// How many of the lines are on the disk.
    kept: usize,
    /// Whether its alert was raised in this life of the process.
    pub(super) is_seen: bool,
    /// Who tells people about it.
    pub(super) voice: Voice,
    /// What people are to be told as soon as it is known who does.
    pub(super) untold: Option<Occasion>,
}

impl Incident {
    /// One of which nothing is known yet, but that it was there at that time.
    pub(super) fn unknown(no: u64, at_ms: UnixMs) -> Self {
        let view = IncidentView {
            no,
            title: format!("Incident {no}: its first line cannot be read"),
            key: "damaged".to_owned(),
            opened_by: SELF.to_owned(),
            severity: Severity::Low,
            grade: grade(Severity::Low),
            state: IncidentState::Resolved,
            opened_ms: at_ms,
            recovered_ms: None,
            resolved_ms: Some(at_ms),
            expected_ms: at_ms,
            acknowledged_by: None,
            silenced_until_ms: None,
            why: String::new(),
            affects: Vec::new(),
            runbook: String::new(),
            told_by: None,
            entries: 0,
            timeline: Vec::new(),
        };
        Self { view, lines: Vec::new(), kept: 0, is_seen: false, voice: Voice::Own, untold: None }
    }

    /// One that begins with this line.
    pub(super) fn beginning(no: u64, first: Line) -> Self {
        let mut incident = Self::unknown(no, first.entry.at_ms);
        incident.push(first);
        incident.is_seen = true;
        incident
    }

    /// As far as it is known, without its timeline.
    pub(super) fn view(&self) -> &IncidentView {
        &self.view
    }

    /// With its timeline, oldest first: what others tell comes late sometimes.
    pub(super) fn whole(&self) -> IncidentView {
        let mut timeline: Vec<Entry> = self.lines.iter().map(|line| line.entry.clone()).collect();
        timeline.sort_by_key(|entry| entry.at_ms);
        IncidentView { timeline, ..self.view.clone() }
    }

    /// Whether it still happens.
    pub(super) fn is_open(&self) -> bool {
        machine::is_open(self.view.state)
    }

    /// Whether it is about this alert.
    pub(super) fn is_about(&self, alert: &Alert) -> bool {
        self.view.key == alert.key && self.view.key != MANUAL
    }

    /// Whether there is an alert behind it that was not cleared.
    pub(super) fn still_holds(&self) -> bool {
        self.view.key != MANUAL && self.view.recovered_ms.is_none()
    }

    /// Whether nobody is told about it now.
    pub(super) fn is_silenced(&self, now_ms: UnixMs) -> bool {
        self.view.silenced_until_ms.is_some_and(|until| until > now_ms)
    }

    /// How many lines it has.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Adds a line and draws the conclusion. Beyond the bound only the conclusion is drawn.
    pub(super) fn push(&mut self, line: Line) {
        self.conclude(&line);
        if self.lines.len() < ENTRIES_MAX {
            self.lines.push(line);
        }
        self.view.entries = self.lines.len();
    }

    /// Adds a line that is on the disk already.
    pub(super) fn push_kept(&mut self, line: Line) {
        self.push(line);
        self.kept = self.lines.len();
    }

    /// The lines that are not on the disk yet.
    pub(super) fn unkept(&self) -> &[Line] {
        self.lines.get(self.kept..).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn all_lines(&self) -> &[Line] {
        &self.lines
    }

    /// Notes that so many more lines are on the disk.
    pub(super) fn on_kept(&mut self, count: usize) {
        self.kept = self.lines.len().min(self.kept.saturating_add(count));
    }

    /// Whether the first so many lines are on the disk.
    pub(super) fn has_kept(&self, count: usize) -> bool {
        self.kept >= count
    }

    fn conclude(&mut self, line: &Line) {
        let Some(fact) = &line.fact else { return };
        let at_ms = line.entry.at_ms;
        match fact {
            Fact::Opened(opened) => self.begin(opened, &line.entry),
            Fact::Moved { to } => self.stand(*to, &line.entry),
            Fact::Reopened { expected_ms } => {
                self.view.state = IncidentState::Declared;
                self.view.expected_ms = *expected_ms;
                self.view.resolved_ms = None;
                self.view.recovered_ms = None;
                // Whoever saw to it has gone home.
                self.view.acknowledged_by = None;
            }
            Fact::Severity { to, expected_ms } => {
                self.view.severity = *to;
                self.view.grade = grade(*to);
                self.view.expected_ms = *expected_ms;
            }
            Fact::Recovered => self.view.recovered_ms = Some(at_ms),
            Fact::Relapsed { expected_ms } => {
                self.view.recovered_ms = None;
                self.view.expected_ms = *expected_ms;
            }
            Fact::Silenced { until_ms } => self.view.silenced_until_ms = *until_ms,
            Fact::ToldBy { speaker } => self.hear(speaker.clone()),
        }
    }

    fn begin(&mut self, opened: &Opened, entry: &Entry) {
        self.view.title.clone_from(&opened.title);
        self.view.key.clone_from(&opened.key);
        self.view.opened_by.clone_from(&entry.author);
        self.view.severity = opened.severity;
        self.view.grade = grade(opened.severity);
        let declared = opened.key == MANUAL;
        self.view.state = if declared { IncidentState::Declared } else { IncidentState::Detected };
        self.view.opened_ms = entry.at_ms;
        self.view.resolved_ms = None;
        self.view.expected_ms = opened.expected_ms;
        self.view.why.clone_from(&opened.why);
        self.view.affects.clone_from(&opened.affects);
        self.view.runbook.clone_from(&opened.runbook);
    }

    fn hear(&mut self, speaker: Option<Speaker>) {
        let told_by = |other: &Speaker| ToldBy { node: other.node.clone(), no: other.no };
        self.view.told_by = speaker.as_ref().map(told_by);
        self.voice = speaker.map_or(Voice::Own, Voice::Other);
    }

    fn stand(&mut self, to: IncidentState, entry: &Entry) {
        self.view.state = to;
        match to {
            IncidentState::Handling => self.view.acknowledged_by = Some(entry.author.clone()),
            IncidentState::Resolved => {
                self.view.resolved_ms = Some(entry.at_ms);
                self.view.recovered_ms.get_or_insert(entry.at_ms);
                self.view.silenced_until_ms = None;
            }
            IncidentState::Detected | IncidentState::Declared | IncidentState::Reviewed => {}
        }
    }
}

#[cfg(test)]
mod tests;
