//! The life of a connection that has a session: one task that reads, relays, delivers and writes.
//!
//! Why it exists: half a million of these share a node, so an idle one is a few small fields and one timer, and a busy one
//! does everything that is due in one wake-up and writes it in one go. The order in a wake-up: what waits in the mailbox,
//! what the client says, what the backend answers, then one write. Where the client takes nothing, nothing more is taken
//! for it; where too much is under way for it, nothing more is read from it. It must never wait for one of these while
//! another could go on, and never outlive its limits.

mod end;
mod residence;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buslane_chassis::trace::Lead;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, client_frame, server_frame};
use quinn::Connection;
use tokio::time::{Instant, Sleep};

use crate::bulk::BulkStreams;
use crate::desk::Gone;
use crate::errands::Work;
use crate::flights::{By, Landed};
use crate::goodbye;
use crate::news;
use crate::node::Port;
use crate::outbound::{OUT_BYTES_MAX, Outbound};
use crate::presence::{Farewell, Hold};
use crate::request::{Plan, plan};
use crate::talk::{Heard, Talk};

pub(crate) use self::end::End;
use self::residence::Residence;

/// Rounds of work in one wake-up before other tasks have their turn. A round may read a whole window.
const ROUNDS_MAX: usize = 4;

/// Frames taken in one round: as many as may be in flight, so that one client's burst is one write.
const FRAMES_PER_ROUND: usize = 256;

/// Frames of a round that are taken although a refusal among them has the session left unread: what lay unread is answered in one go,
/// and a ping does not wait behind each refusal.
const FRAMES_AT_ONCE: usize = 8;

/// How long requests of a new session wait until the backend knows of it. A list of rooms that was made before would hide
/// what was committed between it and the first delivery. It takes a round trip; when the link is down, nobody waits for
/// longer than this, and the session is told that it is behind as soon as the link is back.
const REGISTRATION_LIMIT: Duration = Duration::from_millis(500);

/// A connection with a session.
pub(crate) struct Session {
    connection: Connection,
    residence: Residence,
    talk: Talk,
    out: Outbound,
    work: Work,
    bulk: BulkStreams,
    /// When the client was last heard, or last had an answer.
    heard: Instant,
    client_finished: bool,
    /// Until when it is left unread, because it was refused so often lately.
    heard_again_at: Option<Instant>,
    /// Until when requests wait for the backend to know of the session. `None`: they wait no longer.
    register_by: Option<Instant>,
    /// When the session ends because the node is being stopped.
    leave_at: Option<Instant>,
    /// The trace of its login, to which the first request belongs that the backend is asked for.
    login: Lead,
    timer: Pin<Box<Sleep>>,
}

impl Session {
    /// A session whose hello was accepted; `out` holds the welcome.
    pub(crate) fn new(
        port: &Arc<Port>,
        connection: Connection,
        hold: Hold,
        talk: Talk,
        out: Outbound,
        login: Lead,
    ) -> Self {
        let now = Instant::now();
        let idle_at = now + port.node.config.times.idle_limit();
        Self {
            bulk: BulkStreams::new(port, &connection, &hold.presence),
            residence: Residence::new(port, hold),
            connection,
            talk,
            out,
            work: Work::new(&port.node, port.desk.as_ref()),
            heard: now,
            client_finished: false,
            heard_again_at: None,
            register_by: Some(now + REGISTRATION_LIMIT),
            leave_at: None,
            login,
            timer: Box::pin(tokio::time::sleep_until(idle_at)),
        }
    }

    /// Serves until the end of the connection.
    pub(crate) async fn run(mut self) {
        // The budget of the runtime must not come between the requests of a session: their order is the order of messages.
        // A wake-up is bounded by its own rounds.
        let end = tokio::task::unconstrained(poll_fn(|cx| self.poll(cx))).await;
        // Boxed, so that an idle session does not carry the memory of its end.
        Box::pin(self.part(end)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.work(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// One wake-up.
    fn work(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let now = Instant::now();
        for _ in 0..ROUNDS_MAX {
            let mut progress = self.deliver(cx, now)?;
            if self.register_by.is_none() {
                progress |= self.hear(cx, now)?;
                progress |= self.answer(cx, now)?;
                progress |= self.listen(cx, now)?;
            }
            let written = self.out.flush(cx, now)?;
            if written > 0 {
                self.meters().bytes_out.increment(written as u64);
                progress = true;
            }
            if !progress {
                return self.rest(cx, now);
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Takes what the client says.
    fn hear(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        let (mut frames, mut bytes) = (0, 0);
        if self.heard_again_at.is_some_and(|at| at <= now) {
            self.heard_again_at = None;
            // Whatever it has said meanwhile lies unread: until now it was we who did not listen.
            self.heard = now;
        }
        let was_left_alone = self.heard_again_at.is_some();
        while frames < FRAMES_PER_ROUND
            && !self.client_finished
            && (self.is_heard() || (!was_left_alone && frames < FRAMES_AT_ONCE && self.has_room()))
            && let Poll::Ready(heard) = self.talk.poll_next(cx)
        {
            match heard? {
                Heard::Frame(frame, len) => {
                    bytes += len as u64;
                    self.on_frame(frame, len, now)?;
                }
                Heard::End => self.client_finished = true,
            }
            frames += 1;
        }
        if !self.is_heard() {
            // It is we who do not read; the client may have sent the rest of its frame long ago.
            self.talk.pause();
        }
        if frames > 0 {
            self.heard = now;
            self.meters().bytes_in.increment(bytes);
        }
        Ok(frames > 0)
    }

    /// Whether more of what the client says is read now.
    fn is_heard(&self) -> bool {
        self.has_room() && self.heard_again_at.is_none()
    }

    /// Whether there is room for more of what the client says.
    fn has_room(&self) -> bool {
        self.out.has_room() && !self.work.is_heavy()
    }

    /// Sees to the bulk streams.
    fn listen(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        let progress = self.bulk.poll(cx)?;
        if progress {
            self.heard = now;
        }
        Ok(progress)
    }

    fn on_frame(&mut self, frame: wire::ClientFrame, len: usize, now: Instant) -> Result<(), End> {
        match frame.kind {
            Some(client_frame::Kind::Request(request)) => self.on_request(request, len, now),
            Some(client_frame::Kind::Cancel(id)) => {
                if let Some(landed) = self.work.cancel(id) {
                    self.on_landed(landed, now);
                }
            }
            Some(client_frame::Kind::Seen(upto)) => {
                let Residence { port, hold, .. } = &self.residence;
                hold.on_seen(upto);
                news::remind_late(&port.node.load, &hold.presence);
            }
            Some(client_frame::Kind::Hello(_)) => {
                return Err(End::told(Code::Malformed, "a session has one hello"));
            }
            // Of a later version.
            None => {}
        }
        Ok(())
    }

    fn on_request(&mut self, request: wire::Request, len: usize, now: Instant) {
        let Residence { port, hold, .. } = &self.residence;
        let plan = plan(port, &hold.presence, request, len, now, &mut self.login);
        self.heard_again_at = hold.presence.take_unread().map(|time| now + time).or(self.heard_again_at);
        match plan {
            Plan::Answer(answer) => self.put(server_frame::Kind::Answer(answer)),
            Plan::Refuse(answer) => self.refuse(answer),
            Plan::Relay(relay) => {
                if let Some(landed) = self.work.begin(relay) {
                    self.on_landed(landed, now);
                }
            }
        }
    }

    /// Takes what the backend answers.
    fn answer(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Gone> {
        let mut progress = false;
        for late in self.work.expire(now) {
            self.on_landed(late, now);
            progress = true;
        }
        self.work.advance(cx)?;
        while self.out.has_room()
            && let Some(landed) = self.work.take_landed()
        {
            self.on_landed(landed, now);
            progress = true;
        }
        Ok(progress)
    }

    fn on_landed(&mut self, landed: Landed, now: Instant) {
        self.heard = now;
        match landed.by {
            By::Node(reason) => {
                let Residence { port, hold, .. } = &self.residence;
                port.on_refused(&hold.presence, &landed.terms, reason, &landed.answer);
                self.refuse(landed.answer);
            }
            By::Backend => {
                let took = now.saturating_duration_since(landed.terms.began);
                let Residence { port, hold, .. } = &self.residence;
                port.on_answered(&hold.presence, &landed.terms, &landed.answer, took);
                self.put(server_frame::Kind::Answer(landed.answer));
            }
        }
    }

    /// Takes what waits in the mailbox, and hears from the rest of the node.
    fn deliver(&mut self, cx: &Context<'_>, now: Instant) -> Result<bool, End> {
        let found = self.residence.hold.collect(cx, self.out.buffer(), OUT_BYTES_MAX);
        if found.events > 0 {
            self.meters().events.increment(found.events as u64);
        }
        let registered = self.register_by.is_some() && found.registered;
        if registered {
            self.register_by = None;
        }
        match found.farewell {
            None => {}
            Some(Farewell::Disconnected) => return Err(End::disconnected()),
            Some(Farewell::Continued) => return Err(End::Silent(Code::Replaced)),
            Some(Farewell::Replaced) => return Err(End::of(Code::Replaced)),
            Some(Farewell::Revoked) => return Err(End::of(Code::Revoked)),
            Some(Farewell::Draining { within, retry_after }) => self.on_drain(now, within, retry_after),
        }
        Ok(registered || found.events > 0 || found.farewell.is_some())
    }

    fn on_drain(&mut self, now: Instant, within: Duration, retry_after: Duration) {
        let leave_at = now + within;
        if self.leave_at.is_some_and(|told| told <= leave_at) {
            // It leaves as it was told, or earlier than it would be told now.
            return;
        }
        self.leave_at = Some(leave_at);
        self.put(server_frame::Kind::GoAway(wire::GoAway {
            code: Code::Draining.into(),
            within_ms: millis(within),
            reconnect: true,
            retry_after_ms: millis(retry_after),
            detail: Code::Draining.remedy().to_owned(),
        }));
    }

    /// Nothing is due now: gives back what is not needed, looks at the limits, and sleeps until the next of them.
    fn rest(&mut self, cx: &mut Context<'_>, mut now: Instant) -> Result<(), End> {
        let quiet = self.work.is_empty() && self.out.is_empty();
        if quiet {
            self.out.rest();
            self.work.rest();
        }
        if self.client_finished && quiet && self.bulk.is_empty() {
            return Err(End::ByClient);
        }
        loop {
            let due = self.due();
            if due <= now {
                self.check(now)?;
                // Late answers are written at once.
                cx.waker().wake_by_ref();
                return Ok(());
            }
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.work.shrink();
            now = Instant::now();
        }
    }

    /// When the next limit is reached.
    fn due(&self) -> Instant {
        let times = &self.residence.port.node.config.times;
        let limits = [
            self.talk.frame_due(times.frame_limit()),
            self.out.stalled_at(times.slow_reader_limit()),
            self.work.earliest(),
            self.leave_at,
            self.register_by,
            self.heard_again_at,
        ];
        limits.into_iter().flatten().fold(self.idle_at(), Instant::min)
    }

    /// When the client counts as gone. While something is under way for it, it is we who are silent; while it is left unread, it is
    /// we who do not listen.
    fn idle_at(&self) -> Instant {
        let limit = self.residence.port.node.load.idle_limit(Instant::now());
        let is_quiet = self.work.is_empty() && self.bulk.is_empty();
        let heard = self.heard_again_at.map_or(self.heard, |at| at.max(self.heard));
        if is_quiet { heard + limit } else { Instant::now() + limit }
    }

    fn check(&mut self, now: Instant) -> Result<(), End> {
        let times = &self.residence.port.node.config.times;
        let over = |limit: Option<Instant>| limit.is_some_and(|at| at <= now);
        if over(self.register_by) {
            self.register_by = None;
            self.residence.hold.expose();
        }
        if over(self.leave_at) {
            Err(End::of(Code::Draining))
        } else if over(self.out.stalled_at(times.slow_reader_limit())) {
            Err(End::Silent(Code::SlowReader))
        } else if over(self.talk.frame_due(times.frame_limit())) {
            Err(End::told(Code::Timeout, "a frame was not complete in time"))
        } else if self.idle_at() <= now {
            Err(End::of(Code::Idle))
        } else {
            Ok(())
        }
    }

    fn put(&mut self, kind: server_frame::Kind) {
        self.out.put(&wire::ServerFrame { kind: Some(kind) });
    }

    /// An answer that is a refusal of our own.
    fn refuse(&mut self, answer: wire::Answer) {
        if let Some(wire::answer::Result::Refusal(refusal)) = &answer.result {
            self.meters().on_refusal("request", refusal.code());
            if refusal.code() == Code::Busy {
                self.on_busy(refusal);
            }
        }
        self.put(server_frame::Kind::Answer(answer));
    }

    /// Whoever goes on asking and is refused each time is left unread for a moment.
    fn on_busy(&mut self, refusal: &wire::Refusal) {
        let Residence { port, hold, .. } = &self.residence;
        if let Some(at) = port.on_busy(&hold.presence, refusal, Instant::now()) {
            self.heard_again_at = Some(at);
        }
    }

    fn meters(&self) -> &crate::meters::Meters {
        &self.residence.port.meters
    }

    /// Leaves: first the session, so that its client can have it on another connection, then the connection.
    async fn part(self, end: End) {
        let Self { connection, mut residence, out, work, bulk, .. } = self;
        // What is under way ends now, not after the goodbye.
        drop((work, bulk));
        let port = Arc::clone(&residence.port);
        let trace = residence.hold.presence.session;
        residence.parting = end.parting();
        drop(residence);
        tracing::debug!(session = %trace, ?end, "a session left its connection");
        match end {
            End::Lost => goodbye::close(&connection, Code::ClosedByClient),
            End::ByClient => {
                let (send, left) = out.into_parts();
                goodbye::see_off(&connection, send, left).await;
            }
            End::Broken => {
                port.meters.panics.increment(1);
                goodbye::close(&connection, Code::Internal);
            }
            End::Silent(code) => {
                port.meters.on_refusal("session", code);
                goodbye::close(&connection, code);
            }
            End::Told(go_away, code) => {
                port.meters.on_refusal("session", code);
                let last = wire::ServerFrame { kind: Some(server_frame::Kind::GoAway(*go_away)) };
                let (send, left) = out.into_parts();
                goodbye::say(&connection, send, left, &last, code).await;
            }
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
