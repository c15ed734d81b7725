//! One session as the rest of the node sees it: who it is, its mailbox, and which connection holds it.
//!
//! Why it exists: a session outlives its connection for a while, so what is delivered to it cannot live in the task of a
//! connection. Deliveries are put in here by the link; the task of the connection takes them out. It must never be locked
//! across an await, and whoever pushes must never wait for whoever reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use buslane_chassis::clock;
use buslane_shared::class::Class;
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::mailbox::{Mailbox, Pushed, ResumeGap, encode_event};
use buslane_shared::mark::Lane;
use buslane_shared::overload::claims::Claims;
use buslane_shared::overload::hearing::Hearing;
use buslane_shared::overload::level::Standing;
use buslane_shared::overload::settings;
use buslane_shared::wire;
use buslane_shared::{Nanos, UnixMs};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::trail::Trail;

/// Why a session is asked to leave, from outside its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// An operator has ended it.
    Disconnected,
    /// Its client goes on with it on a newer connection, and has left this one.
    Continued,
    /// A newer session of the device.
    Replaced,
    /// The device lost its right.
    Revoked,
    /// The node is being stopped.
    Draining {
        /// How long the client may take.
        within: Duration,
        /// When it shall come back.
        retry_after: Duration,
    },
}

/// What a client was told last of the posture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Told {
    /// Perhaps something else than it believes.
    Unknown,
    /// That it is as usual.
    Usual,
    /// That it is an emergency.
    Emergency,
}

impl Told {
    /// That it is this posture.
    pub(crate) fn of(posture: wire::Posture) -> Self {
        if posture == wire::Posture::Emergency { Self::Emergency } else { Self::Usual }
    }
}

/// A session in the table.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) session: SessionId,
    /// When the right behind the session was given: what a revocation is compared with.
    pub(crate) issued_at_ms: UnixMs,
    /// When it was opened.
    pub(crate) since_ms: UnixMs,
    /// Its last requests.
    pub(crate) trail: Trail,
    app_state: AtomicI32,
    rank: Mutex<Rank>,
    /// For how long the stream on which it has just claimed too much is to be left unread; zero: nothing to tell.
    unread_ms: AtomicU32,
    /// Whether its connection is at the front port.
    at_front: AtomicBool,
    /// What its client was told last of the posture; written under the lock of `post`, so that it is the last word there.
    told: AtomicU8,
    /// Whether it has one: what `post` says, for those who must not wait for it.
    connected: AtomicBool,
    /// Events of it that wait with the courier.
    backlogged: AtomicU32,
    /// It will be told that it is behind.
    owes_behind: AtomicBool,
    /// When it was given passes the last time.
    passes_ms: AtomicU64,
    post: Mutex<Post>,
}

/// What ranks its requests among those of others.
#[derive(Debug, Default)]
struct Rank {
    /// How often they may still claim that somebody is looking.
    claims: Claims,
    /// How often they were refused lately.
    hearing: Hearing,
    /// The standing of the user, and the hour for which it holds.
    standing: Option<(u64, Standing)>,
}

#[derive(Debug, Default)]
struct Post {
    mailbox: Mailbox,
    /// Connections so far; the newest is the one that may hold the session.
    connections: u64,
    /// Whether the newest connection is there.
    held: bool,
    /// A word about the posture may be among its events.
    has_word: bool,
    waker: Option<Waker>,
    farewell: Option<Farewell>,
    /// The backend knows of the session: what is committed from then on is delivered to it.
    registered: bool,
    /// Requests were relayed before that, so what they told may be older than the first delivery.
    exposed: bool,
}

/// A connection's hold of its session. A newer connection ends it.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) presence: Arc<Presence>,
    connection: u64,
}

/// What a connection finds when it looks after its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Events written out.
    pub(crate) events: usize,
    /// It is asked to leave.
    pub(crate) farewell: Option<Farewell>,
    /// The backend knows of the session.
    pub(crate) registered: bool,
}

impl Farewell {
    fn rank(self) -> u8 {
        match self {
            Self::Draining { .. } => 0,
            Self::Disconnected => 1,
            Self::Continued | Self::Replaced => 2,
            Self::Revoked => 3,
        }
    }
}

impl Presence {
    /// A new session, held by its first connection.
    pub(crate) fn open(
        user: UserId,
        device: DeviceId,
        session: SessionId,
        issued_at_ms: UnixMs,
        app_state: wire::AppState,
    ) -> Hold {
        let post = Post { connections: 1, held: true, ..Post::default() };
        let app_state = AtomicI32::new(app_state.into());
        let presence = Self {
            user,
            device,
            session,
            issued_at_ms,
            since_ms: clock::unix_ms(),
            trail: Trail::default(),
            app_state,
            rank: Mutex::default(),
            unread_ms: AtomicU32::new(0),
            at_front: AtomicBool::new(false),
            told: AtomicU8::new(Told::Unknown as u8),
            connected: AtomicBool::new(true),
            backlogged: AtomicU32::new(0),
            owes_behind: AtomicBool::new(false),
            passes_ms: AtomicU64::new(0),
            post: Mutex::new(post),
        };
        Hold { presence: Arc::new(presence), connection: 1 }
    }

    /// A new connection continues the session; an older one that is still there leaves it.
    pub(crate) fn resume(self: &Arc<Self>, seen: u64, app_state: wire::AppState) -> Result<Hold, ResumeGap> {
        let mut post = self.post.lock();
        post.mailbox.resume(seen)?;
        post.has_word &= !post.mailbox.is_empty();
        post.connections += 1;
        post.held = true;
        self.connected.store(true, Ordering::Relaxed);
        let older = post.waker.take();
        let connection = post.connections;
        drop(post);
        older.inspect(Waker::wake_by_ref);
        self.set_app_state(app_state);
        Ok(Hold { presence: Arc::clone(self), connection })
    }

    /// Adds an event for the device.
    pub(crate) fn push(&self, event: Bytes) -> Pushed {
        self.change(|post| {
            let pushed = post.mailbox.push(event);
            if pushed == Pushed::FellBehind && post.has_word {
                self.note_told(Told::Unknown);
            }
            pushed
        })
    }

    /// Says that events were lost before they came here.
    pub(crate) fn fall_behind(&self) {
        self.change(|post| self.drop_waiting(post));
    }

    /// The backend knows of the session now. Where it knew before, its link was lost meanwhile; there, and where requests
    /// did not wait, deliveries may be missing.
    pub(crate) fn on_registered(&self) {
        self.change(|post| {
            if post.registered || post.exposed {
                self.drop_waiting(post);
            }
            post.registered = true;
            post.exposed = false;
        });
    }

    /// Asks the session to leave. The weightier reason stays: a lost right, then a newer session, then
    /// an operator's word, then the end of the node.
    pub(crate) fn farewell(&self, farewell: Farewell) {
        self.change(|post| {
            if post.farewell.is_none_or(|known| known.rank() < farewell.rank()) {
                post.farewell = Some(farewell);
            }
        });
    }

    /// Whether no connection came after this one, and this one is gone.
    pub(crate) fn waits_since(&self, hold: &Hold) -> bool {
        let post = self.post.lock();
        !post.held && post.connections == hold.connection
    }

    pub(crate) fn app_state(&self) -> wire::AppState {
        wire::AppState::try_from(self.app_state.load(Ordering::Relaxed)).unwrap_or_default()
    }

    pub(crate) fn set_app_state(&self, app_state: wire::AppState) {
        self.app_state.store(app_state.into(), Ordering::Relaxed);
    }

    /// Where its connection is.
    pub(crate) fn set_lane(&self, lane: Lane) {
        self.at_front.store(lane == Lane::Front, Ordering::Relaxed);
    }

    /// Whether its connection is at the front port.
    pub(crate) fn is_at_front(&self) -> bool {
        self.at_front.load(Ordering::Relaxed)
    }

    /// Whether this is what its client was told last.
    pub(crate) fn was_told(&self, told: Told) -> bool {
        self.told.load(Ordering::Relaxed) == told as u8
    }

    /// Tells its client of the posture, if that is news to it and, as asked under the lock, what holds: the last word is the newest.
    pub(crate) fn tell(&self, told: Told, event: Bytes, holds: impl FnOnce() -> bool) {
        self.change(|post| {
            if !self.was_told(told) && holds() {
                post.has_word = post.mailbox.push(event) == Pushed::Kept;
                self.note_told(if post.has_word { told } else { Told::Unknown });
            }
        });
    }

    fn note_told(&self, told: Told) {
        self.told.store(told as u8, Ordering::Relaxed);
    }

    /// Events that wait are dropped; what was said of the posture may be one of them.
    fn drop_waiting(&self, post: &mut Post) {
        if post.has_word && post.mailbox.has_unsent() {
            self.note_told(Told::Unknown);
        }
        post.mailbox.fall_behind();
    }

    /// Whether it has a connection; otherwise it waits for its client.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// An event of it waits with the courier.
    pub(crate) fn on_backlogged(&self) {
        self.backlogged.fetch_add(1, Ordering::Relaxed);
    }

    /// One of those is in the mailbox now.
    pub(crate) fn on_unbacklogged(&self) {
        // Whoever sees that nothing waits must also find what was put into the mailbox.
        self.backlogged.fetch_sub(1, Ordering::Release);
    }

    /// Whether events of it wait with the courier: the next ones go behind them.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlogged.load(Ordering::Acquire) > 0
    }

    /// It must be told that it is behind. False: that was known.
    pub(crate) fn owe_behind(&self) -> bool {
        !self.owes_behind.swap(true, Ordering::Relaxed)
    }

    /// Tells it that it is behind, where it must be told.
    pub(crate) fn pay_behind(&self) {
        if self.owes_behind.swap(false, Ordering::Relaxed) {
            self.fall_behind();
        }
    }

    /// Whether one more claim that somebody is looking is believed, where it is one, and the standing of the user for this hour.
    pub(crate) fn rank(
        &self,
        limits: Option<&settings::Claims>,
        now: Nanos,
        standing: impl FnOnce(&str) -> Standing,
        now_ms: UnixMs,
    ) -> (bool, Standing) {
        let mut rank = self.rank.lock();
        let believed = limits.is_none_or(|limits| rank.claims.take(limits, now));
        let hour = Standing::hour(now_ms);
        let standing = match rank.standing {
            Some((of, standing)) if of == hour => standing,
            _ => standing(self.user.as_str()),
        };
        rank.standing = Some((hour, standing));
        (believed, standing)
    }

    /// It has claimed more than a person could while others go short: counts like a refusal.
    pub(crate) fn on_overclaimed(&self, now: Nanos) {
        if let Some(at) = self.rank.lock().hearing.on_refused(Class::Wake, now, rand::random()) {
            let ms = at.saturating_sub(now) / 1_000_000;
            self.unread_ms.store(u32::try_from(ms).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }

    /// For how long the stream of the request that was just ranked is to be left unread, because the session claims too much. Told once.
    pub(crate) fn take_unread(&self) -> Option<Duration> {
        if self.unread_ms.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let ms = self.unread_ms.swap(0, Ordering::Relaxed);
        (ms > 0).then(|| Duration::from_millis(ms.into()))
    }

    /// One more of its requests is refused for lack of capacity. Until when the stream that it came on is to be left unread, if so.
    pub(crate) fn on_busy(&self, class: Class, now: Nanos) -> Option<Nanos> {
        self.rank.lock().hearing.on_refused(class, now, rand::random())
    }

    /// Goes on with the claims of an older session of the device, and with what it was refused: a new one is not a new right.
    pub(crate) fn inherit(&self, older: &Self) {
        let (claims, hearing) = {
            let older = older.rank.lock();
            (older.claims, older.hearing)
        };
        let mut rank = self.rank.lock();
        (rank.claims, rank.hearing) = (claims, hearing);
    }

    /// It was given passes.
    pub(crate) fn on_passes(&self, now_ms: UnixMs) {
        self.passes_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether it is to be given passes again, and notes it.
    pub(crate) fn takes_passes(&self, now_ms: UnixMs, every_ms: u64) -> bool {
        let last = self.passes_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last) >= every_ms;
        due && self.passes_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn to_wire(&self) -> wire::SessionRef {
        wire::SessionRef {
            user: self.user.as_str().to_owned(),
            device: self.device.to_wire(),
            session: self.session.to_wire(),
        }
    }

    /// Decides under the lock and wakes the connection's task after it.
    fn change<T>(&self, change: impl FnOnce(&mut Post) -> T) -> T {
        let mut post = self.post.lock();
        let result = change(&mut post);
        let waker = post.waker.take();
        drop(post);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

impl Hold {
    /// Writes waiting events to `out` until it holds `out_max` bytes, and sees to it that the task is woken when there is
    /// more or when the session is asked to leave.
    pub(crate) fn collect(&self, cx: &Context<'_>, out: &mut BytesMut, out_max: usize) -> Found {
        let mut post = self.presence.post.lock();
        if post.connections != self.connection {
            return Found { events: 0, farewell: Some(Farewell::Continued), registered: true };
        }
        let farewell = post.farewell.take();
        let mut events = 0;
        while out.len() < out_max {
            let Some((no, event)) = post.mailbox.next_unsent() else { break };
            encode_event(no, &event, out);
            events += 1;
        }
        match &mut post.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => post.waker = Some(cx.waker().clone()),
        }
        Found { events, farewell, registered: post.registered }
    }

    /// Its client is told this with the welcome, if it is what `holds`, as asked under the lock.
    pub(crate) fn on_welcome(&self, told: Told, holds: impl FnOnce() -> bool) {
        let post = self.presence.post.lock();
        if post.connections == self.connection {
            // What is handed out again comes behind the welcome, and may be an older word.
            let is_last = holds() && !post.has_word;
            self.presence.note_told(if is_last { told } else { Told::Unknown });
        }
    }

    /// The client has taken over every event up to `upto`.
    pub(crate) fn on_seen(&self, upto: u64) {
        let mut post = self.presence.post.lock();
        if post.connections == self.connection {
            post.mailbox.on_seen(upto);
            post.has_word &= !post.mailbox.is_empty();
        }
    }

    /// Requests do not wait for the backend to know of the session any longer.
    pub(crate) fn expose(&self) {
        let mut post = self.presence.post.lock();
        post.exposed = !post.registered;
    }

    /// The connection is gone. False: a newer one had taken the session over already.
    pub(crate) fn let_go(&self) -> bool {
        let mut post = self.presence.post.lock();
        if post.connections != self.connection {
            return false;
        }
        post.held = false;
        self.presence.connected.store(false, Ordering::Relaxed);
        post.waker = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_right_is_said_whatever_else_ends_the_session() {
        let draining = Farewell::Draining { within: Duration::ZERO, retry_after: Duration::ZERO };
        let reasons = [draining, Farewell::Disconnected, Farewell::Replaced, Farewell::Revoked];
        for first in reasons {
            for second in reasons {
                let user = "alice".parse().unwrap();
                let (device, session) = (DeviceId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
                let hold = Presence::open(user, device, session, 0, wire::AppState::Foreground);
                hold.presence.farewell(first);
                hold.presence.farewell(second);
                let weightier = [first, second].into_iter().max_by_key(|reason| reason.rank());
                let found = hold.collect(&Context::from_waker(Waker::noop()), &mut BytesMut::new(), 0);
                assert_eq!(found.farewell, weightier);
            }
        }
    }
}
