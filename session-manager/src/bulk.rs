//! Bulk streams: pages of history beside the talk stream, so that no receipt waits behind them.
//!
//! Why it exists: one stream is in order, so what is large goes on others, at a lower priority. Requests of one stream are
//! served one after another, which bounds what a client can have under way by the number of its streams. A stream's task
//! belongs to its session and ends with it. It must never carry events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use buslane_chassis::trace::Lead;
use buslane_shared::frame;
use buslane_shared::limits::FRAME_BYTES_MAX;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, client_frame, server_frame};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::desk::Gone;
use crate::flights::By;
use crate::goodbye;
use crate::load::outcome::Reason;
use crate::node::Port;
use crate::presence::Presence;
use crate::request::{Plan, Relay, Terms, plan, refuse};
use crate::session::End;
use crate::talk::{Broken, Heard, Talk};

/// Requests that wait on one stream for the one before. Beyond it the stream is not read; nothing is refused.
const QUEUED_MAX: usize = 16;

/// Bytes that they may occupy: a frame that is small on the wire may be large in memory, and sixteen of those on each stream
/// would be 75 MB of one client. One request may go beyond it.
const QUEUED_BYTES_MAX: usize = 512 * 1024;

/// Quinn sends streams of a higher number first; the talk stream has 0.
const PRIORITY: i32 = -1;

type Accepted = Result<(SendStream, RecvStream), ConnectionError>;

/// The bulk streams of a session.
pub(crate) struct BulkStreams {
    port: Arc<Port>,
    connection: Connection,
    presence: Arc<Presence>,
    accept: BoxFuture<'static, Accepted>,
    tasks: JoinSet<Result<(), Broken>>,
}

impl BulkStreams {
    pub(crate) fn new(port: &Arc<Port>, connection: &Connection, presence: &Arc<Presence>) -> Self {
        Self {
            port: Arc::clone(port),
            connection: connection.clone(),
            presence: Arc::clone(presence),
            accept: accept(connection.clone()),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Takes new streams and sees to the ends of old ones. The number of streams is bounded by the transport.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        while let Poll::Ready(accepted) = self.accept.poll_unpin(cx) {
            let (send, recv) = accepted?;
            self.accept = accept(self.connection.clone());
            let stream = Stream::new(&self.port, &self.presence, send, recv);
            self.tasks.spawn(stream.run());
            progress = true;
        }
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            progress = true;
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(broken)) if broken.code().is_some() => return Err(broken.into()),
                // The client reset the stream, or the connection is gone, which the talk stream learns too.
                Ok(Err(_)) => {}
                // It ends the session, which counts it.
                Err(error) => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        Ok(progress)
    }
}

fn accept(connection: Connection) -> BoxFuture<'static, Accepted> {
    async move { connection.accept_bi().await }.boxed()
}

/// Runs one request on a seat of its own, where requests of this port run.
async fn serve(port: &Port, relay: Box<Relay>) -> (wire::Answer, By) {
    let node = Arc::clone(&port.node);
    let Some(desk) = &port.desk else { return relay.run_seated(&node).await };
    let (terms, id) = (relay.terms, relay.id);
    match desk.run(async move { relay.run_seated(&node).await }).await {
        Ok(answered) => answered,
        Err(Gone) => (terms.give_up(id, Code::Internal), By::Node(Reason::Code(Code::Internal))),
    }
}

/// One bulk stream.
struct Stream {
    port: Arc<Port>,
    presence: Arc<Presence>,
    send: SendStream,
    talk: Talk,
    queued: VecDeque<Queued>,
    finished: bool,
    /// Until when it is left alone, because its session was refused so often lately.
    left_alone_until: Option<Instant>,
}

/// A request that waits, or its answer.
struct Queued {
    id: u64,
    plan: Plan,
}

impl Stream {
    fn new(port: &Arc<Port>, presence: &Arc<Presence>, send: SendStream, recv: RecvStream) -> Self {
        // An error means that the stream is gone already; reading will tell.
        let _ = send.set_priority(PRIORITY);
        Self {
            port: Arc::clone(port),
            presence: Arc::clone(presence),
            send,
            talk: Talk::new(recv, FRAME_BYTES_MAX),
            queued: VecDeque::new(),
            finished: false,
            left_alone_until: None,
        }
    }

    async fn run(mut self) -> Result<(), Broken> {
        loop {
            let answer = match self.queued.pop_front() {
                Some(Queued { plan: Plan::Answer(answer), .. }) => answer,
                Some(Queued { plan: Plan::Refuse(answer), .. }) => {
                    self.count_refusal(&answer);
                    answer
                }
                Some(Queued { plan: Plan::Relay(relay), .. }) => match self.relay(relay).await? {
                    Some(answer) => answer,
                    None => return Ok(()),
                },
                None if self.finished => {
                    // An error means that the client has closed it first.
                    let _ = self.send.finish();
                    return Ok(());
                }
                None if self.hear_in_time().await? => continue,
                None => return Ok(()),
            };
            if !self.write(answer).await {
                return Ok(());
            }
            // What is decided already goes out at once: only what would be read next waits.
            let is_decided = |queued: &Queued| matches!(queued.plan, Plan::Answer(_) | Plan::Refuse(_));
            if !self.queued.front().is_some_and(is_decided)
                && let Some(at) = self.left_alone_until.take()
            {
                sleep_until(at).await;
            }
        }
    }

    /// Waits for the next frame. False: none came for as long as a session may be idle, or one stayed incomplete.
    async fn hear_in_time(&mut self) -> Result<bool, Broken> {
        // While an answer was written nothing was read, and the rest of a frame may be here already.
        self.talk.pause();
        let idle_at = Instant::now() + self.port.node.config.times.idle_limit();
        loop {
            let glance_at = Instant::now() + self.port.node.config.times.frame_limit();
            let due = self.frame_due().unwrap_or(glance_at).min(glance_at).min(idle_at);
            // Only while it is read does it turn out that a frame has begun, so its limit is looked for again and again.
            tokio::select! {
                heard = self.talk.next() => {
                    self.take(heard?);
                    return Ok(true);
                }
                () = sleep_until(due) => {}
            }
            if Instant::now() >= idle_at || self.frame_due().is_some_and(|due| due <= Instant::now()) {
                self.talk.stop(Code::Timeout);
                return Ok(false);
            }
        }
    }

    fn frame_due(&self) -> Option<Instant> {
        self.talk.frame_due(self.port.node.config.times.frame_limit())
    }

    /// Runs one request while hearing on. `None`: the client wants nothing more from this stream.
    async fn relay(&mut self, relay: Box<Relay>) -> Result<Option<wire::Answer>, Broken> {
        let (id, terms) = (relay.id, relay.terms);
        let port = Arc::clone(&self.port);
        let mut answer = Box::pin(serve(&port, relay));
        let stopped = self.send.stopped();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let (answer, by) = answer;
                    match by {
                        By::Backend => {
                            port.on_answered(&self.presence, &terms, &answer, terms.began.elapsed());
                        }
                        By::Node(reason) => {
                            port.on_refused(&self.presence, &terms, reason, &answer);
                            self.count_refusal(&answer);
                        }
                    }
                    return Ok(Some(wire::Answer { id, ..answer }));
                }
                () = sleep_until(terms.deadline) => {
                    return Ok(Some(self.give_up(id, terms, Code::Deadline)));
                }
                _ = &mut stopped => return Ok(None),
                heard = self.talk.next(), if !self.finished && self.has_room() => {
                    if self.take(heard?) == Some(id) {
                        return Ok(Some(self.give_up(id, terms, Code::Cancelled)));
                    }
                }
            }
        }
    }

    /// Takes a frame; returns the id of the request that is no longer wanted.
    fn take(&mut self, heard: Heard) -> Option<u64> {
        let (frame, len) = match heard {
            Heard::Frame(frame, len) => (frame, len),
            Heard::End => {
                self.finished = true;
                return None;
            }
        };
        self.port.meters.bytes_in.increment(len as u64);
        match frame.kind {
            Some(client_frame::Kind::Request(request)) => {
                let id = request.id;
                let now = Instant::now();
                let plan = plan(&self.port, &self.presence, request, len, now, &mut Lead::default());
                self.left_alone_until =
                    self.presence.take_unread().map(|time| now + time).or(self.left_alone_until);
                self.queued.push_back(Queued { id, plan });
                None
            }
            Some(client_frame::Kind::Cancel(id)) => {
                // One that has not begun has certainly done nothing.
                let waiting = self.queued.iter_mut().find(|q| q.id == id);
                if let Some(waiting) = waiting {
                    waiting.plan = Plan::Refuse(refuse(id, Refusal::of(Code::Cancelled)));
                    return None;
                }
                Some(id)
            }
            // Anything else belongs on the talk stream, or is of a later version.
            _ => None,
        }
    }

    fn has_room(&self) -> bool {
        let weight = |queued: &Queued| match &queued.plan {
            Plan::Relay(relay) => relay.held(),
            Plan::Answer(_) | Plan::Refuse(_) => 0,
        };
        self.queued.len() < QUEUED_MAX && self.queued.iter().map(weight).sum::<usize>() < QUEUED_BYTES_MAX
    }

    fn count_refusal(&mut self, answer: &wire::Answer) {
        if let Some(wire::answer::Result::Refusal(refusal)) = &answer.result {
            self.port.meters.on_refusal("request", refusal.code());
            if refusal.code() == Code::Busy {
                let until = self.port.on_busy(&self.presence, refusal, Instant::now());
                self.left_alone_until = until.or(self.left_alone_until);
            }
        }
    }

    fn give_up(&mut self, id: u64, terms: Terms, code: Code) -> wire::Answer {
        let answer = terms.give_up(id, code);
        self.port.on_refused(&self.presence, &terms, Reason::Code(code), &answer);
        self.count_refusal(&answer);
        answer
    }

    /// Writes one answer as fast as the client takes it. False: it takes nothing any more.
    async fn write(&mut self, answer: wire::Answer) -> bool {
        let limit = self.port.node.config.times.slow_reader_limit();
        let mut left = frame::frame(&wire::ServerFrame { kind: Some(server_frame::Kind::Answer(answer)) });
        self.port.meters.bytes_out.increment(left.len() as u64);
        while !left.is_empty() {
            match timeout(limit, self.send.write_chunks(std::slice::from_mut(&mut left))).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return false,
                Err(_) => {
                    self.port.meters.on_refusal("bulk stream", Code::SlowReader);
                    // An error means that the stream is gone already.
                    let _ = self.send.reset(goodbye::number(Code::SlowReader));
                    return false;
                }
            }
        }
        true
    }
}
