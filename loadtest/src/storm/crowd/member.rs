//! One member of a crowd: a phone whose session is kept up by the rules of the protocol, and what it has to do.
//!
//! It must never lose what it was given: each thing ends with an answer, or is counted as failed at the end of the run.

use std::rc::Rc;
use std::time::{Duration, Instant};

use buslane_client::raw::Session;
use buslane_shared::wire;
use bytes::Bytes;

use super::end::End;
use super::heard::Heard;
use super::line;
use super::notes::Notes;
use super::opening::Opened;
use super::outbox::Outbox;
use super::patience::{Manners, Patience, again_after};
use super::work::{IN_FLIGHT_MAX, IN_FLIGHT_USUAL, Item, Kind, Work};
use crate::simulate::random::Random;
use crate::storm::fleet::{Phone, TRY_LIMIT};
use crate::storm::history::Continuity;
use crate::storm::net::Net;
use crate::storm::scenario::{Crowd, Side};
use crate::storm::tally::{Outcome, Stream};

/// What a member is, and how what it does is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Whether somebody looks, as it tells the server.
    pub side: Side,
    /// Whether somebody really does.
    pub is_looked_at: bool,
    /// Its messages.
    pub message: Stream,
    /// What it fetches.
    pub fetch: Stream,
    /// How it waits.
    pub manners: Manners,
    /// How often a refused or unanswered request goes again.
    pub retries: u32,
}

impl Role {
    /// A member of this crowd.
    pub fn of(crowd: &Crowd, manners: Manners) -> Self {
        let (side, message, fetch) = match (crowd.liars, crowd.side) {
            (true, _) => (Side::Foreground, Stream::Liar, Stream::Liar),
            (false, Side::Foreground) => (Side::Foreground, Stream::Crowd, Stream::Look),
            (false, Side::Background) => (Side::Background, Stream::CatchUp, Stream::CatchUp),
        };
        let is_looked_at = crowd.side == Side::Foreground;
        Self { side, is_looked_at, message, fetch, manners, retries: crowd.retries }
    }

    /// Requests without an answer that it lets be on their way.
    fn in_flight_max(&self) -> usize {
        if self.message == Stream::Liar { IN_FLIGHT_MAX } else { IN_FLIGHT_USUAL }
    }

    /// How something that it does is counted.
    pub fn stream(&self, kind: &Kind) -> Stream {
        match kind {
            Kind::Message { .. } => self.message,
            Kind::Fetch => self.fetch,
        }
    }
}

/// A member. What belongs to one session only is in [`line`].
#[derive(Debug)]
pub struct Member {
    /// Its place among all; neighbours are `2n` and `2n + 1`.
    pub number: usize,
    /// What it holds.
    pub phone: Phone,
    /// What it is.
    pub role: Role,
    /// The room that it shares with its neighbour.
    pub room: Bytes,
    /// What the plan gives it.
    pub outbox: Outbox,
    /// What it has to do.
    pub work: Work,
    /// What it has of the room.
    pub heard: Heard,
    /// Whether it may have missed events, and has to ask for them.
    pub is_behind: bool,
    /// What all write down together.
    pub notes: Notes,
    /// Its lots.
    pub random: Random,
}

impl Member {
    /// One with nothing to do yet, and its session.
    pub fn new(number: usize, opened: Opened, role: Role, notes: Notes, random: Random) -> (Self, Session) {
        let Opened { phone, session, room } = opened;
        let member = Self {
            number,
            phone,
            role,
            room,
            outbox: Outbox::default(),
            work: Work::new(role.in_flight_max()),
            heard: Heard::default(),
            is_behind: false,
            notes,
            random,
        };
        (member, session)
    }

    /// Lives until its outbox is closed. Gives the phone back.
    pub async fn run(mut self, session: Session, net: Rc<Net>) -> Phone {
        let mut session = Some(session);
        while let Some(open) = session.take() {
            let since = Instant::now();
            let end = line::serve(&mut self, open).await;
            if matches!(end, End::Over) {
                self.notes.record(|ledger| ledger.on_end(self.number));
                break;
            }
            let was_up = since.elapsed();
            self.work.on_lost();
            session = self.come_back(&net, &end, was_up).await;
        }
        self.give_up();
        self.phone
    }

    /// A try was turned away: it goes again, or that was all.
    pub fn on_turned_away(&mut self, mut item: Item, refusal: &wire::Refusal, now: Instant) {
        if let Kind::Message { client_id } = &item.kind {
            self.notes.record(|ledger| ledger.on_refusal(self.number, client_id, refusal));
        }
        let refused = Outcome::Refused(refusal.code().name());
        self.notes.on_outcome(self.role.stream(&item.kind), item.due, refused);
        let retry_after = Duration::from_millis(refusal.retry_after_ms.into());
        if refusal.retryable && item.tries < self.role.retries {
            item.tries += 1;
            self.put_again(item, retry_after, now);
        } else {
            self.outbox.on_ended();
        }
    }

    /// No answer came in time: the same.
    pub fn on_overdue(&mut self, mut item: Item, now: Instant) {
        if item.tries < self.role.retries {
            item.tries += 1;
            self.put_again(item, Duration::ZERO, now);
        } else {
            self.on_ended(&item, Outcome::Failed("no_answer"));
        }
    }

    /// Something has ended for good.
    pub fn on_ended(&mut self, item: &Item, outcome: Outcome) {
        self.notes.on_outcome(self.role.stream(&item.kind), item.due, outcome);
        self.outbox.on_ended();
    }

    /// A message has its receipt.
    pub fn on_stored(&mut self, item: &Item, seq: u64, now: Instant) {
        if let Kind::Message { client_id } = &item.kind {
            self.notes.record(|ledger| ledger.on_receipt(self.number, client_id, seq));
        }
        self.outbox.on_stored(seq);
        self.notes.on_stored();
        self.on_ended(item, Outcome::Done(now.saturating_duration_since(item.due)));
    }

    /// A message came by itself.
    pub fn on_delivery(&mut self, message: &wire::Message) {
        self.notes.record(|ledger| ledger.on_delivery(self.number, message));
        self.on_message(message);
    }

    /// A message is in a page that was asked for. What one has already is not written down again: pages overlap.
    pub fn on_fetched(&mut self, message: &wire::Message) {
        if self.on_message(message) {
            self.notes.record(|ledger| ledger.on_fetched(self.number, message));
        }
    }

    /// The server says that events were dropped.
    pub fn on_behind(&mut self) {
        self.is_behind = true;
        self.notes.record(|ledger| ledger.on_behind(self.number));
    }

    /// There is a message of this number in the room. True: for the first time.
    pub fn on_number(&mut self, seq: u64) -> bool {
        let is_new = self.heard.on_message(seq);
        self.outbox.on_heard(self.heard.through());
        is_new
    }

    /// True: for the first time.
    fn on_message(&mut self, message: &wire::Message) -> bool {
        let is_new = message.room == self.room && self.on_number(message.seq);
        if is_new && message.sender != self.phone.user.as_str() {
            self.notes.on_received();
        }
        is_new
    }

    fn put_again(&mut self, item: Item, retry_after: Duration, now: Instant) {
        let wait = again_after(self.role.manners, item.tries, retry_after, self.random.unit());
        self.work.put_again(now + wait, item);
    }

    /// One more session; `None`: the run is over.
    async fn come_back(&mut self, net: &Net, end: &End, was_up: Duration) -> Option<Session> {
        let outbox = self.outbox.clone();
        let session = tokio::select! {
            session = self.try_until_in(net, end.retry_after(), was_up) => session,
            () = outbox.closed() => return None,
        };
        if let End::Dropped { drop, .. } = end {
            self.notes.on_back(*drop, Instant::now());
        }
        let continuity = if session.welcome.resumed { Continuity::Resumed } else { Continuity::Fresh };
        self.is_behind |= continuity == Continuity::Fresh;
        self.notes.record(|ledger| ledger.on_session(self.number, continuity));
        Some(session)
    }

    async fn try_until_in(&mut self, net: &Net, retry_after: Option<Duration>, was_up: Duration) -> Session {
        let manners = self.role.manners;
        let mut patience = Patience::new(manners);
        let mut wait = match retry_after {
            Some(retry_after) if manners == Manners::Obedient => retry_after,
            _ => patience.first(was_up, self.random.unit()),
        };
        let mut slot = None;
        loop {
            tokio::time::sleep(wait).await;
            let shown = slot.take();
            let turned = match self.phone.open(net, self.role.side, shown, TRY_LIMIT).await {
                Ok(session) => return session,
                Err(turned) => turned,
            };
            (wait, slot) = patience.on_turned(turned, self.random.unit());
            // A slot is for the wake port: a person comes with a pass.
            slot = slot.filter(|_| self.role.side == Side::Background);
        }
    }

    /// What is left at the end of the run has failed.
    fn give_up(&mut self) {
        self.outbox.move_into(&mut self.work);
        let (unanswered, unsent) = std::mem::replace(&mut self.work, Work::new(0)).into_rest();
        for item in unanswered {
            self.on_ended(&item, Outcome::Failed("no_answer"));
        }
        for item in unsent {
            self.on_ended(&item, Outcome::Failed("not_sent"));
        }
    }
}
