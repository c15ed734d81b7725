//! Whose first packets were judged lately: what comes after belongs to them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use buslane_chassis::quic::FirstPacket;
use buslane_shared::mark::{Kind, Mark};
use buslane_shared::put_off::PutOff;
use tokio::time::Instant;

/// Handshakes that are remembered for as long as one may take. More than any node begins; beyond it their later packets are
/// judged like first ones.
const HANDSHAKES_MAX: usize = 32 * 1024;

/// Packets with the client's own first id that one handshake can need, those that were lost included.
const PACKETS_MAX: u8 = 32;

/// Within this time all packets of a hello have come; a client that has heard nothing sends them again after 450 ms (the SDK) or more.
const HELLO_WITHIN: Duration = Duration::from_millis(300);

/// Packets in which a client says hello.
const HELLO_PACKETS_MAX: u8 = 4;

/// Whoever was put off is told again after this: the answer may have been lost, but a handshake that begins with two packets
/// needs one answer.
const TOLD_AGAIN: Duration = Duration::from_millis(500);

/// Whoever waits for a place is told so once in this time, with however many of the slots for his promise he comes.
const WAIT_TOLD_AGAIN: Duration = Duration::from_millis(100);

/// As many as in the generation before are expected in the next one, but room is made for no more than this.
const YOUNG_MAX: usize = 4_096;

/// Somebody whose first packet was judged.
#[derive(Debug, Clone, Copy)]
struct Known {
    from: SocketAddr,
    /// A mark is used once; two strangers may have hit upon one id.
    mark: Option<Mark>,
    packets: u8,
    became: Became,
}

/// What became of the packet that was judged last.
#[derive(Debug, Clone, Copy)]
pub(super) enum Became {
    /// He was let through.
    LetIn,
    /// He was let through and got no place.
    Ignored,
    /// He was told this, then, and may come at `due`.
    Told { put_off: PutOff, said: Instant, due: Instant },
    /// He came in his time, and to tell him that there was no place was too much.
    Unheard,
    /// His packets, of which the first came at `since`, are held until then.
    Held { due: Instant, since: Instant },
}

impl Became {
    /// He is told this now.
    pub(super) fn told(put_off: PutOff, now: Instant) -> Self {
        let due = now + Duration::from_millis(put_off.retry_after_ms.into());
        Self::Told { put_off, said: now, due }
    }
}

/// What is known of whoever sends a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recall {
    /// Nothing that counts.
    Nothing,
    /// He was let in.
    GoesOn,
    /// He was let in with this mark and got no place.
    Ignored(Option<Mark>),
    /// With this slot he came in his time, was to come again, and comes as before: he has not heard it. He keeps his promise, though the
    /// time of the slot itself may be over.
    Waits(Mark),
    /// He was put off, and may not have heard it.
    Told(PutOff),
    /// What he sends is held until then.
    Held(Instant),
    /// He was held, with this mark, and his time has come.
    Due(Mark),
    /// He has heard it, or there are more packets than any handshake has.
    Enough,
    /// His mark was shown from another address.
    Elsewhere,
}

/// Whose first packets were judged lately, in two generations.
pub(super) struct Begun {
    limit: Duration,
    young: HashMap<u64, Known>,
    old: HashMap<u64, Known>,
    since: Instant,
    hasher: RandomState,
    /// Whose promise waits for a place, and when that was said.
    waiting: HashMap<u64, Instant>,
}

impl Begun {
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            young: HashMap::new(),
            old: HashMap::new(),
            since: now,
            hasher: RandomState::new(),
            waiting: HashMap::new(),
        }
    }

    pub(super) fn look(&mut self, first: &FirstPacket<'_>, now: Instant) -> Recall {
        self.age(now);
        let key = self.hasher.hash_one(first.id);
        let Some(known) = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key)) else {
            return Recall::Nothing;
        };
        if known.from != first.from {
            return if known.mark.is_some() { Recall::Elsewhere } else { Recall::Nothing };
        }
        if first.held_since.is_none() {
            known.packets = known.packets.saturating_add(1);
        }
        let slot = known.mark.filter(|mark| mark.kind == Kind::Slot);
        match &mut known.became {
            _ if known.packets > PACKETS_MAX => Recall::Enough,
            Became::Ignored => Recall::Ignored(known.mark),
            Became::LetIn => Recall::GoesOn,
            // However often he sends his hello before its time, it is kept once: what comes later than the rest of it is a copy.
            Became::Held { due, since } if now < *due => {
                let is_copy = known.packets > HELLO_PACKETS_MAX || now >= *since + HELLO_WITHIN;
                if is_copy && first.held_since.is_none() { Recall::Enough } else { Recall::Held(*due) }
            }
            Became::Held { .. } => known.mark.map_or(Recall::Nothing, Recall::Due),
            Became::Unheard => slot.map_or(Recall::Nothing, Recall::Waits),
            // His time has come, and he comes as before.
            Became::Told { due, .. } if *due <= now => slot.map_or(Recall::Nothing, Recall::Waits),
            Became::Told { said, .. } if now < *said + TOLD_AGAIN => Recall::Enough,
            Became::Told { put_off, said, due } => {
                *said = now;
                let left_ms = u32::try_from(due.saturating_duration_since(now).as_millis());
                Recall::Told(PutOff { retry_after_ms: left_ms.unwrap_or(u32::MAX).max(1), ..*put_off })
            }
        }
    }

    pub(super) fn add(&mut self, first: &FirstPacket<'_>, mark: Option<&Mark>, became: Became, now: Instant) {
        self.age(now);
        let key = self.hasher.hash_one(first.id);
        let is_full = self.young.len() >= HANDSHAKES_MAX;
        let known = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key));
        // Of one who is known already, what he has sent counts on.
        let packets =
            known.as_deref().filter(|known| known.from == first.from).map_or(1, |known| known.packets);
        let judged = Known { from: first.from, mark: mark.copied(), packets, became };
        match known {
            // Where there is no room for more, those who are there are still told apart.
            Some(known) if is_full => *known = judged,
            None if is_full => {}
            _ => {
                self.young.insert(key, judged);
            }
        }
    }

    pub(super) fn on_ignored(&mut self, id: &[u8]) {
        let key = self.hasher.hash_one(id);
        if let Some(known) = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key)) {
            known.became = Became::Ignored;
        }
    }

    /// Whether whoever holds this slot, or another for the same promise, has just been told to wait.
    pub(super) fn is_waiting(&self, slot: Option<&Mark>, now: Instant) -> bool {
        let said = slot.and_then(|slot| self.waiting.get(&slot.promise()));
        said.is_some_and(|said| now < *said + WAIT_TOLD_AGAIN)
    }

    /// He is told now.
    pub(super) fn on_wait(&mut self, slot: Option<&Mark>, now: Instant) {
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

#[cfg(test)]
mod tests {
    use buslane_shared::class::Class;
    use buslane_shared::mark::{MARK_BYTES, NodeTag};

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
        FirstPacket { id, from: ([127, 0, 0, 1], port).into(), can_be_held: true, held_since: None }
    }

    /// A mark for which there was no place is good for one address and few packets all the same.
    #[test]
    fn who_got_no_place_is_looked_at_again_and_is_no_stranger() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), Some(&MARK), Became::LetIn, now);
        begun.on_ignored(b"one");
        begun.on_ignored(b"two");
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Ignored(Some(MARK)));
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Elsewhere);
        begun.add(&packet(b"one", 1), Some(&MARK), Became::LetIn, now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::GoesOn, "he was let in after all");
        let put_off = PutOff { retry_after_ms: 200, slot: None };
        begun.add(&packet(b"one", 1), Some(&MARK), Became::told(put_off, now), now);
        let due = now + Duration::from_millis(200);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Enough);
        assert_eq!(
            begun.look(&packet(b"one", 1), due),
            Recall::Waits(MARK),
            "sooner than he would be told again"
        );
        for _ in 0..PACKETS_MAX {
            begun.add(&packet(b"one", 1), Some(&MARK), Became::LetIn, due);
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
        begun.add(&packet(b"one", 1), None, Became::LetIn, now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::GoesOn);
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Nothing, "another stranger");
        assert_eq!(begun.look(&packet(b"two", 1), now), Recall::Nothing);
        assert_eq!(begun.look(&packet(b"one", 1), now + LIMIT), Recall::GoesOn);
        assert_eq!(begun.look(&packet(b"one", 1), now + 2 * LIMIT), Recall::Nothing);
        begun.add(&packet(b"one", 1), None, Became::LetIn, now + 2 * LIMIT);
        assert_eq!(begun.look(&packet(b"one", 1), now + 9 * LIMIT), Recall::Nothing, "after a silence");
    }

    #[test]
    fn one_mark_is_one_handshake() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"one", 1), Some(&MARK), Became::LetIn, now);
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Elsewhere);
        let through = (0..1_000).filter(|_| begun.look(&packet(b"one", 1), now) == Recall::GoesOn).count();
        assert_eq!(through, usize::from(PACKETS_MAX) - 1);
    }

    #[test]
    fn who_was_put_off_has_one_slot_however_often_he_asks() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        let put_off = PutOff { retry_after_ms: 2_000, slot: Some([7; MARK_BYTES]) };
        begun.add(&packet(b"one", 1), Some(&MARK), Became::told(put_off, now), now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Enough, "the second half of his hello");
        let later = now + Duration::from_millis(600);
        let again = PutOff { retry_after_ms: 1_400, ..put_off };
        assert_eq!(begun.look(&packet(b"one", 1), later), Recall::Told(again), "the answer was lost");
        assert_eq!(begun.look(&packet(b"one", 1), later), Recall::Enough);
        assert_eq!(begun.look(&packet(b"one", 2), later), Recall::Elsewhere);
        assert_eq!(begun.look(&packet(b"one", 1), now + 2 * Duration::from_secs(1)), Recall::Waits(MARK));
        let pass = Mark { kind: Kind::Pass, ..MARK };
        begun.add(&packet(b"two", 1), Some(&pass), Became::told(put_off, now), now);
        let due = now + 2 * Duration::from_secs(1);
        assert_eq!(begun.look(&packet(b"two", 1), due), Recall::Nothing, "he is asked for as before");
        begun.add(&packet(b"three", 1), Some(&MARK), Became::Unheard, now);
        assert_eq!(begun.look(&packet(b"three", 1), now), Recall::Waits(MARK));
        assert_eq!(begun.look(&packet(b"three", 2), now), Recall::Elsewhere);
    }

    #[test]
    fn who_is_held_is_let_in_when_his_time_has_come() {
        let now = Instant::now();
        let (mut begun, due) = (Begun::new(LIMIT, now), now + Duration::from_millis(200));
        begun.add(&packet(b"one", 1), Some(&MARK), Became::Held { due, since: now }, now);
        assert_eq!(begun.look(&packet(b"one", 1), now), Recall::Held(due), "the second half of his hello");
        assert_eq!(begun.look(&packet(b"one", 2), now), Recall::Elsewhere);
        let released = FirstPacket { held_since: Some(now), ..packet(b"one", 1) };
        for _ in 0..100 {
            assert_eq!(begun.look(&released, due), Recall::Due(MARK), "it came once");
        }
        begun.add(&packet(b"one", 1), Some(&MARK), Became::LetIn, due);
        assert_eq!(begun.look(&packet(b"one", 1), due), Recall::GoesOn);
        begun.add(&packet(b"two", 1), Some(&MARK), Became::Held { due, since: now }, now);
        let held = (0..10).filter(|_| begun.look(&packet(b"two", 1), now) == Recall::Held(due)).count();
        assert_eq!(held, usize::from(HELLO_PACKETS_MAX) - 1);
        let due = now + 3 * HELLO_WITHIN;
        begun.add(&packet(b"three", 1), Some(&MARK), Became::Held { due, since: now }, now);
        let copied = now + HELLO_WITHIN;
        assert_eq!(begun.look(&packet(b"three", 1), copied), Recall::Enough, "a copy of what is here");
        let released = FirstPacket { held_since: Some(now), ..packet(b"three", 1) };
        assert_eq!(
            begun.look(&released, copied),
            Recall::Held(due),
            "the second half, when the first is held again"
        );
    }

    /// Whoever is known must not be taken for what he was before because others came.
    #[test]
    fn where_there_is_no_room_for_more_those_who_are_there_are_told_apart() {
        let now = Instant::now();
        let mut begun = Begun::new(LIMIT, now);
        begun.add(&packet(b"old", 1), Some(&MARK), Became::LetIn, now);
        begun.on_ignored(b"old");
        let now = now + LIMIT;
        begun.add(&packet(b"young", 1), Some(&MARK), Became::LetIn, now);
        begun.on_ignored(b"young");
        for n in 0..u16::MAX {
            let id = n.to_be_bytes();
            let first = FirstPacket {
                id: &id,
                from: ([127, 0, 0, 1], 1).into(),
                can_be_held: true,
                held_since: None,
            };
            begun.add(&first, None, Became::LetIn, now);
        }
        assert_eq!(begun.young.len(), HANDSHAKES_MAX);
        for id in [&b"old"[..], b"young"] {
            assert_eq!(begun.look(&packet(id, 1), now), Recall::Ignored(Some(MARK)));
            begun.add(&packet(id, 1), Some(&MARK), Became::LetIn, now);
            assert_eq!(begun.look(&packet(id, 1), now), Recall::GoesOn);
        }
        assert_eq!(begun.young.len(), HANDSHAKES_MAX);
    }
}
