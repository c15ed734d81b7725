//! One session of a member, from its welcome to its end: requests go out as they are due, answers and events come in.
//!
//! What waits to be written is bounded, and writing never stops the reading: a server that does not read is waited for by
//! what is due, not by what it sends.

use std::time::{Duration, Instant};

use buslane_client::raw::{FrameReader, Session};
use buslane_shared::frame::encode;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer, client_frame, event, request, server_frame};
use bytes::{Buf, Bytes, BytesMut};

use super::end::{self, End, Forgotten, GoingAway, STREAM_ENDED};
use super::member::Member;
use super::work::{DEADLINE, Item, Kind};
use crate::storm::tally::Outcome;

/// Events after which the server is told that they are here: far below the bound of its mailbox.
const EVENTS_UNSEEN_MAX: u64 = 32;

/// It is also told when events were quiet for this long.
const EVENTS_QUIET: Duration = Duration::from_secs(1);

/// Written and not yet taken by the transport, at most: more than one round of requests.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Messages of one page: a screenful.
const PAGE: u32 = 20;

/// Messages of one page when one is behind.
const PAGE_BEHIND: u32 = 100;

/// Before what was missed is asked for again, where the server named no time.
const BEHIND_AGAIN: Duration = Duration::from_millis(500);

/// The id of the first request of a session; below it are those of the preparation.
const FIRST_ID: u64 = 16;

/// No server is pinged more often, whatever it asks for.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A message.
static BODY: [u8; 200] = [b'.'; 200];

/// Whether what was missed is being asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asking {
    No,
    /// Under this id.
    Now(u64),
    /// Again, then.
    At(Instant),
}

#[derive(Debug)]
struct Line {
    send: quinn::SendStream,
    out: BytesMut,
    next_id: u64,
    ping_interval: Duration,
    ping_at: Instant,
    last_event: u64,
    unseen: u64,
    seen_at: Option<Instant>,
    going_away: Option<GoingAway>,
    asking: Asking,
}

/// Serves a session until it ends, and notes how it ended.
pub async fn serve(member: &mut Member, session: Session) -> End {
    let Session { connection, send, mut recv, welcome } = session;
    let mut line = Line::new(send, &welcome, member.phone.seen());
    // One that was meant for the session before.
    member.outbox.take_drop();
    // What came with the welcome.
    let mut broken = line.hear_all(member, &mut recv).err();
    let stop = loop {
        if let Some(why) = broken {
            break Stop::Broken(why);
        }
        if let Some(stop) = line.turn(member, Instant::now()) {
            break stop;
        }
        let look = line.next_look(member);
        tokio::select! {
            filled = recv.fill() => match filled {
                Ok(true) => broken = line.hear_all(member, &mut recv).err(),
                Ok(false) => broken = Some(STREAM_ENDED),
                Err(error) => broken = Some(error.name()),
            },
            written = line.send.write(&line.out), if !line.out.is_empty() => match written {
                Ok(bytes) => line.out.advance(bytes),
                Err(_) => broken = Some("write"),
            },
            () = member.outbox.changed() => {}
            () = tokio::time::sleep_until(look.into()) => {}
        }
    };
    member.phone.set_seen(line.last_event);
    match stop {
        Stop::Over => {
            connection.close((Code::ClosedByClient as u32).into(), b"");
            End::Over
        }
        Stop::Drop(drop) => {
            member.notes.on_dropped(drop);
            End::Dropped { drop, _rest: Forgotten::new(connection, line.send, recv) }
        }
        Stop::Broken(why) => end::lost(&member.notes, &connection, line.going_away.as_ref(), why),
    }
}

/// Why serving stops.
enum Stop {
    Over,
    Drop(usize),
    Broken(&'static str),
}

impl Line {
    fn new(send: quinn::SendStream, welcome: &wire::Welcome, last_event: u64) -> Self {
        let now = Instant::now();
        let mut line = Self {
            send,
            out: BytesMut::new(),
            next_id: FIRST_ID,
            ping_interval: Duration::ZERO,
            ping_at: now,
            last_event,
            unseen: 0,
            seen_at: None,
            going_away: None,
            asking: Asking::No,
        };
        line.on_ping_interval(welcome.advice.as_ref(), welcome.ping_interval_ms);
        line.ping_at = now + line.ping_interval;
        line
    }

    /// Everything that is to be done now.
    fn turn(&mut self, member: &mut Member, now: Instant) -> Option<Stop> {
        if member.outbox.is_closed() {
            return Some(Stop::Over);
        }
        if let Some(drop) = member.outbox.take_drop() {
            return Some(Stop::Drop(drop));
        }
        member.outbox.move_into(&mut member.work);
        while let Some(item) = member.work.take_overdue(now) {
            member.on_overdue(item, now);
        }
        if let Some(going) = &self.going_away
            && (now >= going.until || !member.work.is_on_the_way())
        {
            return Some(Stop::Broken(STREAM_ENDED));
        }
        while self.may_start()
            && let Some(item) = member.work.start(self.next_id, now)
        {
            self.ask_for(member, &item);
        }
        self.ask_missed(member, now);
        if now >= self.ping_at {
            self.request(0, request::Op::Ping(wire::Ping {}));
        }
        if self.unseen >= EVENTS_UNSEEN_MAX || self.seen_at.is_some_and(|at| now >= at) {
            (self.unseen, self.seen_at) = (0, None);
            self.write(client_frame::Kind::Seen(self.last_event));
        }
        None
    }

    /// When there is something to do even if nothing comes.
    fn next_look(&self, member: &Member) -> Instant {
        let ask_at = match self.asking {
            Asking::At(at) if self.may_start() => Some(at),
            _ => None,
        };
        let again = member.work.next_again().filter(|_| self.may_start());
        let going = self.going_away.as_ref().map(|going| going.until);
        let others = [ask_at, again, going, self.seen_at, member.work.next_overdue()];
        others.into_iter().flatten().fold(self.ping_at, Instant::min)
    }

    /// Whether new requests may go out.
    fn may_start(&self) -> bool {
        self.going_away.is_none() && self.out.len() < OUT_BYTES_MAX
    }

    fn ask_for(&mut self, member: &Member, item: &Item) {
        if let Kind::Message { client_id } = &item.kind {
            member.notes.record(|ledger| ledger.on_sent(member.number, client_id, &BODY));
        }
        let room = member.room.clone();
        let op = match item.kind {
            Kind::Message { client_id } => request::Op::Send(wire::Send {
                room,
                client_id: Bytes::copy_from_slice(&client_id),
                body: Bytes::from_static(&BODY),
                ..Default::default()
            }),
            Kind::Fetch if member.role.is_looked_at => {
                request::Op::History(wire::History { room, before: 0, limit: PAGE })
            }
            Kind::Fetch => {
                let after = member.heard.through().saturating_sub(PAGE.into());
                request::Op::Sync(wire::Sync { room, after, limit: PAGE })
            }
        };
        self.request(DEADLINE.as_millis() as u32, op);
    }

    /// Asks for what was missed, if it was.
    fn ask_missed(&mut self, member: &Member, now: Instant) {
        let is_time = match self.asking {
            Asking::No => member.is_behind,
            Asking::Now(_) => false,
            Asking::At(at) => now >= at,
        };
        if is_time && self.may_start() {
            self.asking = Asking::Now(self.next_id);
            let after = member.heard.through();
            let op = wire::Sync { room: member.room.clone(), after, limit: PAGE_BEHIND };
            self.request(0, request::Op::Sync(op));
        }
    }

    fn request(&mut self, deadline_ms: u32, op: request::Op) {
        let id = self.next_id;
        self.next_id += 1;
        self.write(client_frame::Kind::Request(wire::Request { id, deadline_ms, op: Some(op) }));
    }

    fn write(&mut self, kind: client_frame::Kind) {
        self.ping_at = Instant::now() + self.ping_interval;
        encode(&wire::ClientFrame { kind: Some(kind) }, &mut self.out);
    }

    fn hear_all(&mut self, member: &mut Member, recv: &mut FrameReader) -> Result<(), &'static str> {
        let now = Instant::now();
        while let Some(frame) = recv.ready::<wire::ServerFrame>().map_err(|error| error.name())? {
            match frame.kind {
                Some(server_frame::Kind::Answer(answer)) => self.on_answer(member, answer, now),
                Some(server_frame::Kind::Event(event)) => self.on_event(member, event, now),
                Some(server_frame::Kind::GoAway(said)) => self.going_away = Some(GoingAway::new(&said, now)),
                // A frame kind from the future, or one that has no place here.
                _ => {}
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, member: &mut Member, answer: wire::Answer, now: Instant) {
        let Some(result) = answer.result else { return };
        // What they tell counts also when nobody waits for it any more.
        match &result {
            answer::Result::Pong(pong) => member.phone.take_passes(pong.passes.as_ref()),
            answer::Result::Batch(batch) => {
                batch.messages.iter().for_each(|message| member.on_fetched(message))
            }
            answer::Result::Receipt(receipt) => {
                member.on_number(receipt.seq);
            }
            _ => {}
        }
        if self.asking == Asking::Now(answer.id) {
            self.on_missed(member, &result, now);
        } else if let Some(item) = member.work.on_answer(answer.id) {
            match result {
                answer::Result::Receipt(receipt) => member.on_stored(&item, receipt.seq, now),
                answer::Result::Batch(_) => {
                    let done = Outcome::Done(now.saturating_duration_since(item.due));
                    member.on_ended(&item, done);
                }
                answer::Result::Refusal(refusal) => member.on_turned_away(item, &refusal, now),
                _ => member.on_ended(&item, Outcome::Failed("wrong_answer")),
            }
        }
    }

    fn on_missed(&mut self, member: &mut Member, result: &answer::Result, now: Instant) {
        self.asking = Asking::No;
        match result {
            answer::Result::Batch(batch) => member.is_behind = batch.more,
            answer::Result::Refusal(refusal) => {
                let wait = Duration::from_millis(refusal.retry_after_ms.into());
                self.asking = Asking::At(now + wait.max(BEHIND_AGAIN));
            }
            _ => member.is_behind = false,
        }
    }

    fn on_event(&mut self, member: &mut Member, event: wire::Event, now: Instant) {
        self.last_event = event.no;
        self.unseen += 1;
        self.seen_at = Some(now + EVENTS_QUIET);
        match event.kind {
            Some(event::Kind::Delivery(delivery)) => {
                if let Some(message) = &delivery.message {
                    member.on_delivery(message);
                }
            }
            Some(event::Kind::Behind(_)) => member.on_behind(),
            Some(event::Kind::Posture(changed)) => {
                self.on_ping_interval(changed.advice.as_ref(), changed.ping_interval_ms);
            }
            _ => {}
        }
    }

    /// The newest advice holds; an older server sends the interval alone.
    fn on_ping_interval(&mut self, advice: Option<&wire::Advice>, otherwise_ms: u32) {
        let interval_ms = advice.map_or(otherwise_ms, |advice| advice.ping_interval_ms);
        self.ping_interval = Duration::from_millis(interval_ms.into()).max(PING_INTERVAL_MIN);
        self.ping_at = self.ping_at.min(Instant::now() + self.ping_interval);
    }
}
