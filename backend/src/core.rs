//! What every part of the backend shares. It holds things together and decides nothing.

use std::sync::Arc;

use buslane_chassis::clock;
use buslane_shared::UnixMs;
use buslane_shared::id::{RoomId, SessionId, UserId};
use buslane_shared::wire;
use buslane_store::Engine;
use buslane_store::sealing::Sealer;
use std::hash::{BuildHasher, RandomState};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::cursors::Move;
use crate::epochs::Epochs;
use crate::feed::Feed;
use crate::loads::Loads;
use crate::orders::{Known, Merge};
use crate::pace::Pace;
use crate::registry::Registry;
use crate::revocations::Revocations;
use crate::rooms::Rooms;
use crate::tasks::Tasks;

/// Locks for changes of one user's things; users share them by hash. Many enough that two users rarely meet.
const USER_LOCKS: usize = 256;

/// Turns of sends; sessions and rooms share them by hash. Many enough that a send rarely waits for a stranger's.
const SEND_TURNS: usize = 4096;

/// The parts, and what they stand on.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) sealer: Sealer,
    pub(crate) epochs: Epochs,
    pub(crate) rooms: Rooms,
    pub(crate) registry: Registry,
    pub(crate) feed: Feed,
    pub(crate) loads: Loads,
    pub(crate) orders: Known,
    pub(crate) revocations: Revocations,
    pub(crate) pace: Pace,
    pub(crate) user_locks: UserLocks,
    pub(crate) send_turns: SendTurns,
    /// To the one task that writes cursors.
    pub(crate) moves: mpsc::Sender<Move>,
    pub(crate) tasks: Tasks,
    pub(crate) stop: CancellationToken,
}

impl Core {
    /// The wall clock.
    pub(crate) fn now_ms(&self) -> UnixMs {
        clock::unix_ms()
    }

    /// Somebody says what operators have ordered.
    pub(crate) fn on_orders(&self, orders: wire::OrderSet) {
        if self.orders.merge(orders, self.now_ms()) == Merge::Changed {
            self.feed.set_orders(|| self.orders.all());
        }
    }
}

/// One change of a user's account, devices or blocks at a time: what is in memory follows what is in the store.
pub(crate) struct UserLocks {
    hash: RandomState,
    locks: Vec<Mutex<()>>,
}

impl UserLocks {
    pub(crate) fn new() -> Self {
        Self { hash: RandomState::new(), locks: (0..USER_LOCKS).map(|_| Mutex::new(())).collect() }
    }

    /// The turn of a user. `None` never happens: the number of locks is not zero.
    pub(crate) async fn turn(&self, user: &UserId) -> Option<MutexGuard<'_, ()>> {
        let at = self.hash.hash_one(user) as usize % USER_LOCKS;
        Some(self.locks.get(at)?.lock().await)
    }
}

/// What one session sends into one room gets its places one after the other, in the order in which it came.
///
/// A send may have to wait on the way to its place: for the room, for its key, for the store. Whoever came behind it and has
/// not to wait any more must not overtake it. The locks are fair, so the order of asking is the order of turns.
pub(crate) struct SendTurns {
    hash: RandomState,
    turns: Vec<Mutex<()>>,
}

impl SendTurns {
    pub(crate) fn new() -> Self {
        Self { hash: RandomState::new(), turns: (0..SEND_TURNS).map(|_| Mutex::new(())).collect() }
    }

    /// The turn of a send, to be held until it has its place. `None` never happens: the number of turns is not zero.
    pub(crate) async fn take(&self, session: SessionId, room: RoomId) -> Option<MutexGuard<'_, ()>> {
        let at = self.hash.hash_one((session, room)) as usize % SEND_TURNS;
        Some(self.turns.get(at)?.lock().await)
    }
}
