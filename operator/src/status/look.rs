//! One look at everything that this process can see, from memory: nobody is asked here and nothing is waited for.

use std::collections::BTreeMap;

use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Overseer;
use buslane_chassis::readiness::Verdict;
use buslane_shared::UnixMs;
use buslane_shared::overload::posture;
use tokio::time::Instant;

use super::facts::{Facts, Heard, Manager, Probe, Seats, Stocks};
use super::judge::{FRESH_MS, SILENT_MS};
use super::troubles::WINDOW;
use crate::history::Stretch;
use crate::sampler::notice;
use crate::seat::Seat;
use crate::view::{NodeView, State};

/// Session managers that are remembered after the backend has forgotten them.
const REMEMBERED_MAX: usize = 256;

/// How long they are: somebody should have seen to it by then.
const REMEMBERED_MS: u64 = 3_600_000;

/// Posture of a node that obeys an order and does not say what it would do by itself.
const ORDERED: &str = "normal";

/// What is looked at more seldom, because it costs more.
#[derive(Debug, Clone, Default)]
pub struct Seldom {
    /// Memory and descriptors.
    pub stocks: Stocks,
    /// What is damaged in the audit.
    pub audit_damage: Option<String>,
}

/// The session managers that were there once: the backend forgets those that are gone, and they are what matters.
#[derive(Debug, Default)]
pub struct Memory {
    known: BTreeMap<String, Manager>,
}

impl Memory {
    /// Takes over what was seen now, and adds those that are not seen any more, so much older.
    fn with_missing(&mut self, seen: Vec<Manager>, elapsed_ms: u64) -> Vec<Manager> {
        for known in self.known.values_mut() {
            known.age_ms = known.age_ms.saturating_add(elapsed_ms);
        }
        for one in seen {
            self.known.insert(one.node.clone(), one);
        }
        // One that drained and left is not missed for long.
        self.known.retain(|_, one| {
            let limit_ms = if one.draining { 4 * SILENT_MS } else { REMEMBERED_MS };
            one.age_ms <= limit_ms
        });
        while self.known.len() > REMEMBERED_MAX {
            let oldest = self.known.values().max_by_key(|one| one.age_ms).map(|one| one.node.clone());
            if oldest.is_none_or(|oldest| self.known.remove(&oldest).is_none()) {
                break;
            }
        }
        self.known.values().cloned().collect()
    }
}

/// Looks.
pub fn look(seat: &Seat, memory: &mut Memory, seldom: &Seldom, now_ms: UnixMs, elapsed_ms: u64) -> Facts {
    let overseer = seat.desk.overseer.as_deref();
    let nodes = seat.peers.views();
    let own = overseer.map(|overseer| own(overseer, seat));
    let seen = merge(own, directly(&nodes), through_backend(&seat.desk.feed));
    let seconds = seat.history.samples(Stretch::TenMinutes);
    let from = seconds.len().saturating_sub(WINDOW);
    Facts {
        now_ms,
        here: seat.node.clone(),
        role: seat.role,
        checks: checks(seat),
        feed_connected: seat.desk.feed.freshness().borrow().connected,
        gateways_attached: seat.desk.feed.loads().borrow().gateways(),
        managers: memory.with_missing(seen, elapsed_ms),
        nodes,
        seconds: seconds.get(from..).unwrap_or_default().to_vec(),
        seats: overseer.map(|overseer| {
            let lanes = overseer.lanes();
            Seats { all: lanes.seats, background: lanes.background_seats }
        }),
        probe: probe(seat),
        certificate_ends_ms: seat.certificate_ends.as_ref().and_then(|ends| ends()),
        audit_damage: seldom.audit_damage.clone(),
        stocks: seldom.stocks,
    }
}

fn checks(seat: &Seat) -> BTreeMap<String, Option<String>> {
    let verdicts = seat.readiness.verdicts().into_iter();
    let said = verdicts.map(|(name, verdict)| match verdict {
        Verdict::Ready => (name.to_owned(), None),
        Verdict::NotReady(why) => (name.to_owned(), Some(why)),
    });
    said.collect()
}

fn probe(seat: &Seat) -> Probe {
    let probe = seat.status.probe();
    match (probe.off(), probe.last()) {
        (Some(why), _) => Probe::Off(why.to_owned()),
        (None, None) => Probe::Waiting,
        (None, Some(last)) => {
            let fresh_ms = u64::try_from(probe.fresh().as_millis()).unwrap_or(u64::MAX);
            Probe::Done { last, fresh_ms }
        }
    }
}

fn own(overseer: &dyn Overseer, seat: &Seat) -> Manager {
    let view = overseer.posture();
    let lacks = seat.readiness.verdicts().remove("backend").and_then(|verdict| match verdict {
        Verdict::Ready => None,
        Verdict::NotReady(why) => Some(why),
    });
    Manager {
        node: view.node,
        age_ms: 0,
        heard: Heard::Here,
        draining: overseer.drain_state().draining,
        measured: posture::name(view.measured).to_owned(),
        cause: view.cause.as_ref().map(notice::measured),
        order: view.order,
        lacks,
    }
}

fn directly(nodes: &[NodeView]) -> Vec<Manager> {
    let managers = nodes.iter().filter(|node| !node.here && node.role == "session-manager");
    managers
        .map(|node| Manager {
            node: node.node.clone(),
            age_ms: node.age_ms.unwrap_or(match node.state {
                State::Down => SILENT_MS + 1,
                _ => FRESH_MS + 1,
            }),
            heard: Heard::Directly,
            draining: node.draining,
            measured: measured(node.posture.as_deref(), node.order),
            cause: node.cause.clone(),
            order: node.order,
            lacks: node.lacks.values().next().cloned(),
        })
        .collect()
}

/// What a node measures, as far as it can be told from the posture that holds there.
fn measured(posture: Option<&str>, order: Option<u64>) -> String {
    match order {
        Some(_) => ORDERED.to_owned(),
        None => posture.unwrap_or(ORDERED).to_owned(),
    }
}

fn through_backend(feed: &Feed) -> Vec<Manager> {
    let (nodes, loads, now) = (feed.nodes(), feed.loads(), Instant::now());
    let loads = loads.borrow();
    let told = nodes.iter().filter_map(|node| {
        let heard = loads.of(&node.name)?;
        let age = now.saturating_duration_since(heard.at);
        Some(Manager {
            node: node.name.clone(),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            heard: Heard::ThroughBackend,
            draining: node.draining,
            measured: measured(Some(posture::name(heard.report.posture)), heard.report.order),
            cause: None,
            order: heard.report.order,
            lacks: None,
        })
    });
    told.collect()
}

/// One of each: this process, or what was heard directly, unless the backend knows something that is fresh where the
/// other is not.
fn merge(own: Option<Manager>, directly: Vec<Manager>, through_backend: Vec<Manager>) -> Vec<Manager> {
    let mut all: BTreeMap<String, Manager> = BTreeMap::new();
    for one in through_backend {
        all.insert(one.node.clone(), one);
    }
    for one in directly {
        let told = all.get(&one.node);
        let is_told_fresh = told.is_some_and(|told| told.age_ms <= FRESH_MS && one.age_ms > FRESH_MS);
        if !is_told_fresh {
            all.insert(one.node.clone(), one);
        }
    }
    all.extend(own.map(|own| (own.node.clone(), own)));
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(node: &str, age_ms: u64, heard: Heard) -> Manager {
        Manager {
            node: node.to_owned(),
            age_ms,
            heard,
            draining: false,
            measured: "normal".to_owned(),
            cause: None,
            order: None,
            lacks: None,
        }
    }

    #[test]
    fn the_nearest_word_counts_unless_it_is_old() {
        let rows = [
            (100, 900, Heard::Directly),
            (6_000, 900, Heard::ThroughBackend),
            (6_000, 7_000, Heard::Directly),
            (20_000, 900, Heard::ThroughBackend),
        ];
        for (direct_ms, told_ms, heard) in rows {
            let direct = vec![manager("sm1", direct_ms, Heard::Directly)];
            let told = vec![manager("sm1", told_ms, Heard::ThroughBackend)];
            assert_eq!(merge(None, direct, told)[0].heard, heard, "{direct_ms} {told_ms}");
        }
        let own = manager("sm1", 0, Heard::Here);
        let told = vec![manager("sm1", 1, Heard::ThroughBackend), manager("sm2", 1, Heard::ThroughBackend)];
        let all = merge(Some(own), Vec::new(), told);
        assert_eq!((all.len(), all[0].heard), (2, Heard::Here));
    }

    #[test]
    fn who_is_gone_is_missed_for_an_hour_and_who_drained_for_a_minute() {
        let mut memory = Memory::default();
        let drained = Manager { draining: true, ..manager("sm2", 0, Heard::ThroughBackend) };
        memory.with_missing(vec![manager("sm1", 500, Heard::ThroughBackend), drained], 0);
        let after = memory.with_missing(Vec::new(), 20_000);
        assert_eq!(after.iter().map(|one| one.age_ms).collect::<Vec<_>>(), [20_500, 20_000]);
        assert_eq!(memory.with_missing(Vec::new(), 60_000).len(), 1);
        let back = memory.with_missing(vec![manager("sm1", 3, Heard::ThroughBackend)], 1_000);
        assert_eq!(back[0].age_ms, 3);
        assert!(memory.with_missing(Vec::new(), REMEMBERED_MS).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = Memory::default();
        let many = (0..2 * REMEMBERED_MAX as u64)
            .map(|n| manager(&format!("sm{n}"), n, Heard::ThroughBackend))
            .collect();
        let kept = memory.with_missing(many, 0);
        assert_eq!(kept.len(), REMEMBERED_MAX);
        assert!(kept.iter().all(|one| one.age_ms < REMEMBERED_MAX as u64));
    }
}
