//! What the app's handle, the supervisor and the writer of the state share. Locks are held for moments, never over an await.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use buslane_shared::UnixMs;
use buslane_shared::id::{ClientId, RoomId};
use buslane_shared::limits::{BODY_BYTES_MAX, USERS_PER_REQUEST_MAX};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer, request::Op};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::conditions::Conditions;
use crate::error::{Error, Refused};
use crate::events::EventQueue;
use crate::identity::Identity;
use crate::marks::{Mark, Marks};
use crate::options::{AppState, Options};
use crate::outbox::{Outgoing, SendState};
use crate::passes::PassBook;
use crate::pending::Pending;
use crate::sent::SentLog;
use crate::state::{Happening, State, step};
use crate::store::Store;
use crate::transport::Transport;
use crate::types::Event;

/// Requests that wait for a connection. More than a screen ever asks for at once.
pub(crate) const CALLS_WAITING_MAX: usize = 256;

/// Which stream a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Road {
    /// The talk stream: small, and somebody waits.
    Talk,
    /// A bulk stream: the answer may be large, and must not stand in front of a message.
    Bulk,
}

/// A request on its way to a connection.
#[derive(Debug)]
pub(crate) struct Call {
    pub id: u64,
    pub op: Op,
    pub road: Road,
    pub deadline_ms: u32,
    pub reply: oneshot::Sender<Result<answer::Result, Error>>,
}

impl Call {
    /// Whether asking twice gives the answer of asking once. Most writes set a state, and setting it again changes nothing;
    /// but a second code is another one, and who has left is told that he is no member.
    pub fn is_repeatable(&self) -> bool {
        !matches!(self.op, Op::Leave(_) | Op::MakeCode(_))
    }
}

/// The shared part of a client.
#[derive(Debug)]
pub(crate) struct Core {
    pub options: Options,
    pub transport: Transport,
    pub identity: Identity,
    pub store: Store,
    pub outbox: Mutex<Pending>,
    pub sent: Mutex<SentLog>,
    pub events: EventQueue,
    pub marks: Mutex<Marks>,
    pub app_state: Mutex<AppState>,
    /// What is shown in the first packets of coming connections.
    pub passes: Mutex<PassBook>,
    /// Requests that nobody waits for any more.
    pub dropped_calls: Mutex<Vec<u64>>,
    pub state: watch::Sender<State>,
    pub caught_up: watch::Sender<bool>,
    /// What the server asks for.
    pub conditions: watch::Sender<Conditions>,
    /// Something for the connection to look at.
    pub wake: Notify,
    /// No more waiting: try now.
    pub hurry: Notify,
    /// A person has opened the app.
    pub promote: Notify,
    pub calls: mpsc::Sender<Call>,
    pub shutdown: CancellationToken,
    pub next_id: AtomicU64,
}

impl Core {
    pub fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub fn happen(&self, happening: Happening) {
        let changed = self.state.send_if_modified(|state| {
            let next = step(state.clone(), happening);
            let changed = next != *state;
            *state = next;
            changed
        });
        if changed {
            tracing::debug!(state = ?self.state.borrow(), "state of the client");
        }
    }

    /// The server has said what it does now.
    pub fn on_conditions(&self, conditions: Conditions) {
        self.marks.lock().set_batch(conditions.receipt_batch);
        self.outbox.lock().set_thrifty(conditions.posture == wire::Posture::Emergency);
        let mut news = false;
        self.conditions.send_if_modified(|known| {
            news = !known.looks_like(&conditions);
            let changed = *known != conditions;
            known.clone_from(&conditions);
            changed
        });
        if news {
            tracing::debug!(?conditions, "the server's conditions");
            self.events.put_news(Event::Posture(conditions));
        }
    }

    pub fn on_send_state(&self, client_id: ClientId, room: RoomId, state: SendState) {
        self.events.put_news(Event::Outbox { client_id, room, state });
    }

    /// The app has dealt with a room up to here.
    pub fn on_taken(&self, room: RoomId, seq: u64) {
        self.store.keep_cursor(room, seq);
        self.mark(room, Mark { delivered: seq, read: 0 });
    }

    pub fn mark(&self, room: RoomId, mark: Mark) {
        if self.marks.lock().add(room, mark, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// Puts a message into the outbox; ready when it is kept.
    pub async fn send(
        &self,
        room: RoomId,
        client_id: ClientId,
        body: Bytes,
        mentions: Vec<String>,
    ) -> Result<Outgoing, Error> {
        self.check_send(&body, &mentions)?;
        let send = wire::Send {
            room: room.to_wire(),
            client_id: client_id.to_wire(),
            body,
            mentions,
            after: Bytes::new(),
        };
        let (reply, wait) = oneshot::channel();
        let on_disk = {
            let mut outbox = self.outbox.lock();
            // Queued for the disk under the same lock, so that the order there is the order here.
            let ordinal = outbox.enqueue(room, client_id, send.clone(), reply)?;
            match self.store.keep_new_send(ordinal, &send) {
                Ok(true) => Some(outbox.on_stored(ordinal)),
                Ok(false) => {
                    outbox.stored(ordinal);
                    None
                }
                Err(error) => {
                    outbox.drop_unstored(ordinal);
                    return Err(error);
                }
            }
        };
        if let Some(on_disk) = on_disk {
            on_disk.await.unwrap_or(Err(Error::Closed))?;
        }
        self.wake.notify_one();
        Ok(Outgoing { room, client_id, wait })
    }

    fn check_send(&self, body: &Bytes, mentions: &[String]) -> Result<(), Error> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::Refused(Refused {
                detail: format!("a message has at most {BODY_BYTES_MAX} bytes, this one has {}", body.len()),
                ..Refused::of(Code::TooLong)
            }));
        }
        if mentions.len() > USERS_PER_REQUEST_MAX {
            let detail = format!("at most {USERS_PER_REQUEST_MAX} users");
            return Err(Error::Invalid { field: "mentions", detail });
        }
        match &*self.state.borrow() {
            State::Closed { reason } => Err(reason.error()),
            _ => Ok(()),
        }
    }

    /// Told by the writer of the state.
    pub fn on_stored(&self, ordinals: &[u64], outcome: &Result<(), Error>) {
        let mut waiting = Vec::with_capacity(ordinals.len());
        {
            let mut outbox = self.outbox.lock();
            for ordinal in ordinals {
                waiting.extend(outbox.take_stored(*ordinal));
                match outcome {
                    Ok(()) => outbox.stored(*ordinal),
                    Err(_) => drop(outbox.drop_unstored(*ordinal)),
                }
            }
        }
        for wait in waiting {
            let _ = wait.send(outcome.clone());
        }
        self.wake.notify_one();
    }

    /// Asks the server.
    pub async fn call(self: &Arc<Self>, op: Op, road: Road) -> Result<answer::Result, Error> {
        self.call_within(op, road, self.options.request_timeout).await
    }

    pub async fn call_within(
        self: &Arc<Self>,
        op: Op,
        road: Road,
        limit: Duration,
    ) -> Result<answer::Result, Error> {
        let (reply, wait) = oneshot::channel();
        let id = self.id();
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let call = Call { id, op, road, deadline_ms, reply };
        let mut guard = DropGuard { core: self, id, armed: true };
        let asked = async {
            if self.calls.send(call).await.is_err() {
                return Err(self.closed_error());
            }
            wait.await.unwrap_or_else(|_| Err(self.closed_error()))
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(answer) => {
                guard.armed = false;
                answer
            }
            Err(_) => Err(self.no_answer(limit)),
        }
    }

    fn no_answer(&self, limit: Duration) -> Error {
        match &*self.state.borrow() {
            State::Connecting { cause: Some(cause), .. }
            | State::Reconnecting { cause, .. }
            | State::Suspended { cause: Some(cause), resyncing: None, .. } => cause.clone(),
            _ => Error::Timeout { after: limit },
        }
    }

    pub fn closed_error(&self) -> Error {
        match &*self.state.borrow() {
            State::Closed { reason } => reason.error(),
            _ => Error::Closed,
        }
    }
}

/// Tells the connection when nobody waits any more.
struct DropGuard<'a> {
    core: &'a Core,
    id: u64,
    armed: bool,
}

impl Drop for DropGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            let mut dropped = self.core.dropped_calls.lock();
            // Without a connection nobody takes them away, and there is nothing to cancel either.
            if dropped.len() < CALLS_WAITING_MAX {
                dropped.push(self.id);
            }
            drop(dropped);
            self.core.wake.notify_one();
        }
    }
}

pub(crate) fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}
