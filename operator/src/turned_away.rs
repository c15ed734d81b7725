//! How many logins a node has turned away in the last minutes, and why, without names.
//!
//! Why it exists: who is turned away by the first packet has not said who he is, so "why was this phone refused" has no answer by
//! name in a storm. The honest answer is how many there were. It holds a count every ten seconds of ten minutes, and must never
//! claim to know whose they were.

use std::collections::{BTreeMap, VecDeque};

use buslane_chassis::oversee::Traffic;
use buslane_shared::UnixMs;
use buslane_shared::class::Protocol;
use parking_lot::Mutex;

use crate::view::Nameless;

/// How far it goes back.
const SPAN_MS: u64 = 10 * 60 * 1_000;

/// Between two counts that are kept.
const STEP_MS: u64 = 10_000;

/// What a login that was told when to come back is counted as.
const DEFERRED: &str = "deferred";

/// The counts of one node.
#[derive(Debug, Default)]
pub struct TurnedAway(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Every ten seconds, oldest first.
    kept: VecDeque<Count>,
    now: Option<Count>,
}

#[derive(Debug, Clone)]
struct Count {
    at_ms: UnixMs,
    /// Since the start of the node, by reason.
    reasons: BTreeMap<&'static str, u64>,
}

impl TurnedAway {
    /// What the node has counted up to now.
    pub fn on_reading(&self, at_ms: UnixMs, traffic: &Traffic) {
        let mut reasons = BTreeMap::new();
        for row in traffic.rows.iter().filter(|row| row.protocol == Protocol::Login.name()) {
            *reasons.entry(DEFERRED).or_default() += row.deferred;
            for (reason, count) in &row.reasons {
                *reasons.entry(*reason).or_default() += count;
            }
        }
        let count = Count { at_ms, reasons };
        let mut counts = self.0.lock();
        // A clock that was set back begins anew.
        counts.kept.retain(|kept| kept.at_ms <= at_ms && at_ms - kept.at_ms <= SPAN_MS);
        if counts.kept.back().is_none_or(|last| at_ms - last.at_ms >= STEP_MS) {
            counts.kept.push_back(count.clone());
        }
        counts.now = Some(count);
    }

    /// What there was in the last minutes; none: this process has counted nothing.
    pub fn view(&self, node: &str) -> Option<Nameless> {
        let counts = self.0.lock();
        let (first, now) = (counts.kept.front()?, counts.now.as_ref()?);
        let since = |reason: &str, count: u64| {
            count.saturating_sub(first.reasons.get(reason).copied().unwrap_or_default())
        };
        let grown = now.reasons.iter().map(|(reason, count)| ((*reason).to_owned(), since(reason, *count)));
        Some(Nameless {
            node: node.to_owned(),
            span_ms: now.at_ms.saturating_sub(first.at_ms),
            reasons: grown.filter(|(_, count)| *count > 0).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use buslane_chassis::oversee::TrafficRow;

    use super::*;

    fn traffic(deferred: u64, silence: u64) -> Traffic {
        let row = |protocol, class| TrafficRow {
            class,
            protocol,
            offered: deferred + silence,
            served: 0,
            deferred,
            refused: silence,
            reasons: vec![("silence", silence)],
        };
        Traffic {
            rows: vec![row("login", "C2"), row("login", "C5"), row("message.send", "C1")],
            latency: vec![],
        }
    }

    #[test]
    fn logins_of_the_last_minutes_are_counted_by_reason_and_others_are_not() {
        let away = TurnedAway::default();
        assert_eq!(away.view("sm1"), None);
        away.on_reading(1_000, &traffic(5, 0));
        assert_eq!(
            away.view("sm1").unwrap().reasons,
            BTreeMap::new(),
            "what was before is not of these minutes"
        );
        away.on_reading(61_000, &traffic(8, 2));
        let view = away.view("sm1").unwrap();
        assert_eq!((view.span_ms, view.node.as_str()), (60_000, "sm1"));
        assert_eq!(view.reasons, [("deferred".to_owned(), 6), ("silence".to_owned(), 4)].into());
    }

    #[test]
    fn it_forgets_and_is_bounded() {
        let away = TurnedAway::default();
        for second in 0..3_600 {
            away.on_reading(second * 1_000, &traffic(second, 0));
        }
        let view = away.view("sm1").unwrap();
        assert!(view.span_ms <= SPAN_MS && view.span_ms > SPAN_MS - STEP_MS, "{view:?}");
        assert_eq!(view.reasons["deferred"], 2 * view.span_ms / 1_000);
        assert!(away.0.lock().kept.len() <= 61);
        away.on_reading(5, &traffic(0, 0));
        assert_eq!(away.view("sm1").unwrap().span_ms, 0);
    }
}
