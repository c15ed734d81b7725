//! Which sessions are here: user → devices → session. The only thing that the tasks of all connections share.
//!
//! Why it exists: it keeps one live session for each device, finds the recipients of an event, and keeps a session for its
//! client for a while after its connection was lost. It is sharded, a lock of it is held for a few hundred nanoseconds and
//! never across an await, and what it reports to the link goes through a queue without a lock, so that a slow thread of
//! the wake port never holds up the front port.
//!
//! Order of locks: a shard of the table, then a session's mailbox; never the other way round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use buslane_shared::UnixMs;
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::refusal::{Code, Refusal};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use metrics::{Gauge, gauge};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::Bounds;
use crate::hello::Verified;
use crate::presence::{Farewell, Hold, Presence};

/// Changes that the link may be behind: what a storm of logins makes in a few seconds. Beyond it the link reports the
/// whole list anew.
const CHANGES_MAX: usize = 65_536;

/// Milliseconds after which a client that found no room tries again.
const FULL_RETRY_AFTER_MS: u32 = 30_000;

/// What the backend is to be told.
#[derive(Debug)]
pub(crate) enum Change {
    /// A session is here.
    Opened(Arc<Presence>),
    /// It is gone.
    Closed(Arc<Presence>),
}

/// A session whose connection was lost.
#[derive(Debug)]
struct Waiting {
    hold: Hold,
    until: Instant,
}

/// The sessions of this node.
pub(crate) struct Table {
    users: DashMap<UserId, Vec<Arc<Presence>>>,
    count: AtomicUsize,
    /// The same for the operator; what is beyond the connections waits for its client.
    gauge: Gauge,
    sessions_max: usize,
    resume_window: Duration,
    changes: mpsc::Sender<Change>,
    changes_missed: AtomicBool,
    waiting: mpsc::Sender<Waiting>,
    draining: AtomicBool,
}

/// The other ends of the table's queues.
pub(crate) struct Queues {
    /// For the link.
    pub(crate) changes: mpsc::Receiver<Change>,
    /// For the one task that releases what nobody came back for.
    pub(crate) waiting: WaitingRoom,
}

/// Sessions that wait for their client, oldest first.
pub(crate) struct WaitingRoom {
    arrivals: mpsc::Receiver<Waiting>,
    waiting: VecDeque<Waiting>,
    waiting_max: usize,
}

/// How a hello got its session.
pub(crate) struct Opened {
    pub(crate) hold: Hold,
    /// It goes on where it was, without a loss.
    pub(crate) resumed: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The client may come back for its session.
    Lost,
    /// The session is over.
    Final,
}

impl Table {
    pub(crate) fn new(bounds: &Bounds, resume_window: Duration) -> (Self, Queues) {
        let waiting_max = bounds.waiting_max as usize;
        let (changes, for_link) = mpsc::channel(CHANGES_MAX);
        let (waiting, arrivals) = mpsc::channel(waiting_max.max(1));
        let table = Self {
            users: DashMap::new(),
            count: AtomicUsize::new(0),
            gauge: gauge!("buslane_session_manager_sessions"),
            sessions_max: bounds.sessions_max as usize,
            resume_window: if waiting_max == 0 { Duration::ZERO } else { resume_window },
            changes,
            changes_missed: AtomicBool::new(false),
            waiting,
            draining: AtomicBool::new(false),
        };
        let waiting = WaitingRoom { arrivals, waiting: VecDeque::new(), waiting_max };
        (table, Queues { changes: for_link, waiting })
    }

    /// Sessions here, those that wait included.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Continues the session that the hello names, or opens `fresh`. An older session of the device is replaced and told.
    pub(crate) fn open(&self, hello: &Verified, fresh: SessionId) -> Result<Opened, Refusal> {
        let mut devices = self.users.entry(hello.user.clone()).or_default();
        // Looked at under the lock of the shard: whoever drains sets it first and walks all shards afterwards.
        if self.draining.load(Ordering::SeqCst) {
            drop(devices);
            self.forget_if_empty(&hello.user);
            return Err(Refusal::of(Code::Draining));
        }
        let known = devices.iter().position(|p| p.device == hello.device);
        let older = known.and_then(|at| devices.get(at));
        if let (Some((session, seen)), Some(older)) = (hello.resume, older)
            && older.session == session
            && let Ok(hold) = older.resume(seen, hello.app_state)
        {
            return Ok(Opened { hold, resumed: true });
        }
        if older.is_none() && self.len() >= self.sessions_max {
            drop(devices);
            self.forget_if_empty(&hello.user);
            let refusal = Refusal::new(Code::Busy, "this node has as many sessions as it may have");
            return Err(refusal.retry_after_ms(FULL_RETRY_AFTER_MS));
        }
        let hold =
            Presence::open(hello.user.clone(), hello.device, fresh, hello.issued_at_ms, hello.app_state);
        let replaced = known.map(|at| devices.swap_remove(at));
        devices.push(Arc::clone(&hold.presence));
        // Reported under the lock of the shard: the queue has the order in which things happened to a user.
        if let Some(replaced) = &replaced {
            hold.presence.inherit(replaced);
            self.report(Change::Closed(Arc::clone(replaced)));
        } else {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.gauge.increment(1.0);
        }
        self.report(Change::Opened(Arc::clone(&hold.presence)));
        drop(devices);
        if let Some(replaced) = replaced {
            replaced.farewell(Farewell::Replaced);
        }
        Ok(Opened { hold, resumed: false })
    }

    /// A connection is gone; its session waits for the client or is over.
    pub(crate) fn part(&self, hold: &Hold, parting: Parting) {
        if !hold.let_go() {
            return;
        }
        let waits = parting == Parting::Lost
            && !self.resume_window.is_zero()
            && !self.draining.load(Ordering::SeqCst)
            && self
                .waiting
                .try_send(Waiting { hold: hold.clone(), until: Instant::now() + self.resume_window })
                .is_ok();
        if !waits {
            self.release(hold);
        }
    }

    /// Takes a session out, unless a newer connection continues it.
    fn release(&self, hold: &Hold) {
        let presence = &hold.presence;
        self.take_out_if(&presence.user, |p| Arc::ptr_eq(p, presence) && p.waits_since(hold));
    }

    /// The device has lost its rights that were given up to this time.
    pub(crate) fn revoke(&self, user: &UserId, device: DeviceId, revoked_at_ms: UnixMs) {
        let unwanted = |p: &Arc<Presence>| p.device == device && p.issued_at_ms <= revoked_at_ms;
        if let Some(presence) = self.take_out_if(user, unwanted) {
            presence.farewell(Farewell::Revoked);
        }
    }

    /// An operator ends the session of a device. False: it has none here.
    pub(crate) fn disconnect(&self, user: &UserId, device: DeviceId) -> bool {
        let ended = self.take_out_if(user, |p| p.device == device);
        if let Some(presence) = &ended {
            presence.farewell(Farewell::Disconnected);
        }
        ended.is_some()
    }

    /// This session was continued or replaced at another node.
    pub(crate) fn replaced_elsewhere(&self, user: &str, session: SessionId) {
        let Ok(user) = user.parse() else { return };
        if let Some(presence) = self.take_out_if(&user, |p| p.session == session) {
            presence.farewell(Farewell::Replaced);
        }
    }

    fn take_out_if(&self, user: &UserId, unwanted: impl Fn(&Arc<Presence>) -> bool) -> Option<Arc<Presence>> {
        let Entry::Occupied(mut devices) = self.users.entry(user.clone()) else { return None };
        let at = devices.get().iter().position(unwanted)?;
        let presence = devices.get_mut().swap_remove(at);
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1.0);
        self.report(Change::Closed(Arc::clone(&presence)));
        if devices.get().is_empty() {
            devices.remove();
        }
        Some(presence)
    }

    fn forget_if_empty(&self, user: &UserId) {
        self.users.remove_if(user, |_, devices| devices.is_empty());
    }

    /// Shows every session of a user, but that of one device.
    pub(crate) fn visit(&self, user: &str, except: Option<DeviceId>, mut visit: impl FnMut(&Arc<Presence>)) {
        if let Some(devices) = self.users.get(user) {
            devices.iter().filter(|p| Some(p.device) != except).for_each(&mut visit);
        }
    }

    /// Every session of this moment.
    pub(crate) fn all(&self) -> Vec<Arc<Presence>> {
        let mut all = Vec::with_capacity(self.len());
        for devices in &self.users {
            all.extend(devices.iter().cloned());
        }
        all
    }

    /// From now on nobody is let in, and no session waits.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// From now on they are again.
    pub(crate) fn end_drain(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    /// Whether changes were lost since this was asked last: the whole list must be reported.
    pub(crate) fn take_changes_missed(&self) -> bool {
        self.changes_missed.swap(false, Ordering::SeqCst)
    }

    fn report(&self, change: Change) {
        if self.changes.try_send(change).is_err() {
            self.changes_missed.store(true, Ordering::SeqCst);
        }
    }
}

impl WaitingRoom {
    /// Releases each session when its time is over, and the oldest when there are too many. Never returns; its owner
    /// stops it.
    pub(crate) async fn run(mut self, table: Arc<Table>) {
        loop {
            let next = self.waiting.front().map(|w| w.until);
            tokio::select! {
                arrival = self.arrivals.recv() => match arrival {
                    Some(waiting) => self.waiting.push_back(waiting),
                    None => return,
                },
                () = until(next) => {}
            }
            let now = Instant::now();
            while let Some(first) = self.waiting.front()
                && (first.until <= now || self.waiting.len() > self.waiting_max)
            {
                if let Some(over) = self.waiting.pop_front() {
                    table.release(&over.hold);
                }
            }
            if self.waiting.is_empty() {
                // The memory of a storm is given back.
                self.waiting.shrink_to(1024);
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
