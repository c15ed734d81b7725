//! What a first packet shows, and whether the QUIC stack gets to see it.
//!
//! The front port hears those who show a valid mark of its lane, and nobody else. The wake port hears everybody while there is room;
//! in a storm it tells those who show a mark when to come back, and strangers nothing. Why it exists: it is asked for
//! every first packet of a flood, so it must take a fraction of a microsecond, and allocate only for an answer. It must never let
//! one mark stand for many: who shows it from elsewhere, or again and again, costs no more than being looked at.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::feed::Feed;
use buslane_chassis::quic::{FirstPacket, Passage, Screen};
use buslane_shared::UnixMs;
use buslane_shared::class::Class;
use buslane_shared::mark::{Lane, MARK_BYTES, Mark, MarkError, NodeTag, Use};
use buslane_shared::overload::logins::{Ask, Verdict};
use buslane_shared::put_off::PutOff;
use buslane_shared::slots::Grant;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::gate::Gate;
use crate::load::Load;
use crate::load::outcome::{Outcome, Reason};
use crate::load::tally::Tally;

/// Handshakes that are remembered for as long as one may take. More than any node begins; beyond it their later packets are
/// judged like first ones.
const HANDSHAKES_MAX: usize = 32 * 1024;

/// Packets with the client's own first id that one handshake can need, those that were lost included.
const PACKETS_MAX: u8 = 32;

/// Whoever was put off is told again after this: the answer may have been lost, but a handshake that begins with two packets
/// needs one answer.
const TOLD_AGAIN: Duration = Duration::from_millis(500);

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
    pub(crate) tally: Arc<Tally>,
}

impl Watch {
    pub(crate) fn new(lane: Lane, feed: &Arc<Feed>, config: &Config, load: &Load) -> Self {
        Self {
            lane,
            reader: Reader::new(feed, &config.node),
            gate: Arc::clone(&load.gate),
            tally: Arc::clone(&load.tally),
            handshake_limit: config.times.hello_limit(),
            counters: Arc::new(Counters::new(port_name(lane))),
        }
    }

    /// What is to be done with the packet of somebody who is known. `None`: he is not.
    fn recall(&self, begun: &Mutex<Begun>, first: &FirstPacket<'_>, now: Instant) -> Option<Passage> {
        match begun.lock().look(first, now) {
            Recall::Nothing => None,
            Recall::GoesOn => Some(Passage::Through),
            Recall::Told(put_off) => {
                self.counters.on_turned_away("put_off");
                Some(Passage::PutOff(put_off))
            }
            Recall::Enough => Some(Passage::Drop),
            Recall::Elsewhere => {
                self.counters.on_mark(Use::Again.name());
                Some(Passage::Drop)
            }
        }
    }

    /// The screen of its port.
    pub(crate) fn screen(&self) -> Arc<dyn Screen> {
        let begun = Mutex::new(Begun::new(self.handshake_limit, Instant::now()));
        match self.lane {
            Lane::Front => Arc::new(Front { watch: self.clone(), begun }),
            Lane::Wake => Arc::new(Wake { watch: self.clone(), begun }),
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
struct Front {
    watch: Watch,
    begun: Mutex<Begun>,
}

/// The screen of the wake port.
struct Wake {
    watch: Watch,
    begun: Mutex<Begun>,
}

impl Screen for Front {
    fn judge(&self, first: &FirstPacket<'_>) -> Passage {
        let (watch, now) = (&self.watch, Instant::now());
        if let Some(known) = watch.recall(&self.begun, first, now) {
            return known;
        }
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
        if is_let_in {
            self.begun.lock().add(first, true, None, now);
        }
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
        if let Some(known) = watch.recall(&self.begun, first, now) {
            return known;
        }
        let shown = watch.reader.read(first.id);
        watch.counters.on_shown(shown);
        let mark = if let Shown::Mark(mark) = &shown { Some(mark) } else { None };
        let put_off = match watch.gate.decide(Ask::of(mark), now) {
            Verdict::Admit => {
                self.begun.lock().add(first, mark.is_some(), None, now);
                return Passage::Through;
            }
            Verdict::Silence => {
                watch.counters.on_turned_away("silence");
                watch.tally.on_turned_away(watch.lane, Outcome::Refused(Reason::Silence));
                return Passage::Drop;
            }
            Verdict::Defer(grant) => {
                watch.counters.on_turned_away("put_off");
                let wait_ms = grant.wait_ms(watch.gate.nanos(now));
                watch.reader.slot(&grant, wait_ms, clock::unix_ms())
            }
            Verdict::Later => {
                watch.counters.on_turned_away("later");
                PutOff { retry_after_ms: rand::random_range(LATER_MS), slot: None }
            }
        };
        watch.tally.on_turned_away(watch.lane, Outcome::Deferred);
        self.begun.lock().add(first, mark.is_some(), Some(put_off), now);
        Passage::PutOff(put_off)
    }
}

/// As many as in the generation before are expected in the next one, but room is made for no more than this.
const YOUNG_MAX: usize = 4_096;

/// Somebody whose first packet was judged.
#[derive(Debug, Clone, Copy)]
struct Known {
    from: SocketAddr,
    /// A mark is used once; two strangers may have hit upon one id.
    has_mark: bool,
    packets: u8,
    /// What he was told, when, and when he may come.
    told: Option<(PutOff, Instant, Instant)>,
}

/// What is known of whoever sends a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recall {
    /// Nothing that counts.
    Nothing,
    /// He was let in.
    GoesOn,
    /// He was put off, and may not have heard it.
    Told(PutOff),
    /// He has heard it, or there are more packets than any handshake has.
    Enough,
    /// His mark was shown from another address.
    Elsewhere,
}

/// Whose first packets were judged lately, in two generations.
struct Begun {
    limit: Duration,
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
    since: Instant,
    hasher: RandomState,
}

impl Begun {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, young: HashMap::new(), old: HashMap::new(), since: now, hasher: RandomState::new() }
    }

    fn look(&mut self, first: &FirstPacket<'_>, now: Instant) -> Recall {
        self.age(now);
        let key = self.hasher.hash_one(first.id);
        let Some(known) = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key)) else {
            return Recall::Nothing;
        };
        if known.from != first.from {
            return if known.has_mark { Recall::Elsewhere } else { Recall::Nothing };
        }
        known.packets = known.packets.saturating_add(1);
        match &mut known.told {
            _ if known.packets > PACKETS_MAX => Recall::Enough,
            None => Recall::GoesOn,
            Some((_, said, _)) if now < *said + TOLD_AGAIN => Recall::Enough,
            // His time has come, and he comes as before.
            Some((_, _, due)) if *due <= now => Recall::Nothing,
            Some((put_off, said, due)) => {
                *said = now;
                let left_ms = u32::try_from(due.saturating_duration_since(now).as_millis());
                Recall::Told(PutOff { retry_after_ms: left_ms.unwrap_or(u32::MAX).max(1), ..*put_off })
            }
        }
    }

    fn add(&mut self, first: &FirstPacket<'_>, has_mark: bool, told: Option<PutOff>, now: Instant) {
        self.age(now);
        if self.young.len() < HANDSHAKES_MAX {
            let due = |put_off: &PutOff| now + Duration::from_millis(put_off.retry_after_ms.into());
            let told = told.map(|put_off| (put_off, now, due(&put_off)));
            let key = self.hasher.hash_one(first.id);
            self.young.insert(key, Known { from: first.from, has_mark, packets: 1, told });
        }
    }

    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < self.limit {
            return;
        }
        // A new one: a cleared one would keep the room of the largest storm for ever.
        let young = HashMap::with_capacity(self.young.len().min(YOUNG_MAX));
        self.old = std::mem::replace(&mut self.young, young);
        if age >= 2 * self.limit {
            self.old = HashMap::new();
        }
        self.since = now;
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

    const LIMIT: Duration = Duration::from_secs(3);

    fn packet(id: &'static [u8], port: u16) -> FirstPacket<'static> {
        FirstPacket { id, from: ([127, 0, 0, 1], port).into() }
    }

    #[test]
    fn a_handshake_is_remembered_while_its_packets_come() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), false, None, now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::GoesOn);
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Nothing, "another stranger");
        assert_eq!(begun.look(&packet(b"two", 1), now), Recall::Nothing);
        assert_eq!(begun.look(&packet(b"one", 1), now + LIMIT), Recall::GoesOn);
        assert_eq!(begun.look(&packet(b"one", 1), now + 2 * LIMIT), Recall::Nothing);
        begun.add(&packet(b"one", 1), false, None, now + 2 * LIMIT);
        assert_eq!(begun.look(&packet(b"one", 1), now + 9 * LIMIT), Recall::Nothing, "after a silence");
    }

    #[test]
    fn one_mark_is_one_handshake() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), true, None, now);
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Elsewhere);
        let through = (0..1_000).filter(|_| begun.look(&packet(b"one", 1), now) == Recall::GoesOn).count();
        assert_eq!(through, usize::from(PACKETS_MAX) - 1);
    }

    #[test]
    fn who_was_put_off_has_one_slot_however_often_he_asks() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        let put_off = PutOff { retry_after_ms: 2_000, slot: Some([7; MARK_BYTES]) };
        begun.add(&packet(b"one", 1), true, Some(put_off), now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Enough, "the second half of his hello");
        let later = now + Duration::from_millis(600);
        let again = PutOff { retry_after_ms: 1_400, ..put_off };
        assert_eq!(begun.look(&packet(b"one", 1), later), Recall::Told(again), "the answer was lost");
        assert_eq!(begun.look(&packet(b"one", 1), later), Recall::Enough);
        assert_eq!(begun.look(&packet(b"one", 2), later), Recall::Elsewhere);
        assert_eq!(begun.look(&packet(b"one", 1), now + 2 * Duration::from_secs(1)), Recall::Nothing);
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
