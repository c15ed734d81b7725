//! The requests of one talk stream that are without an answer.
//!
//! Why it exists: hundreds of requests are under way at a time and none of them may cost a task or a timer of its own. They
//! are begun in the order in which they came, because that order becomes the order of messages in a room. A request that
//! is given up is dropped at once, and counts until it is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};

use buslane_chassis::api::Backend;
use buslane_shared::limits::IN_FLIGHT_MAX;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::request::{Relay, Terms, refuse};

/// Bytes that the requests of one session and their answers may occupy: 256 messages of the largest size, or some thirty
/// pages of history. Beyond it nothing more is read from the stream until answers have gone out.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Slots that an idle session keeps.
const SLOTS_KEPT: usize = 8;

type Flight = Abortable<BoxFuture<'static, (u64, wire::Answer)>>;

struct Record {
    terms: Terms,
    weight: usize,
    abort: AbortHandle,
}

/// Requests under way.
#[derive(Default)]
pub(crate) struct Flights {
    running: FuturesUnordered<Flight>,
    /// Answered by the backend, in the order of the answers. They keep their weight until they are taken.
    answered: VecDeque<(u64, wire::Answer)>,
    records: HashMap<u64, Record>,
    weight: usize,
    /// No deadline is earlier than this.
    earliest: Option<Instant>,
}

/// A request that was answered by the backend.
pub(crate) struct Landed {
    pub(crate) answer: wire::Answer,
    pub(crate) terms: Terms,
}

impl Flights {
    /// Begins a request; an answer is the refusal of it.
    pub(crate) fn begin(&mut self, relay: Box<Relay>, backend: &Backend) -> Option<wire::Answer> {
        let id = relay.id;
        if self.running.len() + self.answered.len() >= IN_FLIGHT_MAX {
            return Some(refuse(id, Refusal::of(Code::TooManyInFlight)));
        }
        let Entry::Vacant(slot) = self.records.entry(id) else {
            return Some(refuse(id, Refusal::field("id", "a request with this id is in flight")));
        };
        let (abort, registration) = AbortHandle::new_pair();
        let (terms, weight) = (relay.terms, relay.weight);
        slot.insert(Record { terms, weight, abort });
        self.weight += weight;
        self.earliest = Some(self.earliest.map_or(terms.deadline, |e| e.min(terms.deadline)));
        let answer = relay.run(backend.clone());
        let flight: BoxFuture<'static, _> = Box::pin(async move { (id, answer.await) });
        self.running.push(Abortable::new(flight, registration));
        None
    }

    /// Lets the requests go on, also while nobody takes their answers: one that has its turn in a room of the backend must
    /// not keep it because its client does not read.
    pub(crate) fn advance(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.running.poll_next_unpin(cx) {
            // Those that were given up were answered then.
            if let Ok(landed) = ended {
                self.answered.push_back(landed);
            }
        }
    }

    /// The next answer that is there.
    pub(crate) fn take_landed(&mut self) -> Option<Landed> {
        loop {
            let (id, answer) = self.answered.pop_front()?;
            if let Some(record) = self.forget(id) {
                return Some(Landed { answer: wire::Answer { id, ..answer }, terms: record.terms });
            }
        }
    }

    /// The client no longer wants an answer. `None`: it was given already.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<wire::Answer> {
        let record = self.give_up(id)?;
        Some(record.terms.give_up(id, Code::Cancelled))
    }

    /// Gives up whatever is over its deadline.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<wire::Answer> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let over = |record: &Record| record.terms.deadline <= now;
        let late: Vec<u64> = self.records.iter().filter(|(_, r)| over(r)).map(|(id, _)| *id).collect();
        let give_up = |id: u64| {
            let record = self.give_up(id)?;
            Some(record.terms.give_up(id, Code::Deadline))
        };
        let answers = late.into_iter().filter_map(give_up).collect();
        self.earliest = self.records.values().map(|r| r.terms.deadline).min();
        answers
    }

    /// When to call [`Flights::expire`].
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// No more may be begun now.
    pub(crate) fn is_heavy(&self) -> bool {
        self.weight >= IN_FLIGHT_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.answered.is_empty()
    }

    /// Gives back memory that a burst has left.
    pub(crate) fn shrink(&mut self) {
        if self.records.is_empty() && self.records.capacity() > SLOTS_KEPT {
            self.records = HashMap::new();
        }
        if self.answered.is_empty() && self.answered.capacity() > SLOTS_KEPT {
            self.answered = VecDeque::new();
        }
    }

    fn give_up(&mut self, id: u64) -> Option<Record> {
        let record = self.forget(id)?;
        record.abort.abort();
        // The client may use the id again at once: an answer that nobody has taken must not become that of the next one.
        self.answered.retain(|(answered, _)| *answered != id);
        Some(record)
    }

    fn forget(&mut self, id: u64) -> Option<Record> {
        let record = self.records.remove(&id)?;
        self.weight -= record.weight;
        if self.records.is_empty() {
            self.earliest = None;
        }
        Some(record)
    }
}
