//! What a first packet shows, and whether the QUIC stack gets to see it.
//!
//! The front port hears those who show a valid mark of its lane, and nobody else. The wake port hears everybody while there is room;
//! in a storm it tells those who show a mark when to come back, and strangers nothing. Why it exists: it is asked for
//! every first packet of a flood, so it must take a fraction of a microsecond, and allocate only for an answer.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::feed::Feed;
use buslane_chassis::quic::{FirstPacket, Passage, Screen};
use buslane_shared::UnixMs;
use buslane_shared::class::Class;
use buslane_shared::mark::{Lane, MARK_BYTES, Mark, MarkError, NodeTag};
use buslane_shared::overload::logins::{Ask, Verdict};
use buslane_shared::put_off::PutOff;
use buslane_shared::slots::Grant;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::gate::Gate;

/// Handshakes that are remembered for as long as one may take. More than any node begins; beyond it their later packets are
/// judged like first ones.
const HANDSHAKES_MAX: usize = 32 * 1024;

/// When the ledger is full nobody knows when there will be room: between one and five minutes, each at another time.
const LATER_MS: std::ops::RangeInclusive<u32> = 60_000..=300_000;

/// What the first connection id of a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A valid mark.
    Mark(Mark),
    /// Nothing that could be one.
    Nothing,
    /// One that is not valid here and now.
    Bad(MarkError),
}

/// Reads marks at one node.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) feed: Arc<Feed>,
    node: NodeTag,
}

impl Reader {
    fn new(feed: &Arc<Feed>, node: &str) -> Self {
        Self { feed: Arc::clone(feed), node: NodeTag::of(node) }
    }

    pub(crate) fn read(&self, id: &[u8]) -> Shown {
        if id.len() != MARK_BYTES {
            return Shown::Nothing;
        }
        match self.feed.keys().marks().read_at(id, self.node, clock::unix_ms()) {
            Ok(mark) => Shown::Mark(mark),
            Err(error) => Shown::Bad(error),
        }
    }

    fn slot(&self, grant: &Grant, wait_ms: u32, now_ms: UnixMs) -> PutOff {
        let at_ms = now_ms.saturating_add(wait_ms.into());
        let mark = Mark::slot(Class::Wake, self.node, at_ms, grant.tolerance_ms(), rand::random());
        PutOff { retry_after_ms: wait_ms, slot: self.feed.keys().marks().make(&mark, now_ms) }
    }
}

/// Counters of first packets at one port, by what they show and what became of them. Looked up once.
pub(crate) struct Counters {
    marks: [Counter; MARKS.len()],
    turned_away: [Counter; TURNED_AWAY.len()],
}

/// What may be shown, as metric labels.
const MARKS: [&str; 15] = [
    "pass",
    "going_on",
    "slot",
    "none",
    "malformed",
    "unknown_key",
    "knock",
    "forged",
    "expired",
    "late",
    "early",
    "foreign",
    "wrong_lane",
    "replayed",
    "unremembered",
];

/// How the screen turns somebody away, as metric labels.
const TURNED_AWAY: [&str; 4] = ["no_pass", "put_off", "later", "silence"];

impl Counters {
    fn new(port: &'static str) -> Self {
        Self {
            marks: MARKS
                .map(|mark| counter!("buslane_session_manager_marks_total", "port" => port, "mark" => mark)),
            turned_away: TURNED_AWAY.map(
                |how| counter!("buslane_session_manager_turned_away_total", "port" => port, "how" => how),
            ),
        }
    }

    pub(crate) fn on_mark(&self, name: &'static str) {
        let counter = MARKS.iter().position(|m| *m == name).and_then(|n| self.marks.get(n));
        counter.inspect(|c| c.increment(1));
    }

    fn on_turned_away(&self, how: &'static str) {
        let counter = TURNED_AWAY.iter().position(|h| *h == how).and_then(|n| self.turned_away.get(n));
        counter.inspect(|c| c.increment(1));
    }

    fn on_shown(&self, shown: Shown) {
        self.on_mark(match shown {
            Shown::Mark(mark) => match Ask::of(Some(&mark)) {
                Ask::Slot => "slot",
                Ask::Resume => "going_on",
                Ask::Pass | Ask::Stranger => "pass",
            },
            Shown::Nothing => "none",
            Shown::Bad(error) => error.name(),
        });
    }
}

/// Watches over the first packets of one port. All clones are one.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) lane: Lane,
    pub(crate) reader: Reader,
    pub(crate) gate: Arc<Gate>,
    /// How long a client that was let in may go on with its handshake.
    pub(crate) handshake_limit: Duration,
    pub(crate) counters: Arc<Counters>,
}

impl Watch {
    pub(crate) fn new(lane: Lane, feed: &Arc<Feed>, config: &Config, gate: &Arc<Gate>) -> Self {
        Self {
            lane,
            reader: Reader::new(feed, &config.node),
            gate: Arc::clone(gate),
            handshake_limit: config.times.hello_limit(),
            counters: Arc::new(Counters::new(port_name(lane))),
        }
    }

    /// The screen of its port.
    pub(crate) fn screen(&self) -> Arc<dyn Screen> {
        match self.lane {
            Lane::Front => Arc::new(Front(self.clone())),
            Lane::Wake => {
                let begun = Begun::new(self.handshake_limit, Instant::now());
                Arc::new(Wake { watch: self.clone(), begun: Mutex::new(begun) })
            }
        }
    }
}

/// The name of a port in metrics, logs and threads.
pub(crate) fn port_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Front => "front",
        Lane::Wake => "wake",
    }
}

/// The screen of the front port.
struct Front(Watch);

/// The screen of the wake port.
struct Wake {
    watch: Watch,
    begun: Mutex<Begun>,
}

impl Screen for Front {
    fn judge(&self, first: &FirstPacket<'_>) -> Passage {
        let Self(watch) = self;
        let shown = watch.reader.read(first.id);
        let is_let_in = match shown {
            Shown::Mark(mark) if mark.lane() != Lane::Front => {
                watch.counters.on_mark("wrong_lane");
                false
            }
            Shown::Mark(_) => {
                watch.counters.on_shown(shown);
                true
            }
            Shown::Nothing | Shown::Bad(_) => {
                watch.counters.on_shown(shown);
                false
            }
        };
        if is_let_in || !watch.gate.needs_passes() {
            return Passage::Through;
        }
        watch.counters.on_turned_away("no_pass");
        Passage::Drop
    }
}

impl Screen for Wake {
    fn judge(&self, first: &FirstPacket<'_>) -> Passage {
        let (watch, now) = (&self.watch, Instant::now());
        // Whoever was let in is not asked again for the next packet of the same handshake.
        if self.begun.lock().contains(first, now) {
            return Passage::Through;
        }
        let shown = watch.reader.read(first.id);
        watch.counters.on_shown(shown);
        let mark = if let Shown::Mark(mark) = &shown { Some(mark) } else { None };
        match watch.gate.decide(Ask::of(mark), now) {
            Verdict::Admit => {
                self.begun.lock().add(first, now);
                Passage::Through
            }
            Verdict::Defer(grant) => {
                watch.counters.on_turned_away("put_off");
                let wait_ms = grant.wait_ms(watch.gate.nanos(now));
                Passage::PutOff(watch.reader.slot(&grant, wait_ms, clock::unix_ms()))
            }
            Verdict::Later => {
                watch.counters.on_turned_away("later");
                Passage::PutOff(PutOff { retry_after_ms: rand::random_range(LATER_MS), slot: None })
            }
            Verdict::Silence => {
                watch.counters.on_turned_away("silence");
                Passage::Drop
            }
        }
    }
}

/// Handshakes that may still be under way, in two generations.
struct Begun {
    limit: Duration,
    young: HashSet<u64>,
    old: HashSet<u64>,
    since: Instant,
    hasher: RandomState,
}

impl Begun {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, young: HashSet::new(), old: HashSet::new(), since: now, hasher: RandomState::new() }
    }

    fn contains(&mut self, first: &FirstPacket<'_>, now: Instant) -> bool {
        self.age(now);
        let key = self.key(first);
        self.young.contains(&key) || self.old.contains(&key)
    }

    fn add(&mut self, first: &FirstPacket<'_>, now: Instant) {
        self.age(now);
        if self.young.len() < HANDSHAKES_MAX {
            let key = self.key(first);
            self.young.insert(key);
        }
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < self.limit {
            return;
        }
        std::mem::swap(&mut self.old, &mut self.young);
        self.young.clear();
        if age >= 2 * self.limit {
            self.old.clear();
        }
        self.since = now;
    }

    fn key(&self, first: &FirstPacket<'_>) -> u64 {
        self.hasher.hash_one((first.id, first.from))
    }
}

macro_rules! named {
    ($($screen:ident),*) => {$(
        impl std::fmt::Debug for $screen {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($screen)).finish_non_exhaustive()
            }
        }
    )*};
}

named!(Front, Wake);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_remembered_while_its_packets_come() {
        let (limit, now) = (Duration::from_secs(3), Instant::now());
        let mut begun = Begun::new(limit, now);
        let packet = |id: &'static [u8], port| FirstPacket { id, from: ([127, 0, 0, 1], port).into() };
        begun.add(&packet(b"one", 1), now);
        assert!(begun.contains(&packet(b"one", 1), now));
        assert!(!begun.contains(&packet(b"one", 2), now), "from elsewhere");
        assert!(!begun.contains(&packet(b"two", 1), now));
        assert!(begun.contains(&packet(b"one", 1), now + limit));
        assert!(!begun.contains(&packet(b"one", 1), now + 2 * limit));
        begun.add(&packet(b"one", 1), now + 2 * limit);
        assert!(!begun.contains(&packet(b"one", 1), now + 9 * limit), "after a silence");
    }

    #[test]
    fn every_name_has_its_counter() {
        let errors = [
            MarkError::Malformed,
            MarkError::UnknownKey,
            MarkError::Knock,
            MarkError::Forged,
            MarkError::Expired,
            MarkError::Late,
            MarkError::Early { wait_ms: 1 },
            MarkError::Foreign,
        ];
        for error in errors {
            assert!(MARKS.contains(&error.name()), "{error}");
        }
    }
}
