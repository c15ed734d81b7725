//! The session managers as a gateway sees them: how each one stands, and when it has room for those who are put off.
//!
//! Why it exists: each gateway hands out its own part of a manager's slots, without asking anybody, so that a storm of logins costs
//! one answer at the gateway and nothing behind it. It must never promise a time that the manager itself has promised already,
//! and never believe a report that is old.

use std::collections::HashMap;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::feed::{Feed, Loads};
use buslane_shared::mark::{Mark, NodeTag};
use buslane_shared::overload::posture::Report;
use buslane_shared::refusal::{Busy, Refusal};
use buslane_shared::slots::{Asker, Grant, Ledger, Rates};
use buslane_shared::token::KeyRing;
use buslane_shared::{Nanos, UnixMs};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::arrival::class;
use crate::config::Slots;
use crate::shed::{Lane, Manager};

/// Where no slot can be promised: back after this part of the horizon at least.
const LATER_PART_MIN: f64 = 0.5;

/// The session managers.
pub struct Managers {
    settings: Slots,
    /// One for each manager that was full lately; never more than the backend names.
    ledgers: Mutex<HashMap<String, Ledger>>,
    born: Instant,
}

impl Managers {
    /// Slots by these settings.
    pub fn new(settings: Slots) -> Self {
        Self { settings, ledgers: Mutex::default(), born: Instant::now() }
    }

    /// How a manager stands, as far as it was heard lately.
    pub fn standing(loads: &Loads, node: &str) -> Manager {
        loads.fresh(node, Instant::now()).map_or(Manager::Unknown, Manager::of)
    }

    /// How far a client may miss its slot.
    pub fn tolerance_ms(&self) -> u32 {
        self.settings.tolerance_ms
    }

    /// Puts somebody off who wants to a manager that is full.
    pub fn defer(&self, loads: &Loads, node: &str, keys: &KeyRing, asker: Asker, now_ms: UnixMs) -> Refusal {
        let report = loads.of(node).map(|heard| heard.report);
        let granted = report.as_ref().and_then(|report| {
            let random = u32::from_le_bytes(clock::random());
            let now = self.nanos();
            let grant = self.grant(node, report, loads.gateways(), asker, now, random)?;
            let at_ms = grant.at_ms(now, now_ms);
            let (lane, to) = (class(Lane::Background), NodeTag::of(node));
            let slot =
                Mark::slot_for(lane, to, at_ms, &grant, Some(asker), u32::from_le_bytes(clock::random()));
            Some((grant.wait_ms(now), keys.marks().make(&slot, now_ms)?))
        });
        let what = if granted.is_some() { "given" } else { "beyond_horizon" };
        metrics::counter!("buslane_gateway_slots_total", "what" => what).increment(1);
        match granted {
            Some((wait_ms, slot)) => busy(report.as_ref(), wait_ms, Bytes::copy_from_slice(&slot)),
            None => busy(report.as_ref(), self.later_ms(), Bytes::new()),
        }
    }

    /// Somebody has come in the slot that was given to him: it is not told again.
    pub fn on_slot(&self, node: &str, asker: Asker) {
        let now = self.nanos();
        self.ledgers.lock().get_mut(node).map(|ledger| ledger.redeem(asker, now));
    }

    /// Lets somebody who is early wait for the rest of the time.
    pub fn wait(&self, loads: &Loads, node: &str, slot: &Bytes, wait_ms: u32) -> Refusal {
        busy(loads.of(node).map(|heard| &heard.report), wait_ms, slot.clone())
    }

    /// Forgets the ledgers in which nobody waits any more.
    pub fn sweep(&self) {
        let now = self.nanos();
        self.ledgers.lock().retain(|_, ledger| ledger.length(now) > 0);
    }

    /// Our part of the next free place at a manager, behind all that it has promised itself.
    fn grant(
        &self,
        node: &str,
        report: &Report,
        gateways: u32,
        asker: Asker,
        now: Nanos,
        random: u32,
    ) -> Option<Grant> {
        let Slots { fill, horizon_ms, tolerance_ms } = self.settings;
        let mut ledgers = self.ledgers.lock();
        let fresh = || Ledger::new(fill, nanos(horizon_ms), nanos(tolerance_ms));
        let ledger = match ledgers.get_mut(node) {
            Some(ledger) => ledger,
            None => ledgers.entry(node.to_owned()).or_insert_with(fresh),
        };
        ledger.advance(now.saturating_add(nanos(report.ledger_ms)));
        let part = f64::from(gateways.max(1));
        let rates =
            Rates { now: report.background_per_s / part, later: report.background_later_per_s / part };
        ledger.grant_to(Some(asker), now, 1.0, rates, random)
    }

    /// A time without a promise, spread so that those who were put off together do not return together.
    fn later_ms(&self) -> u32 {
        let part = LATER_PART_MIN + (1.0 - LATER_PART_MIN) * rand::random::<f64>();
        (f64::from(self.settings.horizon_ms) * part) as u32
    }

    fn nanos(&self) -> Nanos {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The manager to which a user is sent, and how loaded all of them are.
pub fn loads(feed: &Feed) -> std::sync::Arc<Loads> {
    feed.loads().borrow().clone()
}

fn busy(report: Option<&Report>, wait_ms: u32, slot: Bytes) -> Refusal {
    let busy = Busy {
        class: class(Lane::Background),
        level: report.map_or(0, |report| report.level),
        posture: report.map_or_else(Default::default, |report| report.posture),
        slot,
    };
    Refusal::busy(busy, wait_ms)
}

fn nanos(ms: u32) -> Nanos {
    u64::try_from(Duration::from_millis(ms.into()).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::wire::Posture;

    const SECOND: Nanos = 1_000_000_000;

    fn report(background_per_s: f64, ledger_ms: u32) -> Report {
        let posture = Posture::Emergency;
        Report { posture, level: 640, background_per_s, ledger_ms, no: 1, ..Report::default() }
    }

    fn last_of(managers: &Managers, report: &Report, gateways: u32, count: u32) -> Nanos {
        (0..count)
            .filter_map(|n| managers.grant("m1", report, gateways, Asker::from_bits(n), 0, n))
            .last()
            .unwrap()
            .at
    }

    #[test]
    fn a_gateway_hands_out_its_part_and_begins_behind_the_manager() {
        let alone = last_of(&Managers::new(Slots::default()), &report(100.0, 0), 1, 95);
        assert!(alone.abs_diff(SECOND) < SECOND / 20, "{alone}");
        let one_of_two = last_of(&Managers::new(Slots::default()), &report(100.0, 0), 2, 95);
        assert!(one_of_two.abs_diff(2 * SECOND) < SECOND / 20, "{one_of_two}");
        let behind = last_of(&Managers::new(Slots::default()), &report(100.0, 5_000), 1, 1);
        assert!(behind > 5 * SECOND, "{behind}");
    }

    /// In a storm a manager takes its floor. Phones that are put off to the other side of it must not be counted out by that.
    #[test]
    fn what_is_far_away_is_spaced_by_what_the_manager_takes_in_the_calm() {
        let in_a_storm = |later, count| {
            let report = Report { background_later_per_s: later, ..report(25.0, 0) };
            last_of(&Managers::new(Slots::default()), &report, 1, count)
        };
        let (near, as_now) = (in_a_storm(500.0, 400), in_a_storm(0.0, 5_000));
        assert!(near.abs_diff(17 * SECOND) < SECOND, "400 at 23.75 a second: {near}");
        assert!(as_now.abs_diff(210 * SECOND) < 2 * SECOND, "a manager that says nothing of it: {as_now}");
        let far = in_a_storm(500.0, 5_000);
        assert!(far.abs_diff(29 * SECOND + SECOND / 2) < SECOND, "475, and 4,525 at 475 a second: {far}");
    }

    #[test]
    fn each_manager_has_a_ledger_of_its_own_and_an_empty_one_is_forgotten() {
        let managers = Managers::new(Slots::default());
        last_of(&managers, &report(1.0, 0), 1, 10);
        let other = managers.grant("m2", &report(1.0, 0), 1, Asker::from_bits(0), 0, 0).unwrap();
        assert!(other.at < 2 * SECOND);
        managers.grant("m3", &report(0.0, 0), 1, Asker::from_bits(0), 0, 0);
        managers.sweep();
        assert!(managers.ledgers.lock().contains_key("m1") && !managers.ledgers.lock().contains_key("m3"));
    }

    #[test]
    fn beyond_the_horizon_there_is_a_time_and_no_promise() {
        let managers = Managers::new(Slots { horizon_ms: 10_000, ..Slots::default() });
        assert_eq!(managers.grant("m1", &report(0.01, 0), 1, Asker::from_bits(0), 0, 0), None);
        for _ in 0..100 {
            assert!((5_000..=10_000).contains(&managers.later_ms()));
        }
    }
}
