//! One session while it lasts: a single task that feeds what happens to the pure parts and does what they decide.
//!
//! Nothing is spawned for a message, and everything that can be written is written at once. The loop never waits for the
//! app: what the app does not take stays in the server's log.

mod advice;
mod calls;
mod end;
mod events;
mod log;
mod sends;
mod watch;
mod words;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::frame::encode;
use buslane_shared::id::RoomId;
use buslane_shared::wire::{self, answer, client_frame, request::Op, server_frame};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::bulk::BulkLane;
use crate::conditions::Conditions;
use crate::core::{Call, Core};
use crate::error::{Error, Refused};
use crate::inbox::Inbox;
use crate::marks::Mark;
use crate::options::AppState;
use crate::session::{Session, ended, write_error};
use crate::types::Event;

use calls::CALLS_MAX;
use end::{FAREWELL, MOVE_LIMIT};
use log::{Fetched, Listing};
use watch::{LATE, TICK};
use words::SEEN_DELAY;

pub(crate) use end::{End, Outcome};

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
}
