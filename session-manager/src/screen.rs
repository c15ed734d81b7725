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
use buslane_shared::class::Class;
use buslane_shared::mark::{Kind, Lane, MARK_BYTES, Mark, MarkError, NodeTag, Use};
use buslane_shared::overload::logins::{self, Ask, Comer, Places, Verdict};
use buslane_shared::put_off::PutOff;
use buslane_shared::slots::{Asker, Grant};
use buslane_shared::{Nanos, UnixMs};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::door::UnderWay;
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

/// Whoever waits for a place is told so once in this time, with however many of the slots for his promise he comes.
const WAIT_TOLD_AGAIN: Duration = Duration::from_millis(100);

/// When the ledger is full nobody knows when there will be room: between one and five minutes, each at another time.
const LATER_MS: std::ops::RangeInclusive<u32> = 60_000..=300_000;

/// How far around this moment a slot for now is good, before what is added for the wait.
const NOW_MS: u32 = 1_000;

/// How long a slot is good after the moment for which somebody was asked to wait for a place.
const KEPT_MS: u64 = 1_000;

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

    fn slot(&self, grant: &Grant, asker: Option<Asker>, now: Nanos, now_ms: UnixMs) -> PutOff {
        let at_ms = grant.at_ms(now, now_ms);
        let slot = Mark::slot_for(Class::Wake, self.node, at_ms, grant, asker, rand::random());
        let retry_after_ms = grant.wait_ms(now);
        // Who is told to come after his time has to wait for a place.
        let slot = if grant.told > grant.at { kept(&slot, now_ms, retry_after_ms) } else { slot };
        PutOff { retry_after_ms, slot: self.feed.keys().marks().make(&slot, now_ms) }
    }

    /// The same slot, for somebody who has to wait for a place; its bytes are others, so that nobody sees that the two belong together. Who
    /// was let in with a pass gets a slot for now.
    fn kept(&self, mark: Option<&Mark>, now_ms: UnixMs) -> PutOff {
        let retry_after_ms = u32::try_from(logins::moment(rand::random()) / 1_000_000).unwrap_or(u32::MAX);
        let slot = mark.map(|mark| match mark.kind {
            Kind::Slot => *mark,
            Kind::Pass => {
                let nonce = Mark::nonce(mark.asker(), rand::random());
                Mark::slot(Class::Wake, self.node, now_ms, NOW_MS, nonce)
            }
        });
        let slot = slot.map(|slot| kept(&slot, now_ms, retry_after_ms));
        PutOff { retry_after_ms, slot: slot.and_then(|slot| self.feed.keys().marks().make(&slot, now_ms)) }
    }
}

/// A slot that is still good when somebody comes again after this time.
fn kept(slot: &Mark, now_ms: UnixMs, retry_after_ms: u32) -> Mark {
    let until_ms = now_ms.saturating_add(u64::from(retry_after_ms)).saturating_add(KEPT_MS);
    slot.kept(until_ms, rand::random())
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
const TURNED_AWAY: [&str; 5] = ["no_pass", "put_off", "wait", "later", "silence"];

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
    /// Handshakes of this port.
    pub(crate) under_way: Arc<UnderWay>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tally: Arc<Tally>,
    begun: Arc<Mutex<Begun>>,
}

impl Watch {
    pub(crate) fn new(lane: Lane, feed: &Arc<Feed>, config: &Config, load: &Load) -> Self {
        Self {
            lane,
            reader: Reader::new(feed, &config.node),
            gate: Arc::clone(&load.gate),
            tally: Arc::clone(&load.tally),
            handshake_limit: config.times.hello_limit(),
            begun: Arc::new(Mutex::new(Begun::new(config.times.hello_limit(), Instant::now()))),
            under_way: Arc::new(UnderWay::new(&config.bounds, lane)),
            counters: Arc::new(Counters::new(port_name(lane))),
        }
    }

    /// What is to be done with the packet of somebody who is known.
    fn recall(&self, first: &FirstPacket<'_>, now: Instant) -> Recalled {
        match self.begun.lock().look(first, now) {
            Recall::Nothing => Recalled::Stranger,
            Recall::Ignored(mark) => Recalled::Ignored(mark),
            Recall::GoesOn => Recalled::As(Passage::Through),
            Recall::Told(put_off) => {
                self.counters.on_turned_away("put_off");
                Recalled::As(Passage::PutOff(put_off))
            }
            Recall::Enough => Recalled::As(Passage::Drop),
            Recall::Elsewhere => {
                self.counters.on_mark(Use::Again.name());
                Recalled::As(Passage::Drop)
            }
        }
    }

    /// Somebody who was let through got no place after all: his next packet is looked at again.
    pub(crate) fn on_ignored(&self, id: &[u8]) {
        self.begun.lock().on_ignored(id);
    }

    /// The screen of its port.
    pub(crate) fn screen(&self) -> Arc<dyn Screen> {
        match self.lane {
            Lane::Front => Arc::new(Front { watch: self.clone() }),
            Lane::Wake => Arc::new(Wake { watch: self.clone() }),
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
}

/// The screen of the wake port.
struct Wake {
    watch: Watch,
}

impl Screen for Front {
    fn judge(&self, first: &FirstPacket<'_>) -> Passage {
        let (watch, now) = (&self.watch, Instant::now());
        match watch.recall(first, now) {
            Recalled::As(known) => return known,
            // Nobody is asked at this port whether there is a place.
            Recalled::Ignored(_) => return Passage::Through,
            Recalled::Stranger => {}
        }
        let shown = watch.reader.read(first.id);
        let let_in = match &shown {
            Shown::Mark(mark) if mark.lane() != Lane::Front => {
                watch.counters.on_mark("wrong_lane");
                None
            }
            Shown::Mark(mark) => {
                watch.counters.on_shown(shown);
                Some(mark)
            }
            Shown::Nothing | Shown::Bad(_) => {
                watch.counters.on_shown(shown);
                None
            }
        };
        if let_in.is_some() {
            watch.begun.lock().add(first, let_in, None, now);
        }
        if let_in.is_some() || !watch.gate.needs_passes() {
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
        let recalled = watch.recall(first, now);
        if let Recalled::As(known) = recalled {
            return known;
        }
        let shown = watch.reader.read(first.id);
        let at_hand = if let Shown::Mark(mark) = &shown { Some(mark) } else { None };
        let places = watch.under_way.places();
        let ask = |mark: Option<&Mark>| Comer { ask: Ask::of(mark), asker: mark.map(Mark::asker), places };
        let (mark, who) = match &recalled {
            // His part of the rate was used up when he was let in, so all that he needs is a place. What he sends from now on belongs to
            // his handshake, unless the door finds no place again.
            Recalled::Ignored(before)
                if before.is_some() == at_hand.is_some() && ask(at_hand).has_place() =>
            {
                watch.begun.lock().add(first, at_hand, None, now);
                return Passage::Through;
            }
            // If his slot is late, it is only because there was no place for him: he waits.
            Recalled::Ignored(Some(before)) => {
                (Some(before), Comer { ask: Ask::Slot, asker: Some(before.asker()), places: Places::None })
            }
            _ => (at_hand, ask(at_hand)),
        };
        if who.ask == Ask::Slot && !who.has_place() && watch.begun.lock().is_waiting(mark, now) {
            return Passage::Drop;
        }
        watch.counters.on_shown(shown);
        let put_off = match watch.gate.decide(who, now) {
            Verdict::Admit => {
                watch.begun.lock().add(first, mark, None, now);
                return Passage::Through;
            }
            Verdict::Silence => {
                watch.counters.on_turned_away("silence");
                watch.tally.on_turned_away(watch.lane, Outcome::Refused(Reason::Silence));
                return Passage::Drop;
            }
            Verdict::Defer(grant) => {
                watch.counters.on_turned_away("put_off");
                watch.reader.slot(&grant, who.asker, watch.gate.nanos(now), clock::unix_ms())
            }
            Verdict::Wait => {
                watch.counters.on_turned_away("wait");
                watch.begun.lock().on_wait(mark, now);
                watch.reader.kept(mark, clock::unix_ms())
            }
            Verdict::Later => {
                watch.counters.on_turned_away("later");
                PutOff { retry_after_ms: rand::random_range(LATER_MS), slot: None }
            }
        };
        watch.tally.on_turned_away(watch.lane, Outcome::Deferred);
        watch.begun.lock().add(first, mark, Some(put_off), now);
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
    mark: Option<Mark>,
    packets: u8,
    /// What he was told, when, and when he may come.
    told: Option<(PutOff, Instant, Instant)>,
    /// He was let through and got no place.
    is_ignored: bool,
}

/// What is to be done with a packet, by what is known of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recalled {
    /// He is not known.
    Stranger,
    /// He was let through with this mark and got no place.
    Ignored(Option<Mark>),
    /// This.
    As(Passage),
}

/// What is known of whoever sends a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recall {
    /// Nothing that counts.
    Nothing,
    /// He was let in.
    GoesOn,
    /// He was let in with this mark and got no place.
    Ignored(Option<Mark>),
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
    /// Whose promise waits for a place, and when that was said.
    waiting: HashMap<u64, Instant>,
}

impl Begun {
    fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            young: HashMap::new(),
            old: HashMap::new(),
            since: now,
            hasher: RandomState::new(),
            waiting: HashMap::new(),
        }
    }

    fn look(&mut self, first: &FirstPacket<'_>, now: Instant) -> Recall {
        self.age(now);
        let key = self.hasher.hash_one(first.id);
        let Some(known) = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key)) else {
            return Recall::Nothing;
        };
        if known.from != first.from {
            return if known.mark.is_some() { Recall::Elsewhere } else { Recall::Nothing };
        }
        known.packets = known.packets.saturating_add(1);
        match &mut known.told {
            _ if known.packets > PACKETS_MAX => Recall::Enough,
            None if known.is_ignored => Recall::Ignored(known.mark),
            None => Recall::GoesOn,
            // His time has come, and he comes as before.
            Some((_, _, due)) if *due <= now => Recall::Nothing,
            Some((_, said, _)) if now < *said + TOLD_AGAIN => Recall::Enough,
            Some((put_off, said, due)) => {
                *said = now;
                let left_ms = u32::try_from(due.saturating_duration_since(now).as_millis());
                Recall::Told(PutOff { retry_after_ms: left_ms.unwrap_or(u32::MAX).max(1), ..*put_off })
            }
        }
    }

    fn add(&mut self, first: &FirstPacket<'_>, mark: Option<&Mark>, told: Option<PutOff>, now: Instant) {
        self.age(now);
        if self.young.len() < HANDSHAKES_MAX {
            let due = |put_off: &PutOff| now + Duration::from_millis(put_off.retry_after_ms.into());
            let told = told.map(|put_off| (put_off, now, due(&put_off)));
            let key = self.hasher.hash_one(first.id);
            // Of one who is known already, what he has sent counts on.
            let known = self.young.get(&key).or_else(|| self.old.get(&key));
            let packets = known.filter(|known| known.from == first.from).map_or(1, |known| known.packets);
            self.young.insert(
                key,
                Known { from: first.from, mark: mark.copied(), packets, told, is_ignored: false },
            );
        }
    }

    fn on_ignored(&mut self, id: &[u8]) {
        let key = self.hasher.hash_one(id);
        if let Some(known) = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key)) {
            known.is_ignored = true;
        }
    }

    /// Whether whoever holds this slot, or another for the same promise, has just been told to wait.
    fn is_waiting(&self, slot: Option<&Mark>, now: Instant) -> bool {
        let said = slot.and_then(|slot| self.waiting.get(&slot.promise()));
        said.is_some_and(|said| now < *said + WAIT_TOLD_AGAIN)
    }

    /// He is told now.
    fn on_wait(&mut self, slot: Option<&Mark>, now: Instant) {
        if let Some(slot) = slot
            && self.waiting.len() < HANDSHAKES_MAX
        {
            self.waiting.insert(slot.promise(), now);
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
        self.waiting = HashMap::new();
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

    const MARK: Mark = Mark {
        kind: Kind::Slot,
        class: Class::Wake,
        node: None,
        from_ms: 999_000,
        until_ms: 1_001_000,
        nonce: 7,
    };

    fn packet(id: &'static [u8], port: u16) -> FirstPacket<'static> {
        FirstPacket { id, from: ([127, 0, 0, 1], port).into() }
    }

    /// A mark for which there was no place is good for one address and few packets all the same.
    #[test]
    fn who_got_no_place_is_looked_at_again_and_is_no_stranger() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), Some(&MARK), None, now);
        begun.on_ignored(b"one");
        begun.on_ignored(b"two");
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Ignored(Some(MARK)));
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Elsewhere);
        begun.add(&packet(b"one", 1), Some(&MARK), None, now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::GoesOn, "he was let in after all");
        let put_off = PutOff { retry_after_ms: 200, slot: None };
        begun.add(&packet(b"one", 1), Some(&MARK), Some(put_off), now);
        let due = now + Duration::from_millis(200);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Enough);
        assert_eq!(
            begun.look(&packet(b"one", 1), due),
            Recall::Nothing,
            "sooner than he would be told again"
        );
        for _ in 0..PACKETS_MAX {
            begun.add(&packet(b"one", 1), Some(&MARK), None, due);
            begun.on_ignored(b"one");
            begun.look(&packet(b"one", 1), due);
        }
        assert_eq!(begun.look(&packet(b"one", 1), due), Recall::Enough, "however often he is judged");
    }

    #[test]
    fn a_promise_is_told_to_wait_once_however_many_slots_there_are_for_it() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        let slot = Mark::slot(Class::Wake, NodeTag::of("m1"), 1_000_000, 1_000, 7);
        let (another, other) = (slot.kept(0, 3), Mark { nonce: 8, ..slot });
        assert!(!begun.is_waiting(Some(&slot), now));
        begun.on_wait(Some(&slot), now);
        assert!(begun.is_waiting(Some(&another), now) && begun.is_waiting(Some(&slot), now));
        assert!(!begun.is_waiting(Some(&other), now));
        assert!(!begun.is_waiting(Some(&another), now + WAIT_TOLD_AGAIN));
    }

    #[test]
    fn a_handshake_is_remembered_while_its_packets_come() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), None, None, now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::GoesOn);
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Nothing, "another stranger");
        assert_eq!(begun.look(&packet(b"two", 1), now), Recall::Nothing);
        assert_eq!(begun.look(&packet(b"one", 1), now + LIMIT), Recall::GoesOn);
        assert_eq!(begun.look(&packet(b"one", 1), now + 2 * LIMIT), Recall::Nothing);
        begun.add(&packet(b"one", 1), None, None, now + 2 * LIMIT);
        assert_eq!(begun.look(&packet(b"one", 1), now + 9 * LIMIT), Recall::Nothing, "after a silence");
    }

    #[test]
    fn one_mark_is_one_handshake() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), Some(&MARK), None, now);
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Elsewhere);
        let through = (0..1_000).filter(|_| begun.look(&packet(b"one", 1), now) == Recall::GoesOn).count();
        assert_eq!(through, usize::from(PACKETS_MAX) - 1);
    }

    #[test]
    fn who_was_put_off_has_one_slot_however_often_he_asks() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        let put_off = PutOff { retry_after_ms: 2_000, slot: Some([7; MARK_BYTES]) };
        begun.add(&packet(b"one", 1), Some(&MARK), Some(put_off), now);
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
