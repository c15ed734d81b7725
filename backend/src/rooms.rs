//! The rooms in memory: loaded from the store at first touch, by one loader however many ask, and let go when idle.
//!
//! There is never more than one [`Room`] of a room: a room is only let go when nobody holds it, and one that is broken is
//! only replaced when everything that was on its way has been answered.

use std::sync::Arc;

use buslane_shared::UnixMs;
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::membership::RoomState;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, RoomKind};
use buslane_store::Table;
use buslane_store::sealing::RoomKey;
use dashmap::DashMap;
use metrics::gauge;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::OnceCell;

use crate::core::Core;
use crate::pace::RoomPace;
use crate::refuse;
use crate::room::Room;
use crate::table;

/// A room that nobody used for this long is let go: a conversation pauses for seconds, and loading it again is cheap.
const IDLE_MS: u64 = 5 * 60 * 1000;

/// Of a full cache, this part is let go at once, so that looking through it is paid once for many rooms.
const MAKE_ROOM: usize = 8;

/// Settings read from the store at a time.
const SETTINGS_PAGE: usize = 512;

/// When to come back when every room in memory is in use.
const FULL_RETRY_MS: u32 = 1_000;

type Cell = Arc<OnceCell<Arc<Room>>>;

/// All rooms in memory.
pub(crate) struct Rooms {
    rooms: DashMap<RoomId, Cell>,
    max: usize,
    /// One look through the cache at a time.
    sweeping: Mutex<()>,
}

impl Rooms {
    pub(crate) fn new(max: usize) -> Self {
        Self { rooms: DashMap::new(), max, sweeping: Mutex::new(()) }
    }

    fn cell(&self, id: RoomId, now_ms: UnixMs) -> Result<Cell, Refusal> {
        if let Some(cell) = self.rooms.get(&id) {
            return Ok(cell.clone());
        }
        if self.rooms.len() >= self.max {
            self.make_room(now_ms);
            if self.rooms.len() >= self.max {
                let refusal =
                    Refusal::new(Code::Busy, "every room in memory is in use; come back at the time given");
                return Err(refusal.retry_after_ms(FULL_RETRY_MS));
            }
        }
        Ok(self.rooms.entry(id).or_default().clone())
    }

    /// Lets go of rooms that were idle for long.
    pub(crate) fn sweep(&self, now_ms: UnixMs) {
        let _turn = self.sweeping.lock();
        self.rooms.retain(|_, cell| !is_free(cell) || used_at_ms(cell) + IDLE_MS > now_ms);
        gauge!("buslane_backend_rooms_active").set(self.rooms.len() as f64);
    }

    /// Lets go of the rooms that were idle longest.
    fn make_room(&self, now_ms: UnixMs) {
        let _turn = self.sweeping.lock();
        if self.rooms.len() < self.max {
            return; // somebody else just did it
        }
        let mut idle: Vec<u64> = self.rooms.iter().filter(|c| is_free(c)).map(|c| used_at_ms(&c)).collect();
        let enough = (self.max / MAKE_ROOM).clamp(1, idle.len().max(1)) - 1;
        let until_ms = match idle.len() {
            0 => return,
            _ => *idle.select_nth_unstable(enough).1,
        };
        self.rooms.retain(|_, cell| !is_free(cell) || used_at_ms(cell) > until_ms.min(now_ms));
    }

    /// Lets go of a broken room, once everything that was on its way is answered.
    pub(crate) fn discard(&self, room: &Arc<Room>) {
        self.rooms.remove_if(&room.id, |_, cell| cell.get().is_some_and(|known| Arc::ptr_eq(known, room)));
    }

    /// Whoever guesses at ids fills no memory: what does not exist is not kept, unless somebody is about to make it.
    fn discard_unborn(&self, id: RoomId) {
        let unborn = |room: &Arc<Room>| room.lock().is_unborn();
        self.rooms.remove_if(&id, |_, cell| is_free(cell) && cell.get().is_some_and(unborn));
    }

    fn discard_empty(&self, id: RoomId, mine: Cell) {
        drop(mine);
        self.rooms.remove_if(&id, |_, cell| cell.get().is_none() && Arc::strong_count(cell) == 1);
    }
}

/// Nobody but the cache holds it. Asked under the lock that hands it out, so nobody gets it in between.
fn is_free(cell: &Cell) -> bool {
    Arc::strong_count(cell) == 1 && cell.get().is_none_or(|room| Arc::strong_count(room) == 1)
}

fn used_at_ms(cell: &Cell) -> UnixMs {
    cell.get().map_or(0, |room| room.used_at_ms())
}

impl Core {
    /// The room, from memory or from the store.
    pub(crate) async fn room(&self, id: RoomId) -> Result<Arc<Room>, Refusal> {
        let room = self.room_or_unborn(id).await?;
        if !room.lock().is_unborn() {
            return Ok(room);
        }
        drop(room);
        self.rooms.discard_unborn(id);
        Err(refuse::unknown_room(id))
    }

    /// The room, or the place of one that does not exist yet.
    pub(crate) async fn room_or_unborn(&self, id: RoomId) -> Result<Arc<Room>, Refusal> {
        let now_ms = self.now_ms();
        let cell = self.rooms.cell(id, now_ms)?;
        match cell.get_or_try_init(|| self.load(id)).await {
            Ok(room) => {
                room.touch(now_ms);
                Ok(room.clone())
            }
            Err(refusal) => {
                self.rooms.discard_empty(id, cell);
                Err(refusal)
            }
        }
    }

    /// A room as the store knows it: its stored state, and the membership events that came after that.
    async fn load(&self, id: RoomId) -> Result<Arc<Room>, Refusal> {
        let head = self.engine.head(id).await.map_err(refuse::not_done)?;
        let stored = self.stored_room(id)?;
        let (mut state, mut folded, first) = match &stored {
            Some(stored) => {
                let state =
                    RoomState::from_stored(stored).map_err(|e| refuse::damaged_value("the state", id, e))?;
                (state, stored.folded, stored.first)
            }
            None => (RoomState::empty_group(), 0, 1),
        };
        if state.kind() == RoomKind::Group {
            self.fold(id, &mut state, folded, head).await?;
            folded = head;
        }
        let stored_fold = stored.map_or(0, |s| s.folded);
        let room = Room::new(id, RoomPace::new(&self.config.limits), state, head, first, stored_fold);
        self.load_settings(&room)?;
        tracing::debug!(room = %id, head, folded, "room loaded");
        Ok(Arc::new(room))
    }

    /// Notification settings of the members and, in a direct room, who blocks whom.
    fn load_settings(&self, room: &Room) -> Result<(), Refusal> {
        let prefix = table::notify_prefix(room.id);
        let mut after = None;
        loop {
            let page = self.engine.scan(Table::Settings, &prefix, after.as_deref(), SETTINGS_PAGE);
            let page = page.map_err(refuse::not_done)?;
            let mut inner = room.lock();
            for (key, value) in &page {
                let user = key
                    .strip_prefix(&prefix[..])
                    .and_then(|name| std::str::from_utf8(name).ok()?.parse().ok());
                let settings = wire::NotifySettings::decode(value.value.clone()).ok();
                let Some((user, settings)) = user.zip(settings) else {
                    return Err(refuse::damaged_value(
                        "notification settings",
                        room.id,
                        "they do not decode",
                    ));
                };
                inner.set_notify(user, settings);
            }
            after = match page.last() {
                Some((key, _)) if page.len() == SETTINGS_PAGE => Some(key.clone()),
                _ => break,
            };
        }
        let pair: Vec<UserId> = {
            let inner = room.lock();
            if inner.state.kind() != RoomKind::Direct {
                return Ok(());
            }
            inner.state.members().map(|(user, _)| user.clone()).collect()
        };
        for (who, by) in pair.iter().zip(pair.iter().rev()) {
            if self.blocks(by, who)? {
                room.lock().blocked.insert(who.clone());
            }
        }
        Ok(())
    }

    /// The data key of a room.
    pub(crate) async fn room_key<'a>(&self, room: &'a Room) -> Result<&'a Arc<RoomKey>, Refusal> {
        let key = room.key.get_or_try_init(|| self.sealer.room_key(room.id)).await;
        key.map_err(refuse::not_done)
    }
}
