//! From what is wrong in this second to what people are told: it must last before it is told, and be gone for a while before it is
//! over. Pure; one step a second.
//!
//! Why it exists: somebody who is called six times in a minute stops looking. What comes back soon must stay away twice as long
//! before it is called over. It must never tell an effect while its cause is told, nor for a while after it: effects end later.

use std::collections::BTreeMap;

use buslane_shared::UnixMs;

use super::troubles::{Standing, Trouble};
use crate::view::Alert;

/// Steps for which what was the effect of something else is taken for its echo.
const ECHO_STEPS: u32 = 120;

/// Something that comes back within so many steps of its end flaps.
const SOON_STEPS: u32 = 300;

/// However often it comes back, it is over after so many steps.
const CLEAR_STEPS_MAX: u32 = 300;

/// What has changed in a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is told from now on, or it is worse than was told.
    Raised(Alert),
    /// It is over.
    Cleared(Alert),
}

/// What is known of each trouble. Keys come from the catalogue, so it is bounded.
#[derive(Debug, Default)]
pub struct Damper {
    known: BTreeMap<&'static str, Known>,
}

#[derive(Debug)]
struct Known {
    /// Steps in a row in which it was seen.
    seen: u32,
    /// When the first of these was.
    since_ms: UnixMs,
    /// Steps in a row in which it was not seen.
    gone: u32,
    /// Steps for which it is still taken for the echo of another one.
    echo: u32,
    /// Steps that it must be gone.
    clear: u32,
    /// What is told.
    told: Option<Alert>,
    /// Steps since it was over last.
    over: Option<u32>,
}

impl Damper {
    /// One second later. What has changed.
    pub fn step(&mut self, now_ms: UnixMs, troubles: Vec<Trouble>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut seen = Vec::with_capacity(troubles.len());
        for trouble in troubles {
            seen.push(trouble.rule.key);
            let known = self.known.entry(trouble.rule.key).or_insert_with(|| Known::new(&trouble, now_ms));
            changes.extend(known.on_seen(trouble, now_ms));
        }
        for (key, known) in &mut self.known {
            if !seen.contains(key) {
                changes.extend(known.on_gone());
            }
        }
        self.known.retain(|_, known| known.matters());
        changes
    }

    /// What is told now, the worst first.
    pub fn alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.known.values().filter_map(|known| known.told.clone()).collect();
        alerts.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.since_ms.cmp(&b.since_ms)));
        alerts
    }
}

impl Known {
    fn new(trouble: &Trouble, now_ms: UnixMs) -> Self {
        let clear = trouble.rule.clear_s;
        Self { seen: 0, since_ms: now_ms, gone: 0, echo: 0, clear, told: None, over: None }
    }

    fn on_seen(&mut self, trouble: Trouble, now_ms: UnixMs) -> Option<Change> {
        self.over = self.over.map(|steps| steps.saturating_add(1));
        match trouble.standing {
            Standing::Effect => {
                self.echo = ECHO_STEPS;
                self.seen = 0;
                self.gone = 0;
                // The cause is told instead.
                self.told.take().map(Change::Cleared)
            }
            Standing::Lingering => {
                self.gone = 0;
                self.seen = 0;
                None
            }
            Standing::Cause if self.echo > 0 => {
                self.echo -= 1;
                None
            }
            Standing::Cause => self.on_cause(trouble, now_ms),
        }
    }

    fn on_cause(&mut self, trouble: Trouble, now_ms: UnixMs) -> Option<Change> {
        if self.seen == 0 && self.told.is_none() {
            self.since_ms = now_ms;
        }
        self.seen = self.seen.saturating_add(1);
        self.gone = 0;
        if self.told.is_none() && self.seen < trouble.rule.hold_s {
            return None;
        }
        let alert = self.alert(trouble);
        let is_worse = self.told.as_ref().is_none_or(|told| told.severity < alert.severity);
        if self.told.is_none() && self.over.take().is_some_and(|steps| steps <= SOON_STEPS) {
            self.clear = self.clear.saturating_mul(2).min(CLEAR_STEPS_MAX);
        }
        self.told = Some(alert.clone());
        is_worse.then_some(Change::Raised(alert))
    }

    fn alert(&self, trouble: Trouble) -> Alert {
        let Trouble { rule, severity, title, why, affects, .. } = trouble;
        Alert {
            key: rule.key.to_owned(),
            severity,
            title,
            why,
            since_ms: self.since_ms,
            affects,
            runbook: rule.runbook.to_owned(),
            pages: rule.pages,
        }
    }

    fn on_gone(&mut self) -> Option<Change> {
        self.seen = 0;
        self.echo = 0;
        self.over = self.over.map(|steps| steps.saturating_add(1));
        self.gone = self.gone.saturating_add(1);
        if self.gone < self.clear {
            return None;
        }
        let told = self.told.take()?;
        self.over = Some(0);
        Some(Change::Cleared(told))
    }

    /// Whether something of it is to be remembered.
    fn matters(&self) -> bool {
        self.told.is_some() || self.gone == 0 || self.over.is_some_and(|steps| steps <= SOON_STEPS)
    }
}

#[cfg(test)]
mod tests;
