//! Which sequence a message gets: the next of its room, or the one it already has.
//!
//! Why it exists: a client repeats a send until it has a receipt, so the same client id must never make a second message,
//! whether its first send is still on the way to the disk, was stored a second ago or a week ago. The sequencer knows the
//! newest ids of a room; for older ones the store is asked *before* the room is locked, and [`Lookup`] says how far that
//! answer reaches, so that nothing can slip between the question and the lock.
//!
//! It must never give a sequence out twice, and never forget an id that is not yet durable.

use std::collections::VecDeque;

use crate::UnixMs;
use crate::id::{ClientId, UserId};
use crate::limits::RECENT_IDS_PER_ROOM;

/// Whose message, and the sender's name for it: the key of idempotency.
pub type MessageKey = (UserId, ClientId);

/// Room for the ids that are kept, and for those that are on their way to the disk with them. What a burst needs beyond it is given back:
/// there are as many sequencers as busy rooms.
const PLACES: usize = RECENT_IDS_PER_ROOM + 32;

/// What the store said about a client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// Every sequence up to here was durable, and so visible to the question, when it was asked.
    pub as_of: u64,
    /// The sequence under which the store has the id.
    pub found: Option<u64>,
}

/// A message that the sequencer remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its sequence.
    pub seq: u64,
    /// When it was sent.
    pub sent_at_ms: UnixMs,
    /// Whether it is on stable storage.
    pub durable: bool,
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is new: this is its sequence.
    Next(u64),
    /// It is remembered: the answer is that of the first send.
    Known(Known),
    /// It is in the store under this sequence.
    Stored(u64),
    /// The lookup is too old to be sure: ask the store again.
    LookAgain,
}

/// The sequence of one room.
///
/// The newest ids are looked through one by one: they are few, and a map of them beside their order was seven times as large.
#[derive(Debug)]
pub struct Sequencer {
    head: u64,
    durable: u64,
    /// All ids with a sequence above this are remembered, in the order of their sequences.
    forgotten: u64,
    recent: VecDeque<Recent>,
    /// What tells most of them apart, close together.
    tags: VecDeque<u64>,
}

#[derive(Debug)]
struct Recent {
    key: MessageKey,
    sent_at_ms: UnixMs,
}

impl Sequencer {
    /// The sequencer of a room whose last durable sequence is `head`.
    pub fn after(head: u64) -> Self {
        Self { head, durable: head, forgotten: head, recent: VecDeque::new(), tags: VecDeque::new() }
    }

    /// The last sequence that was given out.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The last sequence that is on stable storage.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Decides about a message; changes nothing.
    pub fn decide(&self, key: &MessageKey, lookup: Lookup) -> Decision {
        if let Some((seq, sent_at_ms)) = self.find(key) {
            return Decision::Known(Known { seq, sent_at_ms, durable: seq <= self.durable });
        }
        match lookup.found {
            Some(seq) => Decision::Stored(seq),
            None if lookup.as_of < self.forgotten => Decision::LookAgain,
            None => Decision::Next(self.head + 1),
        }
    }

    /// Whether a message is remembered, on stable storage or on its way there.
    pub fn remembers(&self, key: &MessageKey) -> bool {
        self.find(key).is_some()
    }

    /// Takes the sequence that [`Self::decide`] named.
    pub fn take(&mut self, key: MessageKey, sent_at_ms: UnixMs) -> u64 {
        self.head += 1;
        self.tags.push_back(tag(&key));
        self.recent.push_back(Recent { key, sent_at_ms });
        self.head
    }

    /// Every sequence up to `seq` is on stable storage. Of these the newest [`RECENT_IDS_PER_ROOM`] ids are remembered, and
    /// all that are not durable: the store does not know those yet.
    pub fn committed(&mut self, seq: u64) {
        self.durable = self.durable.max(seq.min(self.head));
        while self.durable - self.forgotten > RECENT_IDS_PER_ROOM as u64 {
            self.recent.pop_front();
            self.tags.pop_front();
            self.forgotten += 1;
        }
        if self.recent.capacity() > PLACES && self.recent.len() <= PLACES {
            self.recent.shrink_to(PLACES);
            self.tags.shrink_to(PLACES);
        }
    }

    /// The sequence of an id that is remembered, and when it was sent.
    fn find(&self, key: &MessageKey) -> Option<(u64, UnixMs)> {
        let wanted = tag(key);
        // The newest first: that is what is asked for most.
        let mut same = self.tags.iter().enumerate().rev().filter(|(_, tag)| **tag == wanted);
        same.find_map(|(at, _)| {
            let recent = self.recent.get(at)?;
            (recent.key == *key).then_some((self.forgotten + 1 + at as u64, recent.sent_at_ms))
        })
    }
}

/// Half of what a client id says, whichever part of it the client fills.
fn tag((_, id): &MessageKey) -> u64 {
    let both = u128::from_be_bytes(*id.as_bytes());
    (both >> 64) as u64 ^ both as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(sender: u8, id: u16) -> MessageKey {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        (format!("u{sender}").parse().unwrap(), ClientId::from_bytes(bytes))
    }

    fn fresh(s: &Sequencer) -> Lookup {
        Lookup { as_of: s.durable(), found: None }
    }

    #[test]
    fn a_repeated_id_gets_its_first_sequence_and_knows_whether_it_is_durable() {
        let mut s = Sequencer::after(7);
        assert_eq!(s.decide(&key(1, 1), fresh(&s)), Decision::Next(8));
        s.take(key(1, 1), 99);
        let known = |durable| Decision::Known(Known { seq: 8, sent_at_ms: 99, durable });
        assert_eq!(s.decide(&key(1, 1), fresh(&s)), known(false));
        assert!(s.remembers(&key(1, 1)) && !s.remembers(&key(2, 1)));
        s.committed(8);
        assert_eq!(s.decide(&key(1, 1), fresh(&s)), known(true));
        assert_eq!(
            s.decide(&key(2, 1), fresh(&s)),
            Decision::Next(9),
            "another sender's id is another message"
        );
    }

    #[test]
    fn what_the_store_has_is_not_sent_again() {
        let s = Sequencer::after(7);
        assert_eq!(s.decide(&key(1, 1), Lookup { as_of: 7, found: Some(3) }), Decision::Stored(3));
    }

    #[test]
    fn the_room_of_a_burst_is_given_back() {
        let mut s = Sequencer::after(0);
        for id in 0..10_000 {
            s.take(key(1, id), 0);
        }
        assert!(s.recent.capacity() >= 10_000, "none of them is durable");
        s.committed(9_000);
        s.committed(10_000);
        assert_eq!((s.recent.len(), s.tags.len()), (RECENT_IDS_PER_ROOM, RECENT_IDS_PER_ROOM));
        assert_eq!((s.recent.capacity(), s.tags.capacity()), (PLACES, PLACES));
        assert!(matches!(s.decide(&key(1, 9_999), fresh(&s)), Decision::Known(_)));
    }

    #[test]
    fn an_answer_from_before_the_id_was_forgotten_does_not_count() {
        let mut s = Sequencer::after(0);
        let old = fresh(&s);
        for id in 0..=RECENT_IDS_PER_ROOM as u16 {
            s.take(key(1, id), 0);
        }
        assert_eq!(
            s.decide(&key(2, 0), old),
            Decision::Next(s.head() + 1),
            "nothing is forgotten before it is durable"
        );
        s.committed(s.head());
        assert_eq!(s.decide(&key(1, 0), old), Decision::LookAgain);
        let as_of = s.durable();
        assert_eq!(s.decide(&key(1, 0), Lookup { as_of, found: Some(1) }), Decision::Stored(1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(u8, u16),
        SendAsked,
        Commit(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..3, 0u16..700).prop_map(|(s, i)| Step::Ask(s, i)),
            4 => Just(Step::SendAsked),
            1 => any::<u8>().prop_map(Step::Commit),
        ]
    }

    proptest! {
        /// Whatever the interleaving of questions to the store, sends and commits: dense, and one sequence for each id.
        #[test]
        fn dense_and_one_sequence_for_each_id(steps in proptest::collection::vec(step(), 0..2000)) {
            let mut s = Sequencer::after(0);
            let mut log: Vec<MessageKey> = vec![];
            let mut asked: VecDeque<(MessageKey, Lookup)> = VecDeque::new();
            let mut model: BTreeMap<(u8, u16), u64> = BTreeMap::new();
            let stored = |log: &[MessageKey], durable: u64, key: &MessageKey| {
                log.iter().take(durable as usize).position(|k| k == key).map(|at| at as u64 + 1)
            };
            for step in steps {
                match step {
                    Step::Ask(sender, id) => {
                        let key = key(sender, id);
                        let found = stored(&log, s.durable(), &key);
                        asked.push_back((key, Lookup { as_of: s.durable(), found }));
                    }
                    Step::SendAsked => {
                        let Some((key, mut lookup)) = asked.pop_front() else { continue };
                        if s.decide(&key, lookup) == Decision::LookAgain {
                            lookup = Lookup { as_of: s.durable(), found: stored(&log, s.durable(), &key) };
                        }
                        let seq = match s.decide(&key, lookup) {
                            Decision::Next(next) => {
                                prop_assert_eq!(next, log.len() as u64 + 1);
                                prop_assert_eq!(s.take(key.clone(), 0), next);
                                log.push(key.clone());
                                next
                            }
                            Decision::Known(known) => known.seq,
                            Decision::Stored(seq) => seq,
                            Decision::LookAgain => return Err(TestCaseError::fail("a fresh lookup must do")),
                        };
                        let name = (key.0.as_str().as_bytes()[1], u16::from_be_bytes([key.1.as_bytes()[0], key.1.as_bytes()[1]]));
                        prop_assert_eq!(*model.entry(name).or_insert(seq), seq);
                    }
                    Step::Commit(by) => {
                        let upto = s.durable() + u64::from(by);
                        s.committed(upto);
                        prop_assert!(s.durable() <= s.head());
                    }
                }
            }
            prop_assert_eq!(s.head(), log.len() as u64);
        }
    }
}
