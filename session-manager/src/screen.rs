//! What a first packet shows, and whether the QUIC stack gets to see it.
//!
//! The front port hears those who show a valid mark of its lane, and nobody else. The wake port hears everybody while there is room;
//! in a storm it tells those who show a mark when to come back, or holds them if that is soon, and strangers nothing. Why it exists: it is asked for
//! every first packet of a flood, so it must take a fraction of a microsecond, and allocate only for an answer. It must never let
//! one mark stand for many: who shows it from elsewhere, or again and again, costs no more than being looked at.

mod begun;

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
use crate::screen::begun::{Became, Begun, Recall};

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
        PutOff { retry_after_ms: grant.wait_ms(now), slot: self.feed.keys().marks().make(&slot, now_ms) }
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
    held: Counter,
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
            held: counter!("buslane_session_manager_held_total", "port" => port),
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
            Recall::Waits(slot) => Recalled::Waits(slot),
            Recall::GoesOn => Recalled::As(Passage::Through),
            Recall::Held(until) => Recalled::As(Passage::Hold(until)),
            Recall::Due(mark) => Recalled::Due(mark),
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
            // Nobody is asked at this port whether there is a place, and nobody is told to wait for one.
            Recalled::Ignored(_) => return Passage::Through,
            Recalled::Stranger | Recalled::Waits(_) | Recalled::Due(_) => {}
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
            watch.begun.lock().add(first, let_in, Became::LetIn, now);
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
        let ask = |mark: Option<&Mark>| Comer {
            ask: Ask::of(mark),
            asker: mark.map(Mark::asker),
            places,
            came: first.can_be_held.then(|| watch.gate.nanos(first.held_since.unwrap_or(now))),
        };
        // Whoever waits for a place keeps his promise. What he shows is read again at the door, so where it is late by now he is told at once
        // when to come, with what is good then.
        let waits = |mark: &Mark| {
            let known = ask(Some(mark));
            Comer {
                ask: Ask::Slot,
                places: Places::None,
                came: known.came.filter(|_| at_hand.is_some()),
                ..known
            }
        };
        let (mark, who) = match &recalled {
            // His part of the rate was used up when he was let in, so all that he needs is a place. What he sends from now on belongs to
            // his handshake, unless the door finds no place again.
            Recalled::Ignored(before)
                if before.is_some() == at_hand.is_some() && ask(at_hand).has_place() =>
            {
                watch.under_way.expect();
                watch.begun.lock().add(first, at_hand, Became::LetIn, now);
                return Passage::Through;
            }
            // A slot that is good still is what it says.
            Recalled::Waits(_) if at_hand.is_some() => (at_hand, ask(at_hand)),
            // If his slot is late, it is only because there was no place for him, or because he has not heard so: he waits, with another.
            Recalled::Ignored(Some(before)) | Recalled::Waits(before) => (Some(before), waits(before)),
            // His promise is in the books, and is good for one login, with however many passes he has come.
            Recalled::Due(mark) if at_hand.is_some() => (Some(mark), ask(Some(mark))),
            Recalled::Due(mark) => (Some(mark), waits(mark)),
            Recalled::Ignored(None) | Recalled::Stranger | Recalled::As(_) => (at_hand, ask(at_hand)),
        };
        if who.ask == Ask::Slot && !who.has_place() && watch.begun.lock().is_waiting(mark, now) {
            return Passage::Drop;
        }
        // Of one who was held it was said when he came.
        if !matches!(recalled, Recalled::Due(_)) {
            watch.counters.on_shown(shown);
        }
        let put_off = match watch.gate.decide(who, now) {
            Verdict::Admit => {
                watch.under_way.expect();
                watch.begun.lock().add(first, mark, Became::LetIn, now);
                return Passage::Through;
            }
            Verdict::Silence => {
                if who.ask == Ask::Slot && !matches!(recalled, Recalled::Ignored(_)) {
                    watch.begun.lock().add(first, mark, Became::Unheard, now);
                }
                watch.counters.on_turned_away("silence");
                watch.tally.on_turned_away(watch.lane, Outcome::Refused(Reason::Silence));
                return Passage::Drop;
            }
            Verdict::Hold(at) => {
                let due = watch.gate.instant(at);
                // Whoever is held again is still the same one.
                watch.counters.held.increment(u64::from(first.held_since.is_none()));
                watch.begun.lock().add(
                    first,
                    mark,
                    Became::Held { due, since: first.held_since.unwrap_or(now) },
                    now,
                );
                return Passage::Hold(due);
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
        watch.begun.lock().add(first, mark, Became::told(put_off, now), now);
        Passage::PutOff(put_off)
    }
}

/// What is to be done with a packet, by what is known of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recalled {
    /// He is not known.
    Stranger,
    /// He was let through with this mark and got no place.
    Ignored(Option<Mark>),
    /// He was told to wait with this slot, and has not heard it.
    Waits(Mark),
    /// He was held, with this mark, and his time has come.
    Due(Mark),
    /// This.
    As(Passage),
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
