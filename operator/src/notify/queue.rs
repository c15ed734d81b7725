//! What one address is still to be told, and when: at most one message a minute about an incident, failures after a pause.
//!
//! Why it exists: whoever is woken six times in a minute turns the telephone off. So what happens to an incident meanwhile goes into
//! one message. Time is an argument. It must never hold more than its bound, and never give anything up without saying so.

use std::collections::BTreeMap;
use std::time::Duration;

use buslane_shared::UnixMs;

use crate::incidents::{Notice, Occasion};
use crate::view::Severity;

/// Incidents that an address may be told about at a time: as many as there can be open, and as many that are just over.
const WAITING_MAX: usize = 64;

/// Things that are told in one message.
const OCCASIONS_MAX: usize = 16;

/// How fast people are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two messages about an incident.
    pub(super) apart_ms: u64,
    /// After the first failure; doubled by each further one.
    pub(super) retry_ms: u64,
    /// After any failure, at most.
    pub(super) retry_ms_max: u64,
    /// A message that could not be brought for so long is given up.
    pub(super) give_up_ms: u64,
    /// How long bringing what waits may take once the process ends.
    pub(super) goodbye: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            apart_ms: 60_000,
            retry_ms: 1_000,
            retry_ms_max: 60_000,
            give_up_ms: 60 * 60 * 1_000,
            // Half of what those who talk to clients have in all.
            goodbye: Duration::from_secs(5),
        }
    }
}

/// What an address wants to hear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taste {
    /// The least severity.
    pub(super) least: Severity,
    /// What is not repeated within this is forgotten there; none: it remembers.
    pub(super) repeat_ms: Option<u64>,
}

/// A message to bring now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Due {
    /// The state of the incident, and why it is told.
    pub(super) notice: Notice,
    /// Everything that happened since the last message, oldest first.
    pub(super) occasions: Vec<(UnixMs, Occasion)>,
    /// How bad it was called in the last message; none: this is the first one.
    pub(super) told_as: Option<Severity>,
    /// Whether there is nothing new in it.
    pub(super) is_repeat: bool,
}

impl Due {
    /// Whether nothing more is to be heard of it from here.
    pub(super) fn is_over(&self) -> bool {
        let is_joined = self.occasions.last().is_some_and(|(_, last)| *last == Occasion::Joined);
        is_joined || self.notice.incident.resolved_ms.is_some()
    }
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Bring this.
    Bring(Box<Due>),
    /// Nothing before then; none: nothing at all.
    Wait(Option<UnixMs>),
}

/// What became of a message that could not be brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is tried again.
    Again,
    /// Nobody will hear of it.
    GivenUp,
}

#[derive(Debug)]
struct Pending {
    notice: Notice,
    occasions: Vec<(UnixMs, Occasion)>,
    since_ms: UnixMs,
}

#[derive(Debug)]
struct Told {
    at_ms: UnixMs,
    severity: Severity,
    notice: Notice,
    is_over: bool,
    /// When it was last repeated or told.
    heard_ms: UnixMs,
}

/// The queue of one address.
#[derive(Debug)]
pub(super) struct Queue {
    pace: Pace,
    taste: Taste,
    pending: BTreeMap<u64, Pending>,
    told: BTreeMap<u64, Told>,
    failures: u32,
    retry_at_ms: UnixMs,
}

impl Queue {
    pub(super) fn new(pace: Pace, taste: Taste) -> Self {
        Self { pace, taste, pending: BTreeMap::new(), told: BTreeMap::new(), failures: 0, retry_at_ms: 0 }
    }

    /// Takes a notice; gives back another one that there is no room for any more.
    pub(super) fn offer(&mut self, notice: Notice) -> Option<Notice> {
        match notice.occasion {
            Occasion::Known => {
                self.know(notice);
                return None;
            }
            Occasion::Silenced => {
                self.pending.remove(&notice.incident.no);
                return None;
            }
            _ => {}
        }
        if !self.wants(&notice) {
            return None;
        }
        let (no, at_ms, occasion) = (notice.incident.no, notice.at_ms, notice.occasion);
        let begun = Pending { notice: notice.clone(), occasions: Vec::new(), since_ms: at_ms };
        let pending = self.pending.entry(no).or_insert(begun);
        if at_ms >= pending.notice.at_ms {
            pending.notice = notice;
        }
        if pending.occasions.len() < OCCASIONS_MAX {
            pending.occasions.push((at_ms, occasion));
        }
        if self.pending.len() > WAITING_MAX {
            return self.pending.pop_first().map(|(_, pending)| pending.notice);
        }
        None
    }

    /// What to do now.
    pub(super) fn next(&mut self, now_ms: UnixMs) -> Next {
        self.forget(now_ms);
        if now_ms < self.retry_at_ms && !(self.pending.is_empty() && self.repeats().next().is_none()) {
            return Next::Wait(Some(self.retry_at_ms));
        }
        let due = self.pending.iter().map(|(no, pending)| (self.free_at(*no), pending));
        match due.min_by_key(|(at_ms, pending)| (*at_ms, pending.since_ms)) {
            Some((at_ms, pending)) if at_ms <= now_ms => Next::Bring(Box::new(self.due(pending))),
            waiting => {
                let first = waiting.map(|(at_ms, _)| at_ms);
                match self.repeats().min_by_key(|(at_ms, _)| *at_ms) {
                    Some((at_ms, told)) if at_ms <= now_ms => Next::Bring(Box::new(repeat(told))),
                    again => Next::Wait(first.into_iter().chain(again.map(|(at_ms, _)| at_ms)).min()),
                }
            }
        }
    }

    /// What to do at the end, when there is no later: whatever waits, without a pause.
    pub(super) fn last(&self) -> Next {
        let first = self.pending.values().min_by_key(|pending| pending.since_ms);
        first.map_or(Next::Wait(None), |pending| Next::Bring(Box::new(self.due(pending))))
    }

    /// Incidents of which something was not brought.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u64> {
        self.pending.keys().copied()
    }

    /// A message was taken.
    pub(super) fn on_brought(&mut self, due: &Due, now_ms: UnixMs) {
        self.failures = 0;
        self.retry_at_ms = 0;
        let no = due.notice.incident.no;
        if due.is_repeat {
            if let Some(told) = self.told.get_mut(&no) {
                told.heard_ms = now_ms;
                told.severity = due.notice.incident.severity;
            }
            return;
        }
        self.drop_what_was_brought(due);
        let told = Told {
            at_ms: now_ms,
            severity: due.notice.incident.severity,
            is_over: due.is_over(),
            notice: due.notice.clone(),
            heard_ms: now_ms,
        };
        self.told.insert(no, told);
        while self.told.len() > WAITING_MAX {
            self.told.pop_first();
        }
    }

    /// A message was not taken. `again`: it may be, later.
    pub(super) fn on_failed(&mut self, due: &Due, again: bool, now_ms: UnixMs) -> Fate {
        self.failures = self.failures.saturating_add(1);
        let doubled = 1_u64.checked_shl(self.failures.saturating_sub(1).min(20)).unwrap_or(u64::MAX);
        let pause_ms = self.pace.retry_ms.saturating_mul(doubled).min(self.pace.retry_ms_max);
        self.retry_at_ms = now_ms.saturating_add(pause_ms);
        if due.is_repeat {
            return Fate::Again;
        }
        let since_ms = self.pending.get(&due.notice.incident.no).map_or(now_ms, |pending| pending.since_ms);
        if again && now_ms.saturating_sub(since_ms) < self.pace.give_up_ms {
            return Fate::Again;
        }
        self.drop_what_was_brought(due);
        Fate::GivenUp
    }

    /// How many failures there were in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// What came while the message was under way is the next one.
    fn drop_what_was_brought(&mut self, due: &Due) {
        let no = due.notice.incident.no;
        let Some(pending) = self.pending.get_mut(&no) else { return };
        let told = due.occasions.len().min(pending.occasions.len());
        pending.occasions.drain(..told);
        match pending.occasions.first() {
            Some((at_ms, _)) => pending.since_ms = *at_ms,
            None => drop(self.pending.remove(&no)),
        }
    }

    /// Nothing new, but it is to be repeated as it is now.
    fn know(&mut self, notice: Notice) {
        let no = notice.incident.no;
        if let Some(pending) = self.pending.get_mut(&no) {
            pending.notice.incident = notice.incident;
        } else if self.taste.repeat_ms.is_some() && notice.incident.severity >= self.taste.least {
            let (at_ms, severity) = (0, notice.incident.severity);
            // What it was called before must be taken back there.
            let told = Told { at_ms, severity, notice, is_over: false, heard_ms: 0 };
            match self.told.get_mut(&no) {
                Some(before) => before.notice = told.notice,
                None => drop(self.told.insert(no, told)),
            }
        }
    }

    fn wants(&self, notice: &Notice) -> bool {
        let no = notice.incident.no;
        let has_heard = self.told.contains_key(&no) || self.pending.contains_key(&no);
        // Who forgets what is not repeated must hear the end, or it would be repeated for ever.
        let is_end = matches!(notice.occasion, Occasion::Resolved | Occasion::Joined);
        let must_hear = self.taste.repeat_ms.is_some() && is_end && has_heard;
        if notice.occasion == Occasion::Joined && !has_heard {
            return false;
        }
        let is_bad = notice.incident.severity >= self.taste.least || has_heard;
        must_hear || (is_bad && !notice.is_silenced)
    }

    fn free_at(&self, no: u64) -> UnixMs {
        self.told.get(&no).map_or(0, |told| match told.at_ms {
            0 => 0,
            at_ms => at_ms.saturating_add(self.pace.apart_ms),
        })
    }

    fn due(&self, pending: &Pending) -> Due {
        Due {
            notice: pending.notice.clone(),
            occasions: pending.occasions.clone(),
            told_as: self.told.get(&pending.notice.incident.no).map(|told| told.severity),
            is_repeat: false,
        }
    }

    fn repeats(&self) -> impl Iterator<Item = (UnixMs, &Told)> {
        let open = self.told.values().filter(|told| !told.is_over);
        self.taste.repeat_ms.into_iter().flat_map(move |repeat_ms| {
            open.clone().map(move |told| (told.heard_ms.saturating_add(repeat_ms), told))
        })
    }

    /// What is over and was told long enough ago.
    fn forget(&mut self, now_ms: UnixMs) {
        let apart_ms = self.pace.apart_ms;
        self.told.retain(|_, told| !told.is_over || now_ms < told.at_ms.saturating_add(apart_ms));
    }
}

fn repeat(told: &Told) -> Due {
    Due { notice: told.notice.clone(), occasions: Vec::new(), told_as: Some(told.severity), is_repeat: true }
}

#[cfg(test)]
mod tests;
