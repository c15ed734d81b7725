//! Every incident of this process, and what a happening, a second that passes or a person's word does to them.
//!
//! Why it exists: all decisions about incidents are here, without a clock and without a disk, so that a night can be played in a
//! test. What is to be written and told is the answer. It must never hold more than its bounds, never open two incidents for one
//! cause, and never call something over whose cause still holds, unless a person says so.

mod alerts;
mod voices;
mod watch;
mod word;

use std::collections::{BTreeMap, BTreeSet};

use buslane_shared::UnixMs;

use super::incident::{Fact, HAPPENINGS_MAX, Incident, Line, MANUAL, Opened};
use super::notice::{Audience, Notice, Occasion};
use super::rules::{self, Meaning};
use super::timeline::{self, Recent, SELF};
use super::voice::{Me, Others, Voice};
use super::words::tidy;
use crate::happening::Happening;
use crate::view::{Entry, IncidentView, Severity};

pub(super) use voices::for_others;
pub use word::{Word, WordError};

/// Incidents that are kept; the oldest that are over are forgotten.
pub(super) const INCIDENTS_MAX: usize = 500;

/// Incidents at a time. One for each cause: with more of them nobody can see to any.
const OPEN_MAX: usize = 32;

/// An incident that is over for less than this is reopened in place of a new one.
const REOPEN_MS: u64 = 10 * 60 * 1_000;

/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;

/// What is to be done about it.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Incidents that have lines for the disk, and are shown anew.
    pub(super) changed: BTreeSet<u64>,
    /// Incidents whose files are to be removed.
    pub(super) forgotten: BTreeSet<u64>,
    /// What people are told.
    pub(super) notices: Vec<Notice>,
}

impl Effects {
    fn add(&mut self, more: Self) {
        self.changed.extend(more.changed);
        self.forgotten.extend(more.forgotten);
        self.notices.extend(more.notices);
    }
}

/// The incidents.
#[derive(Debug)]
pub(super) struct Ledger {
    me: Me,
    others: Others,
    expected_recovery_s: Option<u32>,
    /// With their lines: those that are open, over for a short time, or just looked at.
    warm: BTreeMap<u64, Incident>,
    /// Without: those that are over.
    cold: BTreeMap<u64, IncidentView>,
    recent: Recent,
    next_no: u64,
}

impl Ledger {
    /// From those that were read from the disk.
    pub(super) fn new(
        me: Me,
        expected_recovery_s: Option<u32>,
        read: impl IntoIterator<Item = Incident>,
    ) -> Self {
        let now_ms = me.begun_ms;
        let mut ledger = Self {
            me,
            others: Others::default(),
            expected_recovery_s,
            warm: BTreeMap::new(),
            cold: BTreeMap::new(),
            recent: Recent::default(),
            next_no: 1,
        };
        for incident in read {
            ledger.next_no = ledger.next_no.max(incident.view().no.saturating_add(1));
            ledger.take(incident, now_ms);
        }
        ledger
    }

    /// Takes over an incident, with its lines where they are needed.
    fn take(&mut self, incident: Incident, now_ms: UnixMs) {
        let no = incident.view().no;
        if may_go_on(&incident, now_ms) {
            self.warm.insert(no, incident);
        } else {
            self.cold.insert(no, incident.view().clone());
        }
    }

    /// All, newest first, without timelines.
    pub(super) fn list(&self) -> Vec<IncidentView> {
        let warm = self.warm.iter().map(|(no, incident)| (*no, incident.view()));
        let all: BTreeMap<u64, &IncidentView> =
            self.cold.iter().map(|(no, v)| (*no, v)).chain(warm).collect();
        all.into_values().rev().cloned().collect()
    }

    /// One without its timeline.
    pub(super) fn view(&self, no: u64) -> Option<&IncidentView> {
        self.warm.get(&no).map(Incident::view).or_else(|| self.cold.get(&no))
    }

    /// One with its lines, where they are in memory.
    pub(super) fn warm(&self, no: u64) -> Option<&Incident> {
        self.warm.get(&no)
    }

    /// Whether its lines are on the disk only.
    pub(super) fn is_cold(&self, no: u64) -> bool {
        self.cold.contains_key(&no)
    }

    /// Takes the lines of an incident that was on the disk only.
    pub(super) fn warm_up(&mut self, incident: Incident) {
        let no = incident.view().no;
        // Meanwhile it may have been forgotten, or warmed up by somebody else.
        if self.cold.remove(&no).is_some() {
            self.warm.insert(no, incident);
        }
    }

    /// Notes that lines of an incident are on the disk.
    pub(super) fn on_kept(&mut self, no: u64, count: usize) {
        if let Some(incident) = self.warm.get_mut(&no) {
            incident.on_kept(count);
        }
    }

    /// How many are open, by severity; those that another process tells people about aside.
    pub(super) fn open_counts(&self) -> BTreeMap<Severity, u32> {
        let mut counts = BTreeMap::new();
        let is_told = |incident: &&Incident| incident.is_open() && incident.view().told_by.is_none();
        for incident in self.warm.values().filter(is_told) {
            *counts.entry(incident.view().severity).or_default() += 1;
        }
        counts
    }

    /// Every open incident as it is told to those who must go on hearing of it.
    pub(super) fn known(&self, now_ms: UnixMs) -> Vec<Notice> {
        let own = |incident: &Incident| incident.is_open() && incident.voice == Voice::Own;
        let open = self.warm.iter().filter(|(_, incident)| own(incident));
        open.filter_map(|(no, _)| self.notice(*no, Occasion::Known, now_ms)).collect()
    }

    /// Something happened.
    pub(super) fn on_happening(&mut self, happening: &Happening, now_ms: UnixMs) -> Effects {
        let mut effects = Effects::default();
        let entry = timeline::entry(happening);
        match rules::meaning(&happening.what) {
            Meaning::Opens(alert) => self.on_raised(alert, &entry, now_ms, &mut effects),
            Meaning::Ends(alert) => self.on_cleared(alert, &entry, &mut effects),
            Meaning::Said(said) => {
                self.on_said_elsewhere(&happening.node, said, now_ms, &mut effects);
                return effects;
            }
            Meaning::Tells => self.tell_all_but(None, &entry, &mut effects),
        }
        self.recent.push(happening, entry);
        effects
    }

    /// Happenings were missed: the stories have a hole, and say so.
    pub(super) fn on_missed(&mut self, count: u64, now_ms: UnixMs) -> Effects {
        let mut effects = Effects::default();
        let text = format!("{count} happenings came faster than they could be written and are missing here");
        self.tell_all_but(None, &own(now_ms, "note", text), &mut effects);
        effects
    }

    /// A person opens one.
    pub(super) fn open_by_hand(
        &mut self,
        author: &str,
        title: &str,
        severity: Severity,
        reason: &str,
        now_ms: UnixMs,
    ) -> Result<(u64, Effects), WordError> {
        self.check_room()?;
        let opened = Opened {
            key: MANUAL.to_owned(),
            title: tidy(title, TITLE_CHARS_MAX),
            severity,
            expected_ms: self.expected_ms(severity, now_ms),
            why: String::new(),
            affects: Vec::new(),
            runbook: String::new(),
        };
        let text = format!("{}: {reason}", opened.title);
        let entry = word::by(author, now_ms, "opened", &text);
        let mut effects = Effects::default();
        let no = self.begin(Line { entry, fact: Some(Fact::Opened(opened)) }, now_ms, &mut effects);
        Ok((no, effects))
    }

    /// Whether another one may be opened.
    pub(super) fn check_room(&self) -> Result<(), WordError> {
        let open = self.warm.values().filter(|incident| incident.is_open()).count();
        if open < OPEN_MAX { Ok(()) } else { Err(WordError::TooManyOpen(OPEN_MAX)) }
    }

    /// Opens an incident; it begins with what happened before.
    fn begin(&mut self, first: Line, now_ms: UnixMs, effects: &mut Effects) -> u64 {
        let no = self.next_no;
        self.next_no = self.next_no.saturating_add(1);
        let mut incident = Incident::beginning(no, first);
        if rules::is_shared(&incident.view().key) {
            incident.voice = Voice::waiting(now_ms);
        }
        for entry in self.recent.before(now_ms) {
            incident.push(Line { entry, fact: None });
        }
        metrics::counter!("buslane_incidents_opened_total").increment(1);
        self.warm.insert(no, incident);
        self.forget_surplus(effects);
        effects.changed.insert(no);
        self.tell(no, Occasion::Opened, now_ms, effects);
        self.choose_voice(no, now_ms, effects);
        no
    }

    fn forget_surplus(&mut self, effects: &mut Effects) {
        while self.cold.len().saturating_add(self.warm.len()) > INCIDENTS_MAX {
            // Those that are warm are few, and are cold soon.
            let Some((no, _)) = self.cold.pop_first() else { return };
            effects.forgotten.insert(no);
        }
    }

    /// Writes a happening into every open story but one.
    fn tell_all_but(&mut self, but: Option<u64>, entry: &Entry, effects: &mut Effects) {
        for (no, incident) in &mut self.warm {
            if Some(*no) == but || !incident.is_open() || incident.len() > HAPPENINGS_MAX {
                continue;
            }
            let entry = if incident.len() < HAPPENINGS_MAX { entry.clone() } else { full(entry.at_ms) };
            incident.push(Line { entry, fact: None });
            effects.changed.insert(*no);
        }
    }

    fn push(&mut self, no: u64, entry: Entry, fact: Fact, effects: &mut Effects) {
        if let Some(incident) = self.warm.get_mut(&no) {
            incident.push(Line { entry, fact: Some(fact) });
            effects.changed.insert(no);
        }
    }

    fn escalate(&mut self, no: u64, to: Severity, text: String, now_ms: UnixMs, effects: &mut Effects) {
        let expected_ms = self.expected_ms(to, now_ms);
        self.push(no, own(now_ms, "escalated", text), Fact::Severity { to, expected_ms }, effects);
        self.tell(no, Occasion::Escalated, now_ms, effects);
    }

    fn expected_ms(&self, severity: Severity, now_ms: UnixMs) -> UnixMs {
        rules::expected_ms(severity, self.expected_recovery_s, now_ms)
    }

    /// Tells people; whoever hears of it from another process is left out. Where it is not known yet who speaks, it waits.
    fn tell(&mut self, no: u64, occasion: Occasion, now_ms: UnixMs, effects: &mut Effects) {
        let Some(incident) = self.warm.get_mut(&no) else { return };
        if matches!(incident.voice, Voice::Waiting { before: None, .. }) {
            match occasion {
                // Over before anybody heard of it.
                Occasion::Resolved => incident.untold = None,
                Occasion::Silenced | Occasion::Known => {}
                occasion => drop(incident.untold.get_or_insert(occasion)),
            }
            return;
        }
        effects.notices.extend(self.notice(no, occasion, now_ms));
    }

    fn notice(&self, no: u64, occasion: Occasion, now_ms: UnixMs) -> Option<Notice> {
        let incident = self.warm.get(&no)?;
        Some(Notice {
            occasion,
            at_ms: now_ms,
            incident: incident.view().clone(),
            is_silenced: incident.is_silenced(now_ms),
            changes: self.recent.changes(now_ms),
            audience: match &incident.voice {
                Voice::Other(other) | Voice::Waiting { before: Some(other), .. } => {
                    Audience::AllBut(other.channels.clone())
                }
                Voice::Own | Voice::Waiting { before: None, .. } => Audience::All,
            },
        })
    }
}

/// Whether its lines may be needed at any moment.
fn may_go_on(incident: &Incident, now_ms: UnixMs) -> bool {
    incident.is_open() || may_reopen(incident, now_ms)
}

fn may_reopen(incident: &Incident, now_ms: UnixMs) -> bool {
    let view = incident.view();
    let is_young = view.resolved_ms.is_some_and(|at| now_ms.saturating_sub(at) <= REOPEN_MS);
    is_young && view.state == crate::view::IncidentState::Resolved
}

/// A line of the incident's own.
fn own(at_ms: UnixMs, kind: &str, text: String) -> Entry {
    Entry { at_ms, author: SELF.to_owned(), kind: kind.to_owned(), text: tidy(&text, 1_000) }
}

fn full(at_ms: UnixMs) -> Entry {
    let text = format!(
        "{HAPPENINGS_MAX} lines: what happens by itself is left out from here on; what people say and how it ends is still written"
    );
    own(at_ms, "note", text)
}

#[cfg(test)]
mod tests;
