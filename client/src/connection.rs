//! One session while it lasts: a single task that feeds what happens to the pure parts and does what they decide.
//!
//! Nothing is spawned for a message, and everything that can be written is written at once. The loop never waits for the
//! app: what the app does not take stays in the server's log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::backoff::{Policy, wait_after};
use buslane_shared::frame::encode;
use buslane_shared::id::RoomId;
use buslane_shared::limits::{BATCH_MESSAGES_DEFAULT, PAGE_MAX};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer, client_frame, event, request::Op, server_frame};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use crate::bulk::BulkLane;
use crate::conditions::Conditions;
use crate::core::{Call, Core, Road};
use crate::error::{Error, Refused, millis};
use crate::inbox::Inbox;
use crate::marks::{self, Mark};
use crate::options::AppState;
use crate::outbox::SendState;
use crate::pending::AfterRefusal;
use crate::session::{Session, ended, refused_by, write_error};
use crate::state::Happening;
use crate::types::{Content, Event, Message, Page, Receipt, Role, Room, id};

/// Bytes encoded and not written: some flights of messages. Beyond it nothing more is taken out of the outbox.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// The app's requests without an answer on one connection: well under the server's limit, so that sends always have room.
const CALLS_MAX: usize = 64;

/// Events taken over before the server is told at once; below it the word waits for company.
const SEEN_AT_ONCE: u64 = 32;

/// How long the word about fewer events waits.
const SEEN_DELAY: Duration = Duration::from_millis(200);

/// How often a connection is looked at while an answer is awaited.
const TICK: Duration = Duration::from_secs(1);

/// Waits of a message that the server refuses for a time without naming one.
const SEND_RETRY: Policy = Policy {
    base: Duration::from_millis(500),
    cap: Duration::from_secs(60),
    quick: Duration::from_millis(500),
    settle: Duration::from_secs(5),
};

/// Beyond the deadline that the server was given, an answer that is this late is not awaited any more.
const LATE: Duration = Duration::from_secs(5);

/// How long a client that is closed waits for the answers that are on their way.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a session that moves to another connection waits for the answers that are on their way. What has none then is asked
/// again on the new one.
const MOVE_LIMIT: Duration = Duration::from_millis(300);

/// What a request on the talk stream is for.
#[derive(Debug)]
enum Purpose {
    Send { ordinal: u64 },
    Call(Call),
    Mark(Vec<(RoomId, Mark)>),
    AppState,
    Ping,
}

#[derive(Debug)]
struct Awaited {
    purpose: Purpose,
    until: Instant,
}

/// An answer from the log.
enum Fetched {
    Page(RoomId, Result<answer::Result, Error>),
    Rooms(Result<answer::Result, Error>),
}

/// How far the comparison of cursors with the room list is.
#[derive(Debug, PartialEq, Eq)]
enum Listing {
    Done,
    /// The next page begins after this room.
    Next(Bytes),
    Asked,
}

/// Why a session ended, and what the server said about coming back.
#[derive(Debug)]
pub(crate) struct End {
    pub cause: Error,
    pub retry_after: Option<Duration>,
    /// The server said that coming back is of no use.
    pub for_good: bool,
}

/// What is left of a session when its connection ends.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub end: End,
    /// The last event that was taken over.
    pub seen: u64,
    /// The connection on which the session goes on.
    pub moved: Option<quinn::Connection>,
}

/// What a connection begins with.
pub(crate) struct Terms<'a> {
    /// What the server was told of the app.
    pub app_state: AppState,
    /// The last event of the session that is continued, 0 otherwise.
    pub seen: u64,
    /// The name in the server's certificate.
    pub server: &'a str,
    /// Connections to the foreground port, for the session to move to.
    pub arrivals: mpsc::Receiver<quinn::Connection>,
}

impl End {
    fn lost(cause: Error) -> Self {
        let retry_after = cause.retry_after();
        Self { cause, retry_after, for_good: false }
    }
}

enum Turn {
    Shutdown,
    Read(Result<bool, Error>),
    Wrote(Result<usize, quinn::WriteError>),
    Fetched(Fetched),
    Call(Option<Call>),
    Move(quinn::Connection),
    Look,
}

/// Runs one session.
pub(crate) struct Connection<'a> {
    core: &'a Arc<Core>,
    inbox: &'a mut Inbox,
    calls: &'a mut mpsc::Receiver<Call>,
    carried: &'a mut VecDeque<Call>,
    session: Session,
    table: HashMap<u64, Awaited>,
    calls_flying: usize,
    out: BytesMut,
    in_flight_max: usize,
    heal: Option<BulkLane>,
    bulk: Option<BulkLane>,
    fetches: FuturesUnordered<BoxFuture<'static, Fetched>>,
    listing: Listing,
    /// The log is not asked before this.
    fetch_after: Instant,
    /// A state "caught up" is owed.
    resyncing: bool,
    /// What the server kept for this session is still coming.
    replaying: bool,
    /// Events up to here were taken over, and told.
    seen: u64,
    seen_told: u64,
    seen_since: Option<Instant>,
    told_app_state: AppState,
    ping_interval: Duration,
    wrote_at: Instant,
    /// Datagrams that had come when the path was last known to be alive.
    datagrams: u64,
    heard_at: Instant,
    next_tick: Option<Instant>,
    leaving: Option<(Instant, End)>,
    server: &'a str,
    arrivals: mpsc::Receiver<quinn::Connection>,
    moved: Option<quinn::Connection>,
    closing: bool,
    scratch: Vec<Event>,
}

impl<'a> Connection<'a> {
    /// Of a fresh session.
    pub fn new(
        core: &'a Arc<Core>,
        inbox: &'a mut Inbox,
        calls: &'a mut mpsc::Receiver<Call>,
        carried: &'a mut VecDeque<Call>,
        session: Session,
        terms: Terms<'a>,
    ) -> Self {
        let now = Instant::now();
        let Terms { app_state, seen, server, arrivals } = terms;
        let limits = session.welcome.limits.unwrap_or_default();
        let server_max = if limits.in_flight == 0 { usize::MAX } else { limits.in_flight as usize };
        let lanes = limits.bulk_streams >= 2;
        let lane = || lanes.then(|| BulkLane::open(session.connection.clone()));
        let resumed = session.welcome.resumed;
        core.dropped_calls.lock().clear();
        Self {
            heal: lane(),
            bulk: lane(),
            ping_interval: core.options.ping_interval_max,
            core,
            inbox,
            calls,
            carried,
            table: HashMap::new(),
            calls_flying: 0,
            out: BytesMut::new(),
            // Requests of the app, marks and pings have their share.
            in_flight_max: server_max.saturating_sub(CALLS_MAX / 2).max(1),
            fetches: FuturesUnordered::new(),
            listing: if resumed { Listing::Done } else { Listing::Next(Bytes::new()) },
            fetch_after: now,
            resyncing: !resumed,
            replaying: resumed,
            seen,
            seen_told: seen,
            seen_since: None,
            told_app_state: app_state,
            wrote_at: now,
            datagrams: 0,
            heard_at: now,
            next_tick: None,
            leaving: None,
            server,
            arrivals,
            moved: None,
            closing: false,
            scratch: Vec::new(),
            session,
        }
    }

    /// Runs until the session ends here.
    pub async fn run(mut self) -> Outcome {
        let welcome = &self.session.welcome;
        let conditions = match welcome.advice.clone() {
            Some(advice) => Conditions::of(advice),
            None => Conditions::plain(welcome.posture(), welcome.ping_interval_ms),
        };
        let passes = welcome.passes.clone();
        self.on_conditions(conditions);
        self.take_passes(passes);
        if self.session.welcome.resumed {
            // Its answer comes behind everything that the server had kept.
            self.ask_server(Op::Ping(wire::Ping {}), Purpose::Ping);
        }
        let end = loop {
            match self.turn().await {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        let (seen, moved) = (self.seen, self.moved.take());
        self.wind_up(end.for_good).await;
        Outcome { end, seen, moved }
    }

    async fn turn(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.look(now)?;
        let wake_at = self.next_wake(now).into();
        let turn = tokio::select! {
            () = self.core.shutdown.cancelled(), if !self.closing => Turn::Shutdown,
            read = self.session.recv.fill() => Turn::Read(read),
            wrote = self.session.send.write(&self.out), if !self.out.is_empty() => Turn::Wrote(wrote),
            Some(fetched) = self.fetches.next(), if !self.fetches.is_empty() => Turn::Fetched(fetched),
            call = self.calls.recv(), if self.calls_flying < CALLS_MAX && self.leaving.is_none() => Turn::Call(call),
            Some(there) = self.arrivals.recv(), if self.leaving.is_none() => Turn::Move(there),
            () = self.core.wake.notified() => Turn::Look,
            () = tokio::time::sleep_until(wake_at) => Turn::Look,
        };
        match turn {
            Turn::Shutdown | Turn::Call(None) => {
                self.closing = true;
                self.core.marks.lock().hasten();
                self.leaving = Some((now + FAREWELL, End { for_good: true, ..End::lost(Error::Closed) }));
                Ok(())
            }
            Turn::Read(Ok(true)) => self.on_frames(),
            Turn::Read(Ok(false)) => Err(End::lost(ended(&self.session.connection))),
            Turn::Read(Err(error)) => Err(End::lost(error)),
            Turn::Wrote(Ok(count)) => {
                self.out.advance(count);
                if self.out.is_empty() {
                    // An idle connection keeps no buffer.
                    self.out = BytesMut::new();
                }
                Ok(())
            }
            Turn::Wrote(Err(error)) => Err(End::lost(write_error(error))),
            Turn::Fetched(fetched) => {
                self.on_fetched(fetched);
                Ok(())
            }
            Turn::Call(Some(call)) => {
                self.start_call(call);
                Ok(())
            }
            Turn::Move(there) => {
                tracing::debug!("the session moves to the foreground port");
                self.moved = Some(there);
                self.leaving = Some((now + MOVE_LIMIT, End::lost(Error::Interrupted)));
                Ok(())
            }
            Turn::Look => Ok(()),
        }
    }

    // ---- what goes out ----

    /// Looks at everything that may have to be done now.
    fn look(&mut self, now: Instant) -> Result<(), End> {
        self.tick(now)?;
        self.cancel_dropped();
        self.restart_carried();
        self.tell_app_state();
        self.tell_marks(now);
        if let Some((until, _)) = &self.leaving
            && ((self.table.is_empty() && self.out.is_empty()) || now >= *until)
            && let Some((_, end)) = self.leaving.take()
        {
            return Err(end);
        }
        if self.leaving.is_none() {
            self.send_from_outbox(now);
            self.fetch(now);
        }
        self.tell_seen(now);
        if now >= self.wrote_at + self.ping_interval {
            self.ask_server(Op::Ping(wire::Ping {}), Purpose::Ping);
        }
        self.judge_caught_up();
        Ok(())
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let leaving = self.leaving.as_ref().map(|(until, _)| *until);
        // What could be sent waits for room to write, not for a time.
        let outbox = self.core.outbox.lock().next_wake();
        let seen = self.seen_since.map(|since| since + SEEN_DELAY);
        let marks = self.core.marks.lock().due_at();
        let inbox = if self.core.events.is_ample() { self.inbox.next_wake() } else { None };
        let fetch = (self.fetch_after > now && (self.listing != Listing::Done || !self.inbox.is_caught_up()))
            .then_some(self.fetch_after);
        let inbox = inbox.map(|at| at.max(self.fetch_after));
        [Some(self.wrote_at + self.ping_interval), fetch, self.next_tick, leaving, outbox, seen, marks, inbox]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + TICK)
    }

    fn write(&mut self, kind: client_frame::Kind) {
        encode(&wire::ClientFrame { kind: Some(kind) }, &mut self.out);
        self.wrote_at = Instant::now();
    }

    /// Writes a request on the talk stream and remembers what it is for.
    fn ask_server(&mut self, op: Op, purpose: Purpose) {
        let (id, deadline) = match &purpose {
            Purpose::Call(call) => (call.id, Duration::from_millis(u64::from(call.deadline_ms))),
            _ => (self.core.id(), self.core.options.request_timeout),
        };
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.write(client_frame::Kind::Request(wire::Request { id, deadline_ms, op: Some(op) }));
        if self.table.is_empty() {
            self.heard_at = self.wrote_at;
            self.next_tick.get_or_insert(self.wrote_at + self.tick_interval());
        }
        self.table.insert(id, Awaited { purpose, until: self.wrote_at + deadline + LATE });
    }

    fn send_from_outbox(&mut self, now: Instant) {
        // One lock for a whole flight.
        let core = self.core;
        let mut outbox = core.outbox.lock();
        while self.out.len() < OUT_BYTES_MAX && outbox.in_flight() < self.in_flight_max {
            let Some((ordinal, send)) = outbox.next(now) else { break };
            self.ask_server(Op::Send(send), Purpose::Send { ordinal });
        }
    }

    fn start_call(&mut self, call: Call) {
        if call.reply.is_closed() {
            return;
        }
        let call = match (&self.bulk, call.road) {
            (Some(lane), Road::Bulk) => match lane.put(call) {
                None => return,
                Some(call) => call,
            },
            _ => call,
        };
        self.calls_flying += 1;
        self.ask_server(call.op.clone(), Purpose::Call(call));
    }

    fn restart_carried(&mut self) {
        while self.calls_flying < CALLS_MAX
            && self.leaving.is_none()
            && let Some(call) = self.carried.pop_front()
        {
            self.start_call(call);
        }
    }

    fn cancel_dropped(&mut self) {
        let dropped = std::mem::take(&mut *self.core.dropped_calls.lock());
        for id in dropped {
            if matches!(self.table.get(&id), Some(Awaited { purpose: Purpose::Call(_), .. })) {
                self.table.remove(&id);
                self.calls_flying = self.calls_flying.saturating_sub(1);
                self.write(client_frame::Kind::Cancel(id));
            }
        }
    }

    fn tell_app_state(&mut self) {
        let state = *self.core.app_state.lock();
        if state != self.told_app_state {
            self.told_app_state = state;
            let op = Op::SetAppState(wire::SetAppState { state: wire::AppState::from(state).into() });
            self.ask_server(op, Purpose::AppState);
        }
    }

    fn tell_marks(&mut self, now: Instant) {
        let batch = self.core.marks.lock().take(now);
        if !batch.is_empty() {
            self.ask_server(marks::request(&batch), Purpose::Mark(batch));
        }
    }

    /// Events are taken over as soon as they are here: what does not reach the app from here does so from the log.
    fn tell_seen(&mut self, now: Instant) {
        if self.seen == self.seen_told {
            return;
        }
        let waited = now >= *self.seen_since.get_or_insert(now) + SEEN_DELAY;
        if waited || self.seen - self.seen_told >= SEEN_AT_ONCE || !self.out.is_empty() {
            self.seen_told = self.seen;
            self.seen_since = None;
            let kind = client_frame::Kind::Seen(self.seen);
            encode(&wire::ClientFrame { kind: Some(kind) }, &mut self.out);
        }
    }

    // ---- what comes in ----

    fn on_frames(&mut self) -> Result<(), End> {
        loop {
            let frame = self.session.recv.ready::<wire::ServerFrame>().map_err(End::lost)?;
            let Some(frame) = frame else { break };
            match frame.kind {
                Some(server_frame::Kind::Answer(answer)) => self.on_answer(answer),
                Some(server_frame::Kind::Event(event)) => self.on_event(event).map_err(End::lost)?,
                Some(server_frame::Kind::GoAway(go_away)) => self.on_go_away(&go_away)?,
                Some(server_frame::Kind::Refusal(refusal)) => {
                    return Err(End::lost(Refused::from(refusal).into()));
                }
                // A second welcome, or a frame kind from the future.
                Some(server_frame::Kind::Welcome(_)) | None => {}
            }
        }
        self.core.events.put_messages(&mut self.scratch);
        Ok(())
    }

    fn on_answer(&mut self, answer: wire::Answer) {
        // An answer that was not awaited any more is of no interest.
        let Some(awaited) = self.table.remove(&answer.id) else { return };
        match awaited.purpose {
            Purpose::Send { ordinal } => self.on_send_answer(ordinal, answer.result),
            Purpose::Call(call) => {
                self.calls_flying = self.calls_flying.saturating_sub(1);
                let _ = call.reply.send(crate::session::answered(answer));
            }
            Purpose::Mark(batch) => {
                if let Some(answer::Result::Refusal(refusal)) = answer.result {
                    self.on_mark_refused(batch, &refusal);
                }
            }
            Purpose::AppState => {}
            Purpose::Ping => {
                // Everything that the server had kept stands before its answer to the first ping.
                self.replaying = false;
                if let Some(answer::Result::Pong(pong)) = answer.result {
                    self.on_pong(&pong);
                    self.take_passes(pong.passes);
                }
            }
        }
    }

    /// A batch is taken whole or not at all: one room that is closed to the user must not hold up the others.
    fn on_mark_refused(&mut self, mut batch: Vec<(RoomId, Mark)>, refusal: &wire::Refusal) {
        if refusal.retryable {
            self.put_marks_back(&batch);
            if let Some(wait) = millis(refusal.retry_after_ms) {
                self.core.marks.lock().hold_until(Instant::now() + wait);
            }
        } else if batch.len() > 1 {
            let half = batch.split_off(batch.len() / 2);
            for part in [batch, half] {
                self.ask_server(marks::request(&part), Purpose::Mark(part));
            }
        }
    }

    fn on_send_answer(&mut self, ordinal: u64, result: Option<answer::Result>) {
        match result {
            Some(answer::Result::Receipt(receipt)) => self.on_receipt(ordinal, &receipt),
            Some(answer::Result::Refusal(refusal)) => self.on_send_refused(ordinal, &refusal.into()),
            _ => {
                self.on_send_refused(ordinal, &Refused { maybe_applied: true, ..Refused::of(Code::Internal) })
            }
        }
    }

    fn on_receipt(&mut self, ordinal: u64, receipt: &wire::Receipt) {
        let Some(done) = self.core.outbox.lock().sent(ordinal) else { return };
        self.core.store.forget_send(ordinal);
        let told = Receipt {
            room: done.room,
            seq: receipt.seq,
            client_id: done.client_id,
            sent_at_ms: receipt.sent_at_ms,
            duplicate: receipt.duplicate,
        };
        if let Some(reply) = done.reply {
            let _ = reply.send(Ok(told));
        }
        self.core.sent.lock().on_sent(done.room, receipt.seq, done.client_id);
        self.core.on_send_state(done.client_id, done.room, SendState::Sent { seq: receipt.seq });
        // The server does not deliver it to the device that sent it, so its place in the room is filled from here.
        let own = Message {
            room: done.room,
            seq: receipt.seq,
            sender: self.core.options.user.clone(),
            client_id: done.client_id,
            sent_at_ms: receipt.sent_at_ms,
            mentions: done.send.mentions,
            content: Content::Body(done.send.body),
            notify: false,
        };
        let space = self.core.events.space();
        self.inbox.on_message(own, space, Instant::now(), &mut self.scratch);
        self.core.events.put_messages(&mut self.scratch);
    }

    fn on_send_refused(&mut self, ordinal: u64, refused: &Refused) {
        let (after, reply, entry) = {
            let mut outbox = self.core.outbox.lock();
            let wait = wait_after(&SEND_RETRY, outbox.refusals(ordinal), refused.retry_after, rand::random());
            let after = outbox.refused(ordinal, refused, wait, Instant::now());
            let reply = if after == AfterRefusal::Failed { outbox.take_reply(ordinal) } else { None };
            (after, reply, outbox.entry(ordinal).map(|(room, id, send)| (room, id, send.clone())))
        };
        let Some((room, client_id, send)) = entry else { return };
        tracing::debug!(%room, %client_id, code = refused.code.name(), ?after, "a message was refused");
        let state = match after {
            AfterRefusal::Failed => {
                self.core.store.keep_send(ordinal, &send, Some(refused));
                SendState::Failed { reason: refused.clone() }
            }
            AfterRefusal::Again => SendState::Pending,
            AfterRefusal::Unknown => return,
        };
        self.core.on_send_state(client_id, room, state);
        if let Some(reply) = reply {
            let _ = reply.send(Err(refused.clone().into()));
        }
    }

    fn on_event(&mut self, event: wire::Event) -> Result<(), Error> {
        if event.no <= self.seen {
            return Ok(());
        }
        self.seen = event.no;
        match event.kind {
            Some(event::Kind::Delivery(delivery)) => {
                if let Some(message) = delivery.message {
                    let message = Message { notify: delivery.notify, ..Message::try_from(message)? };
                    let space = self.core.events.space();
                    self.inbox.on_message(message, space, Instant::now(), &mut self.scratch);
                    self.core.events.put_messages(&mut self.scratch);
                }
            }
            Some(event::Kind::Cursor(moved)) => self.on_cursor(moved)?,
            Some(event::Kind::Room(changed)) => {
                let role = changed.role();
                self.core.events.put_news(Event::RoomChanged {
                    room: id(RoomId::try_from(&changed.room))?,
                    role: (role != Role::Unspecified).then_some(role),
                });
            }
            Some(event::Kind::Behind(_)) => {
                tracing::info!("the server dropped events; comparing with the room list");
                self.listing = Listing::Next(Bytes::new());
                self.resyncing = true;
            }
            Some(event::Kind::Posture(changed)) => {
                let posture = changed.posture();
                self.on_conditions(match changed.advice {
                    Some(advice) => Conditions::of(advice),
                    None => Conditions::plain(posture, changed.ping_interval_ms),
                });
            }
            None => {}
        }
        Ok(())
    }

    fn on_cursor(&mut self, moved: wire::CursorMoved) -> Result<(), Error> {
        let room = id(RoomId::try_from(&moved.room))?;
        let user = id(moved.user.parse())?;
        if user != self.core.options.user {
            let news = self.core.sent.lock().on_cursor(room, moved.delivered, moved.read);
            for (client_id, state) in news {
                self.core.on_send_state(client_id, room, state);
            }
        }
        let (delivered, read) = (moved.delivered, moved.read);
        self.core.events.put_news(Event::Cursor { room, user, delivered, read });
        Ok(())
    }

    fn on_go_away(&mut self, go_away: &wire::GoAway) -> Result<(), End> {
        let end = End {
            cause: refused_by(go_away).into(),
            retry_after: millis(go_away.retry_after_ms),
            for_good: !go_away.reconnect,
        };
        if go_away.within_ms == 0 || !go_away.reconnect {
            return Err(end);
        }
        // What is on its way is finished; nothing new is begun.
        let until = Instant::now() + Duration::from_millis(u64::from(go_away.within_ms));
        self.leaving = Some((until, end));
        Ok(())
    }

    // ---- the log ----

    /// Asks the log for what is missing, as far as the app takes it.
    fn fetch(&mut self, now: Instant) {
        if now < self.fetch_after {
            return;
        }
        if let Listing::Next(after) = &self.listing {
            let op = Op::ListRooms(wire::ListRooms { after: after.clone(), limit: PAGE_MAX });
            self.listing = Listing::Asked;
            self.ask_log(op, Fetched::Rooms);
        }
        while self.core.events.is_ample()
            && let Some((room, after)) = self.inbox.next_ask(now)
        {
            let op = Op::Sync(wire::Sync { room: room.to_wire(), after, limit: BATCH_MESSAGES_DEFAULT });
            self.ask_log(op, move |answer| Fetched::Page(room, answer));
        }
    }

    fn ask_log(
        &mut self,
        op: Op,
        fetched: impl FnOnce(Result<answer::Result, Error>) -> Fetched + Send + 'static,
    ) {
        let (reply, wait) = oneshot::channel();
        let limit = self.core.options.request_timeout;
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let call = Call { id: self.core.id(), op, road: Road::Bulk, deadline_ms, reply };
        let refused = match &self.heal {
            Some(lane) => lane.put(call),
            None => Some(call),
        };
        if let Some(call) = refused {
            self.calls_flying += 1;
            self.ask_server(call.op.clone(), Purpose::Call(call));
        }
        self.fetches.push(Box::pin(async move {
            let answer = tokio::time::timeout(limit + LATE, wait).await;
            fetched(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(Error::Interrupted),
                Err(_) => Err(Error::Timeout { after: limit }),
            })
        }));
    }

    fn on_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Page(room, Ok(answer::Result::Batch(batch))) => match Page::try_from(batch) {
                Ok(page) => {
                    let space = self.core.events.space();
                    self.inbox.on_page(room, page, space, Instant::now(), &mut self.scratch);
                    self.core.events.put_messages(&mut self.scratch);
                }
                Err(error) => self.on_room_unreadable(room, &error),
            },
            Fetched::Page(room, Err(error)) if error.retryable() => {
                tracing::debug!(%room, %error, "the log will be asked again");
                self.inbox.on_ask_failed(room);
                self.pause_fetches(&error);
            }
            Fetched::Page(room, Err(error)) => self.on_room_unreadable(room, &error),
            Fetched::Page(room, Ok(_)) => self.on_room_unreadable(room, &Error::protocol("not a batch")),
            Fetched::Rooms(Ok(answer::Result::Rooms(list))) => self.on_rooms(list),
            Fetched::Rooms(other) => {
                let error = other.err().unwrap_or_else(|| Error::protocol("not a room list"));
                tracing::debug!(%error, "the room list will be asked for again");
                self.listing = Listing::Next(Bytes::new());
                self.pause_fetches(&error);
            }
        }
    }

    /// A log that could not be read is left alone for a moment, or for as long as the server says.
    fn pause_fetches(&mut self, error: &Error) {
        self.fetch_after = Instant::now() + error.retry_after().unwrap_or(TICK);
    }

    fn on_room_unreadable(&mut self, room: RoomId, error: &Error) {
        tracing::debug!(%room, %error, "the room is not readable");
        self.inbox.on_shut_out(room);
    }

    fn on_rooms(&mut self, list: wire::RoomList) {
        let last = list.rooms.last().map(|r| r.room.clone());
        for info in list.rooms {
            match Room::try_from(info) {
                Ok(room) if room.role == Role::Invited => {}
                Ok(room) => {
                    if let Some(cursor) = self.inbox.on_head(room.id, room.head) {
                        self.core.store.keep_cursor(room.id, cursor);
                    }
                }
                Err(error) => tracing::warn!(%error, "a room of the list was skipped"),
            }
        }
        self.listing = match last {
            Some(last) if list.more => Listing::Next(last),
            _ => {
                if self.inbox.on_rooms_listed() {
                    self.core.store.keep_seen_rooms();
                }
                Listing::Done
            }
        };
    }

    fn judge_caught_up(&mut self) {
        let caught_up = self.listing == Listing::Done && self.inbox.is_caught_up() && !self.replaying;
        self.core.caught_up.send_if_modified(|known| std::mem::replace(known, caught_up) != caught_up);
        if caught_up && std::mem::take(&mut self.resyncing) {
            self.core.happen(Happening::CaughtUp);
            self.core.events.put_news(Event::CaughtUp);
        }
    }

    // ---- time ----

    fn on_conditions(&mut self, conditions: Conditions) {
        if let Some(asked) = conditions.ping_interval {
            self.ping_interval = asked.min(self.core.options.ping_interval_max);
        }
        self.core.on_conditions(conditions);
    }

    /// An answer to a ping names the posture alone. The event says more; should it have been dropped, this is enough to go
    /// back to what is usual.
    fn on_pong(&mut self, pong: &wire::Pong) {
        let known = self.core.conditions.borrow().clone();
        if pong.posture() != known.posture {
            let usual = pong.posture() == wire::Posture::Normal;
            let heard = Conditions { posture: pong.posture(), ..known };
            self.on_conditions(if usual { heard.relaxed() } else { heard });
        }
    }

    fn take_passes(&self, passes: Option<wire::Passes>) {
        if let Some(passes) = passes {
            self.core.passes.lock().take_in(&passes, Some(self.server), Instant::now());
        }
    }

    fn tick_interval(&self) -> Duration {
        TICK.min(self.core.options.silence_limit / 4)
    }

    /// While an answer is awaited: is the path alive, is an answer overdue?
    fn tick(&mut self, now: Instant) -> Result<(), End> {
        if self.next_tick.is_none_or(|at| at > now) {
            return Ok(());
        }
        let datagrams = self.session.connection.stats().udp_rx.datagrams;
        if datagrams != self.datagrams {
            self.datagrams = datagrams;
            self.heard_at = now;
        }
        self.give_up_overdue(now);
        self.next_tick = (!self.table.is_empty()).then(|| now + self.tick_interval());
        if self.next_tick.is_some() && now >= self.heard_at + self.core.options.silence_limit {
            return Err(End::lost(Error::unreachable("the network carries nothing any more")));
        }
        Ok(())
    }

    /// The server answers everything within its deadline. Should it not, a message goes again, and an app has given up.
    fn give_up_overdue(&mut self, now: Instant) {
        let overdue: Vec<u64> =
            self.table.iter().filter(|(_, a)| now >= a.until).map(|(id, _)| *id).collect();
        for id in overdue {
            let refused = Refused { maybe_applied: true, ..Refused::of(Code::Deadline) };
            let result = Some(answer::Result::Refusal(wire::Refusal {
                code: refused.code.into(),
                retryable: true,
                detail: refused.detail,
                maybe_applied: true,
                ..wire::Refusal::default()
            }));
            self.on_answer(wire::Answer { id, result });
        }
    }

    // ---- the end ----

    fn put_marks_back(&self, batch: &[(RoomId, Mark)]) {
        for (room, mark) in batch {
            self.core.mark(*room, *mark);
        }
    }

    /// Closes the connection and leaves everything as the next one needs it.
    async fn wind_up(mut self, for_good: bool) {
        self.core.events.put_messages(&mut self.scratch);
        if for_good {
            self.session.close();
        } else {
            // Not a goodbye: should this arrive after all, the server is to keep the session.
            self.session.connection.close(0u32.into(), b"");
        }
        tracing::debug!(duplicates = self.inbox.duplicates(), seen = self.seen, "session has ended");
        self.core.caught_up.send_replace(false);
        let mut open = Vec::new();
        for lane in [self.bulk.take(), self.heal.take()].into_iter().flatten() {
            open.extend(lane.close().await);
        }
        for (_, awaited) in std::mem::take(&mut self.table) {
            match awaited.purpose {
                Purpose::Call(call) => open.push(call),
                Purpose::Mark(batch) => self.put_marks_back(&batch),
                Purpose::Send { .. } | Purpose::AppState | Purpose::Ping => {}
            }
        }
        // The fetches of this session are not carried over: the inbox knows what is missing.
        drop(std::mem::take(&mut self.fetches));
        for call in open {
            if call.reply.is_closed() {
                continue;
            }
            if call.is_repeatable() {
                self.carried.push_back(call);
            } else {
                let _ = call.reply.send(Err(Error::Interrupted));
            }
        }
        self.core.outbox.lock().rewind();
        self.inbox.on_disconnect();
    }
}
