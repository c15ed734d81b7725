//! The requests of one talk stream that are without an answer.
//!
//! Why it exists: hundreds of requests are under way at a time and none of them may cost a task or a timer of its own. Each
//! gets its seat or waits for it, and they are begun in the order in which they came, because that order becomes the order
//! of messages in a room. A request that is given up is dropped at once, and counts until it is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use buslane_shared::limits::IN_FLIGHT_MAX;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::load::Decision;
use crate::load::lines::{Lines, Step};
use crate::load::outcome::Reason;
use crate::load::seats::Seated;
use crate::node::Node;
use crate::request::{AFTER_A_WAIT, AT_ONCE, DRY_RUN, GIVEN_UP, Relay, Terms, refuse};

/// Bytes that the requests of one session and their answers may occupy: 256 messages of the largest size, or some thirty
/// pages of history. Beyond it nothing more is read from the stream until answers have gone out.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Slots that an idle session keeps.
const SLOTS_KEPT: usize = 8;

type Flight = Abortable<BoxFuture<'static, (u64, wire::Answer)>>;

struct Record {
    terms: Terms,
    weight: usize,
    /// None: it waits for a seat.
    running: Option<Running>,
}

/// What is kept of a request that has been begun.
struct Running {
    abort: AbortHandle,
    since: Instant,
}

/// Requests under way.
pub(crate) struct Flights {
    node: Arc<Node>,
    lines: Lines,
    running: FuturesUnordered<Flight>,
    /// Answered by the backend, or turned away, in the order in which that happened. They keep their weight until they are
    /// taken.
    answered: VecDeque<(u64, wire::Answer, By)>,
    records: HashMap<u64, Record>,
    weight: usize,
    /// No deadline is earlier than this.
    earliest: Option<Instant>,
}

/// A request that has its answer.
pub(crate) struct Landed {
    pub(crate) answer: wire::Answer,
    pub(crate) terms: Terms,
    /// What it has occupied until now.
    pub(crate) weight: usize,
    pub(crate) by: By,
}

/// Who has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The backend.
    Backend,
    /// This node has refused it, for this reason.
    Node(Reason),
}

impl Record {
    /// The answer when it is given up. One that has not begun has certainly done nothing.
    fn give_up(&self, id: u64, code: Code) -> Landed {
        let answer = match self.running {
            Some(_) => self.terms.give_up(id, code),
            None => refuse(id, Refusal::of(code)),
        };
        Landed { answer, terms: self.terms, weight: self.weight, by: By::Node(Reason::Code(code)) }
    }
}

impl Flights {
    pub(crate) fn new(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::clone(node),
            lines: Lines::default(),
            running: FuturesUnordered::new(),
            answered: VecDeque::new(),
            records: HashMap::new(),
            weight: 0,
            earliest: None,
        }
    }

    /// Begins a request, or lets it wait for a seat; what comes back is refused.
    pub(crate) fn begin(&mut self, relay: Box<Relay>) -> Option<Landed> {
        let (id, terms, weight) = (relay.id, relay.terms, relay.weight);
        let refused = |refusal, reason| {
            Some(Landed { answer: refuse(id, refusal), terms, weight, by: By::Node(reason) })
        };
        if self.running.len() + self.answered.len() + self.lines.len() >= IN_FLIGHT_MAX {
            let code = Code::TooManyInFlight;
            return refused(Refusal::of(code), Reason::Code(code));
        }
        let Entry::Vacant(slot) = self.records.entry(id) else {
            let refusal = Refusal::field("id", "a request with this id is in flight");
            return refused(refusal, Reason::Code(Code::BadField));
        };
        slot.insert(Record { terms, weight, running: None });
        self.weight += weight;
        self.earliest = Some(self.earliest.map_or(terms.deadline, |e| e.min(terms.deadline)));
        match self.lines.enter(relay, &self.node.load.seats) {
            Some(Step::Begin(mut relay, seat)) => {
                relay.on_decided(AT_ONCE);
                self.node.load.census.on(relay.terms.protocol, relay.terms.class, Decision::Admitted);
                self.run(relay, Some(seat));
                None
            }
            Some(Step::Refuse(mut relay, why)) => {
                let Terms { protocol, class, level, .. } = relay.terms;
                if self.node.load.on_turned_away(protocol, class, why) {
                    relay.on_decided(DRY_RUN);
                    self.run(relay, None);
                    return None;
                }
                self.forget(id);
                relay.turn_away(why);
                refused(self.node.load.busy(class, level), Reason::Lane(why))
            }
            None => None,
        }
    }

    fn run(&mut self, relay: Box<Relay>, seat: Option<Seated>) {
        let (id, terms) = (relay.id, relay.terms);
        let (abort, registration) = AbortHandle::new_pair();
        if let Some(record) = self.records.get_mut(&id) {
            record.running = Some(Running { abort, since: Instant::now() });
            record.terms = terms;
        }
        let node = Arc::clone(&self.node);
        let flight: BoxFuture<'static, _> = Box::pin(async move {
            let answer = relay.run(&node.load, node.backend.clone()).await;
            drop(seat);
            (id, answer)
        });
        self.running.push(Abortable::new(flight, registration));
    }

    /// Lets the requests go on, also while nobody takes their answers: one that has its turn in a room of the backend must
    /// not keep it because its client does not read.
    pub(crate) fn advance(&mut self, cx: &mut Context<'_>) {
        loop {
            // Where one ends, its seat may be that of the next in line.
            while let Poll::Ready(Some(ended)) = self.running.poll_next_unpin(cx) {
                // Those that were given up were answered then.
                if let Ok((id, answer)) = ended {
                    self.answered.push_back((id, answer, By::Backend));
                }
            }
            if !self.advance_lines(cx) {
                return;
            }
        }
    }

    /// Begins or turns away those who waited and have their turn. False: there were none.
    fn advance_lines(&mut self, cx: &Context<'_>) -> bool {
        let mut progress = false;
        while !self.lines.is_empty()
            && let Some(step) = self.lines.poll(cx, &self.node.load.seats)
        {
            progress = true;
            match step {
                Step::Begin(mut relay, seat) => {
                    let Terms { protocol, class, began, .. } = relay.terms;
                    relay.on_decided(AFTER_A_WAIT);
                    self.node.load.census.on_waited(protocol, class, began.elapsed());
                    self.run(relay, Some(seat));
                }
                Step::Refuse(mut relay, why) => {
                    let Terms { protocol, class, level, .. } = relay.terms;
                    if self.node.load.on_turned_away(protocol, class, why) {
                        relay.on_decided(DRY_RUN);
                        self.run(relay, None);
                    } else {
                        let answer = refuse(relay.id, self.node.load.busy(class, level));
                        self.answered.push_back((relay.id, answer, By::Node(Reason::Lane(why))));
                        relay.turn_away(why);
                    }
                }
            }
        }
        progress
    }

    /// The next answer that is there.
    pub(crate) fn take_landed(&mut self) -> Option<Landed> {
        loop {
            let (id, answer, by) = self.answered.pop_front()?;
            if let Some(record) = self.forget(id) {
                let answer = wire::Answer { id, ..answer };
                return Some(Landed { answer, terms: record.terms, weight: record.weight, by });
            }
        }
    }

    /// The client no longer wants an answer. `None`: it was given already.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<Landed> {
        let record = self.give_up(id)?;
        Some(record.give_up(id, Code::Cancelled))
    }

    /// Gives up whatever is over its deadline.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Landed> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let over = |record: &Record| record.terms.deadline <= now;
        let late: Vec<u64> = self.records.iter().filter(|(_, r)| over(r)).map(|(id, _)| *id).collect();
        let give_up = |id: u64| {
            // An answer that waits for a client that does not read says nothing about the backend.
            let is_answered = self.answered.iter().any(|(answered, ..)| *answered == id);
            let record = self.give_up(id)?;
            if let Some(running) = record.running.as_ref().filter(|_| !is_answered) {
                self.node.load.dependency.on_timeout(now.saturating_duration_since(running.since));
            }
            Some(record.give_up(id, Code::Deadline))
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
        self.running.is_empty() && self.answered.is_empty() && self.lines.is_empty()
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
        match &record.running {
            Some(running) => running.abort.abort(),
            None => {
                if let Some(mut relay) = self.lines.withdraw(id) {
                    relay.on_decided(GIVEN_UP);
                }
            }
        }
        // The client may use the id again at once: an answer that nobody has taken must not become that of the next one.
        self.answered.retain(|(answered, ..)| *answered != id);
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
