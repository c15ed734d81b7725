//! What was decided about requests, by class and protocol: for the metrics, and over the last second for people.
//!
//! Why it exists: "what is refused now, and what would be if" is the first question in a bad night. It must never cost more than
//! two additions for a request, and never grow.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buslane_shared::class::{CLASSES, Class, PROTOCOLS, Protocol};
use buslane_shared::overload::lanes::Why;
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The window that people are shown.
const WINDOW: Duration = Duration::from_secs(1);

/// What was decided about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It got a seat at once, or was answered here.
    Admitted,
    /// It waited for its seat.
    Waited,
    /// Its level is not admitted now.
    Level,
    /// The lanes had no seat for it.
    Lane(Why),
    /// It would have been refused, but its class is only tried out.
    DryRun,
    /// It claimed to be of this class more often than one session may, and went on as background.
    Demoted,
}

const DECISIONS: usize = 5 + Why::ALL.len();

impl Decision {
    /// Its metric label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Waited => "waited",
            Self::Level => "level",
            Self::Lane(why) => why.name(),
            Self::DryRun => "dry_run",
            Self::Demoted => "demoted",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Admitted => 0,
            Self::Waited => 1,
            Self::Level => 2,
            Self::DryRun => 3,
            Self::Demoted => 4,
            Self::Lane(why) => 5 + Why::ALL.iter().position(|w| *w == why).unwrap_or(0),
        }
    }

    /// Whether it is the last that is decided about a request.
    fn is_final(self) -> bool {
        !matches!(self, Self::DryRun | Self::Demoted)
    }

    fn is_refusal(self) -> bool {
        matches!(self, Self::Level | Self::Lane(_))
    }
}

/// Counts of one protocol in one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Row {
    /// Asked for.
    pub(crate) offered: u64,
    /// Of these, refused.
    pub(crate) refused: u64,
}

#[derive(Default)]
struct Cell {
    offered: AtomicU64,
    refused: AtomicU64,
    counters: [OnceLock<Counter>; DECISIONS],
}

impl Cell {
    fn row(&self) -> Row {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Row { offered: read(&self.offered), refused: read(&self.refused) }
    }
}

/// All counts.
pub(crate) struct Census {
    cells: Box<[Cell]>,
    waits: [Histogram; CLASSES],
    shown: Mutex<Shown>,
}

struct Shown {
    began: Instant,
    /// The counts when the window began.
    before: Vec<Row>,
    /// What came in the window before this one, for a second.
    last: Vec<Row>,
}

impl Census {
    pub(crate) fn new() -> Self {
        let count = PROTOCOLS * CLASSES;
        let shown = Shown {
            began: Instant::now(),
            before: vec![Row::default(); count],
            last: vec![Row::default(); count],
        };
        let wait =
            |class: Class| histogram!("buslane_session_manager_seat_wait_seconds", "class" => class.name());
        Self {
            cells: (0..count).map(|_| Cell::default()).collect(),
            waits: Class::ALL.map(wait),
            shown: Mutex::new(shown),
        }
    }

    /// Counts what was decided.
    pub(crate) fn on(&self, protocol: Protocol, class: Class, decision: Decision) {
        let Some(cell) = self.cells.get(place(protocol, class)) else { return };
        // Each is counted once: whoever goes on for another reason is counted when he has his seat.
        if decision.is_final() {
            cell.offered.fetch_add(1, Ordering::Relaxed);
        }
        if decision.is_refusal() {
            cell.refused.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counter) = cell.counters.get(decision.index()) {
            // Looked up when it is first needed: most of them never are.
            counter
                .get_or_init(|| {
                    let labels = [
                        ("class", class.name()),
                        ("protocol", protocol.name()),
                        ("decision", decision.name()),
                    ];
                    counter!("buslane_session_manager_decisions_total", &labels)
                })
                .increment(1);
        }
    }

    /// Counts a request that has its seat after it waited for this long.
    pub(crate) fn on_waited(&self, protocol: Protocol, class: Class, waited: Duration) {
        self.on(protocol, class, Decision::Waited);
        if let Some(waits) = self.waits.get(class.index()) {
            waits.record(waited.as_secs_f64());
        }
    }

    /// To be called a few times a second: begins a new window when one is over.
    pub(crate) fn on_tick(&self, now: Instant) {
        let mut shown = self.shown.lock();
        let elapsed = now.saturating_duration_since(shown.began);
        if elapsed < WINDOW {
            return;
        }
        let rows: Vec<Row> = self.cells.iter().map(Cell::row).collect();
        let per_s = |count: u64| (count as f64 / elapsed.as_secs_f64()).round() as u64;
        shown.last = rows
            .iter()
            .zip(&shown.before)
            .map(|(now, before)| Row {
                offered: per_s(now.offered - before.offered),
                refused: per_s(now.refused - before.refused),
            })
            .collect();
        shown.before = rows;
        shown.began = now;
    }

    /// What came in the last second.
    pub(crate) fn last_second(&self) -> Vec<(Protocol, Class, Row)> {
        let last = self.shown.lock().last.clone();
        let keys = Protocol::ALL.into_iter().flat_map(|p| Class::ALL.into_iter().map(move |c| (p, c)));
        keys.zip(last).map(|((protocol, class), row)| (protocol, class, row)).collect()
    }
}

fn place(protocol: Protocol, class: Class) -> usize {
    protocol.index() * CLASSES + class.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_second_is_what_came_in_it() {
        let census = Census::new();
        let row = |census: &Census, protocol, class| {
            census.last_second().into_iter().find(|(p, c, _)| (*p, *c) == (protocol, class)).unwrap().2
        };
        for _ in 0..30 {
            census.on(Protocol::MessageSend, Class::Talk, Decision::Admitted);
        }
        census.on(Protocol::MessageSend, Class::Talk, Decision::Level);
        census.on(Protocol::MessageSend, Class::Talk, Decision::DryRun);
        census.on(Protocol::MessageSync, Class::Wake, Decision::Lane(Why::Background));
        assert_eq!(row(&census, Protocol::MessageSend, Class::Talk), Row::default(), "not over yet");
        tokio::time::advance(WINDOW).await;
        census.on_tick(Instant::now());
        assert_eq!(row(&census, Protocol::MessageSend, Class::Talk), Row { offered: 31, refused: 1 });
        assert_eq!(row(&census, Protocol::MessageSync, Class::Wake), Row { offered: 1, refused: 1 });
        tokio::time::advance(WINDOW).await;
        census.on_tick(Instant::now());
        assert_eq!(row(&census, Protocol::MessageSend, Class::Talk), Row::default());
    }

    #[test]
    fn every_decision_has_its_own_counter() {
        let all =
            [Decision::Admitted, Decision::Waited, Decision::Level, Decision::DryRun, Decision::Demoted];
        let all: Vec<_> = all.into_iter().chain(Why::ALL.map(Decision::Lane)).collect();
        let mut indices: Vec<_> = all.iter().map(|d| d.index()).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..DECISIONS).collect::<Vec<_>>());
    }
}
