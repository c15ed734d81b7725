//! What was asked for and what became of it, since the start of the node.
//!
//! Why it exists: a page that shows a storm needs the whole of it: what was asked for, what was served, put off and refused, in
//! every class, and how long it took. The census beside it counts decisions; here each thing is counted twice, when it comes and when it
//! ends, and those who are turned away by their first packet are counted too. It is written by all threads, also by those that run
//! only when nothing else wants to: so it must never lock, allocate or grow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buslane_chassis::oversee::{LATENCY_COUNTS, LatencyRow, Traffic, TrafficRow, latency_place};
use buslane_shared::class::{CLASSES, Class, PROTOCOLS, Protocol};
use buslane_shared::mark::Lane;

use super::outcome::{OUTCOMES, Outcome};

/// All counts.
pub(crate) struct Tally {
    cells: Box<[Cell]>,
    latency: Box<[[AtomicU64; LATENCY_COUNTS]]>,
}

/// One protocol in one class.
struct Cell {
    offered: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES],
}

impl Default for Cell {
    fn default() -> Self {
        Self { offered: AtomicU64::new(0), outcomes: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            cells: (0..PROTOCOLS * CLASSES).map(|_| Cell::default()).collect(),
            latency: (0..CLASSES).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
        }
    }

    /// Something is asked for.
    pub(crate) fn on_offered(&self, protocol: Protocol, class: Class) {
        if let Some(cell) = self.cell(protocol, class) {
            cell.offered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// That is what became of it.
    pub(crate) fn on_ended(&self, protocol: Protocol, class: Class, outcome: Outcome) {
        let count = self.cell(protocol, class).and_then(|cell| cell.outcomes.get(outcome.index()));
        count.inspect(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// An answer took this long.
    pub(crate) fn on_took(&self, class: Class, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let count = self.latency.get(class.index()).and_then(|counts| counts.get(latency_place(took_us)));
        count.inspect(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Somebody who wants a session is turned away by his first packet, and it is not known who he is. One who gets no answer
    /// asks again, and counts again.
    pub(crate) fn on_turned_away(&self, lane: Lane, outcome: Outcome) {
        let class = match lane {
            Lane::Front => Class::Look,
            Lane::Wake => Class::Wake,
        };
        self.on_offered(Protocol::Login, class);
        self.on_ended(Protocol::Login, class, outcome);
    }

    /// Requests of foreground that were offered until now, whatever became of them. A claim that was not believed is none.
    pub(crate) fn foreground_offered(&self) -> u64 {
        let classes = || Class::ALL.into_iter().filter(|class| class.is_foreground());
        let cells = Protocol::ALL.into_iter().flat_map(|p| classes().filter_map(move |c| self.cell(p, c)));
        cells.map(|cell| read(&cell.offered)).sum()
    }

    /// Everything until now.
    pub(crate) fn traffic(&self) -> Traffic {
        // Who continues a session is in the row of those who open one.
        let protocols = Protocol::ALL.into_iter().filter(|protocol| *protocol != Protocol::Resume);
        let keys = protocols.flat_map(|p| Class::ALL.into_iter().map(move |c| (p, c)));
        let rows = keys.filter_map(|(protocol, class)| self.row(protocol, class)).collect();
        let latency = Class::ALL.into_iter().zip(&self.latency).filter_map(latency_row).collect();
        Traffic { rows, latency }
    }

    fn row(&self, protocol: Protocol, class: Class) -> Option<TrafficRow> {
        let and_also = (protocol == Protocol::Login).then_some(Protocol::Resume);
        let cells = || [Some(protocol), and_also].into_iter().flatten().filter_map(|p| self.cell(p, class));
        let count = |outcome: Outcome| {
            cells().filter_map(|cell| cell.outcomes.get(outcome.index())).map(read).sum::<u64>()
        };
        let reasons: Vec<_> = Outcome::refusals()
            .map(|outcome| (outcome.name(), count(outcome)))
            .filter(|(_, count)| *count > 0)
            .collect();
        // Read last: nobody shall have ended who was not asked for.
        let (served, deferred) = (count(Outcome::Served), count(Outcome::Deferred));
        let offered = cells().map(|cell| read(&cell.offered)).sum();
        (offered > 0).then(|| TrafficRow {
            class: class.name(),
            protocol: protocol.name(),
            offered,
            served,
            deferred,
            refused: reasons.iter().map(|(_, count)| count).sum(),
            reasons,
        })
    }

    fn cell(&self, protocol: Protocol, class: Class) -> Option<&Cell> {
        self.cells.get(protocol.index() * CLASSES + class.index())
    }
}

fn latency_row((class, counts): (Class, &[AtomicU64; LATENCY_COUNTS])) -> Option<LatencyRow> {
    let counts: Vec<u64> = counts.iter().map(read).collect();
    counts.iter().any(|count| *count > 0).then(|| LatencyRow { class: class.name(), counts })
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use buslane_chassis::oversee::percentile_us;
    use buslane_shared::overload::lanes::Why;
    use buslane_shared::refusal::Code;

    use super::*;
    use crate::load::outcome::Reason;

    fn row(tally: &Tally, protocol: &str, class: &str) -> TrafficRow {
        let rows = tally.traffic().rows;
        rows.into_iter().find(|row| (row.protocol, row.class) == (protocol, class)).unwrap()
    }

    #[test]
    fn each_thing_has_one_outcome_and_its_reason() {
        let tally = Tally::new();
        let outcomes = [
            Outcome::Served,
            Outcome::Served,
            Outcome::Refused(Reason::Level),
            Outcome::Refused(Reason::Lane(Why::Background)),
            Outcome::Refused(Reason::Lane(Why::Background)),
            Outcome::Refused(Reason::Code(Code::Unavailable)),
            Outcome::Deferred,
        ];
        for outcome in outcomes {
            tally.on_offered(Protocol::MessageSync, Class::Wake);
            tally.on_ended(Protocol::MessageSync, Class::Wake, outcome);
        }
        tally.on_offered(Protocol::MessageSync, Class::Wake);
        let row = row(&tally, "message.sync", "C5");
        assert_eq!((row.offered, row.served, row.deferred, row.refused), (8, 2, 1, 4));
        assert_eq!(row.reasons, [("level", 1), ("background", 2), ("unavailable", 1)]);
        assert_eq!(tally.traffic().rows.len(), 1, "what nobody asked for is left out");
    }

    #[test]
    fn whoever_wants_a_session_is_a_login() {
        let tally = Tally::new();
        for protocol in [Protocol::Login, Protocol::Resume] {
            tally.on_offered(protocol, Class::Wake);
            tally.on_ended(protocol, Class::Wake, Outcome::Served);
        }
        tally.on_turned_away(Lane::Wake, Outcome::Deferred);
        tally.on_turned_away(Lane::Wake, Outcome::Refused(Reason::Silence));
        let row = row(&tally, "login", "C5");
        assert_eq!((row.offered, row.served, row.deferred, row.refused), (4, 2, 1, 1));
        assert_eq!(tally.traffic().rows.len(), 1);
    }

    #[test]
    fn how_long_it_took_is_known_by_class() {
        let tally = Tally::new();
        for ms in 1..=100 {
            tally.on_took(Class::Talk, Duration::from_millis(ms));
        }
        let [row] = &tally.traffic().latency[..] else { panic!("one class was answered") };
        assert_eq!((row.class, row.counts.len()), ("C1", LATENCY_COUNTS));
        for (share, truth_us) in [(0.5, 50_000.0), (0.99, 99_000.0)] {
            let told = percentile_us(&row.counts, share).unwrap() as f64;
            assert!((told / truth_us - 1.0).abs() < 0.1, "{share}: {told}");
        }
    }
}
