//! How far each device has received a room and each user has read it.
//!
//! One task writes all cursors: it takes everything that has moved meanwhile, writes it as one batch, and only then shows it,
//! answers, and tells the others. So a cursor that somebody saw never moves back, not even over a crash; and a thousand
//! phones that receive one message cost a few writes, not a thousand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::api::Call;
use buslane_chassis::trace::Context;
use buslane_shared::id::{DeviceId, RoomId, UserId};
use buslane_shared::limits::CURSORS_PER_MARK_MAX;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, event::Kind};
use buslane_store::{Mutation, Table};
use futures_util::future::try_join_all;
use metrics::counter;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::core::Core;
use crate::fanout::event;
use crate::message::parse_room;
use crate::refuse;
use crate::registry::Recipient;
use crate::room::Room;
use crate::table;

/// Moves that wait: a second of marks of a busy node. A mark beyond it waits for its place.
pub(crate) const MOVES_QUEUED_MAX: usize = 8_192;

/// Moves taken at a time: bounds one batch of writes.
const MOVES_TAKEN_MAX: usize = 2_048;

/// Pause between two batches: at most twenty times a second somebody hears how far somebody else has read.
const PAUSE: Duration = Duration::from_millis(50);

/// In a larger group nobody hears about every reader; counts are asked for when they are looked at.
const TELL_MEMBERS_MAX: usize = 100;

/// Cursors read from the store at a time.
const SCAN_PAGE: usize = 1_000;

/// A cursor that is to move.
pub(crate) enum Move {
    /// A device says so.
    Mark(Mark),
    /// Senders in this room have read what they wrote.
    Own(RoomId),
}

/// What one device says about one room.
pub(crate) struct Mark {
    room: RoomId,
    user: UserId,
    device: DeviceId,
    delivered: u64,
    read: u64,
    done: oneshot::Sender<Result<(), Refusal>>,
}

/// The cursors of one user in one room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Some device has every message up to here.
    pub(crate) delivered: u64,
    pub(crate) read: u64,
    devices: Vec<(DeviceId, u64)>,
}

impl Cursor {
    /// How far one device has every message.
    pub(crate) fn delivered_to(&self, device: DeviceId) -> u64 {
        self.devices.iter().find(|(d, _)| *d == device).map_or(0, |(_, upto)| *upto)
    }

    /// Moves forward only.
    fn advance(&mut self, device: Option<DeviceId>, delivered: u64, read: u64) {
        self.delivered = self.delivered.max(delivered);
        self.read = self.read.max(read);
        let Some(device) = device else { return };
        match self.devices.iter_mut().find(|(d, _)| *d == device) {
            Some((_, upto)) => *upto = delivered.max(*upto),
            None if delivered > 0 => self.devices.push((device, delivered)),
            None => {}
        }
    }
}

/// The durable cursors of a room.
pub(crate) type Cursors = HashMap<UserId, Cursor>;

/// What moves in one room.
#[derive(Default)]
struct Moved {
    users: BTreeMap<UserId, Cursor>,
    /// The one device that made the move, if it was one: it knows already.
    by: BTreeMap<UserId, Option<DeviceId>>,
}

impl Core {
    /// Moves cursors forward. Durable when it returns.
    pub(crate) async fn mark(&self, call: &Call, mark: wire::Mark) -> Result<(), Refusal> {
        if mark.cursors.len() > CURSORS_PER_MARK_MAX {
            return Err(Refusal::field("cursors", format!("at most {CURSORS_PER_MARK_MAX} at a time")));
        }
        // All of them are looked at before the first one moves.
        let mut marks = Vec::with_capacity(mark.cursors.len());
        for cursor in mark.cursors {
            let room = self.room(parse_room(&cursor.room)?).await?;
            let inner = room.lock();
            inner.state.may_read(&call.user)?;
            let head = inner.sequencer.durable();
            if cursor.delivered.max(cursor.read) > head {
                let detail = format!("room {} ends at {head}; a cursor cannot be beyond that", room.id);
                return Err(Refusal::field("cursors", detail));
            }
            marks.push((room.id, cursor));
        }
        let stopped = || Refusal::new(Code::Draining, "the backend is being stopped; try again");
        let mut waits = Vec::with_capacity(marks.len());
        for (room, cursor) in marks {
            let (done, wait) = oneshot::channel();
            let (delivered, read) = (cursor.delivered, cursor.read);
            let mark = Mark { room, user: call.user.clone(), device: call.device, delivered, read, done };
            self.moves.send(Move::Mark(mark)).await.map_err(|_| stopped())?;
            waits.push(async move { wait.await.unwrap_or_else(|_| Err(stopped())) });
        }
        try_join_all(waits).await.map(drop)
    }

    /// The durable cursors of a room.
    pub(crate) async fn cursors<'a>(&self, room: &'a Room) -> Result<&'a Mutex<Cursors>, Refusal> {
        room.cursors.get_or_try_init(|| async { self.load_cursors(room.id).map(Mutex::new) }).await
    }

    fn load_cursors(&self, room: RoomId) -> Result<Cursors, Refusal> {
        let mut cursors = Cursors::new();
        let mut after = None;
        loop {
            let page = self.engine.scan(Table::Cursors, room.as_bytes(), after.as_deref(), SCAN_PAGE);
            let page = page.map_err(refuse::not_done)?;
            for (key, value) in &page {
                let owner = table::split_user(key, room.as_bytes());
                let stored = wire::StoredCursor::decode(value.value.clone()).ok();
                let Some(((user, device), stored)) = owner.zip(stored) else {
                    return Err(refuse::damaged_value("a cursor", room, "it does not decode"));
                };
                let device = DeviceId::try_from(device).ok();
                cursors.entry(user).or_default().advance(device, stored.delivered, stored.read);
            }
            after = match page.last() {
                Some((key, _)) if page.len() == SCAN_PAGE => Some(key.clone()),
                _ => return Ok(cursors),
            };
        }
    }

    /// Writes what moved in one batch, shows it, and tells those who want to know.
    async fn move_cursors(&self, moves: Vec<Move>) {
        let (mut by_room, mut waits) = (BTreeMap::<RoomId, Moved>::new(), Vec::new());
        for m in moves {
            match m {
                Move::Own(room) => drop(by_room.entry(room).or_default()),
                Move::Mark(mark) => {
                    let moved = by_room.entry(mark.room).or_default();
                    moved.users.entry(mark.user.clone()).or_default().advance(
                        Some(mark.device),
                        mark.delivered,
                        mark.read,
                    );
                    let by = moved.by.entry(mark.user).or_insert(Some(mark.device));
                    *by = by.filter(|d| *d == mark.device);
                    waits.push((mark.room, mark.done));
                }
            }
        }
        let mut batch = Vec::new();
        let mut ready = Vec::new();
        let mut failed = HashMap::new();
        for (id, mut moved) in by_room {
            match self.prepare(id, &mut moved, &mut batch).await {
                Ok(room) => ready.push((room, moved)),
                Err(refusal) => drop(failed.insert(id, refusal)),
            }
        }
        let written = match batch.is_empty() {
            true => Ok(()),
            false => self.engine.write(batch).await.map_err(refuse::write_failed),
        };
        if written.is_ok() {
            ready.iter().for_each(|(room, moved)| self.show(room, moved));
        }
        for (room, done) in waits {
            let result = failed.get(&room).map_or_else(|| written.clone(), |refusal| Err(refusal.clone()));
            drop(done.send(result)); // who no longer waits has cancelled
        }
    }

    /// Keeps only what really moves, and adds the writes for it.
    async fn prepare(
        &self,
        id: RoomId,
        moved: &mut Moved,
        batch: &mut Vec<Mutation>,
    ) -> Result<Arc<Room>, Refusal> {
        let room = self.room(id).await?;
        let cursors = self.cursors(&room).await?;
        let own_reads = std::mem::take(&mut room.lock().own_reads);
        for (user, seq) in own_reads {
            moved.users.entry(user).or_default().advance(None, 0, seq);
        }
        let cursors = cursors.lock();
        moved.users.retain(|user, new| {
            let old = cursors.get(user).cloned().unwrap_or_default();
            let mut next = old.clone();
            next.advance(None, new.delivered, new.read);
            for (device, delivered) in &new.devices {
                let before = next.delivered_to(*device);
                next.advance(Some(*device), *delivered, 0);
                if next.delivered_to(*device) != before {
                    let key = table::device_cursor(id, user, *device);
                    batch.push(put(key, next.delivered_to(*device), 0));
                }
            }
            if (next.delivered, next.read) != (old.delivered, old.read) {
                batch.push(put(table::cursor(id, user), next.delivered, next.read));
            }
            let moves = next != old;
            *new = next;
            moves
        });
        drop(cursors);
        Ok(room)
    }

    /// Cursors of this room are durable: from now on everybody may see them.
    fn show(&self, room: &Room, moved: &Moved) {
        if let Some(cursors) = room.cursors.get() {
            cursors.lock().extend(moved.users.iter().map(|(user, cursor)| (user.clone(), cursor.clone())));
        }
        let audience = room.lock().audience();
        for (user, cursor) in &moved.users {
            let event = || {
                event(Kind::Cursor(wire::CursorMoved {
                    room: room.id.to_wire(),
                    user: user.as_str().to_owned(),
                    delivered: cursor.delivered,
                    read: cursor.read,
                }))
            };
            let except = moved.by.get(user).copied().flatten();
            let own = std::iter::once(Recipient { user, except, notify: false });
            let others = audience.iter().filter(|(u, _)| u != user && audience.len() <= TELL_MEMBERS_MAX);
            let others = others.map(|(user, _)| Recipient { user, except: None, notify: false });
            self.registry.deliver(own.chain(others), Context::NONE, event);
        }
        counter!("buslane_backend_cursor_moves_total").increment(moved.users.len() as u64);
    }
}

fn put(key: bytes::Bytes, delivered: u64, read: u64) -> Mutation {
    let value = wire::StoredCursor { delivered, read }.encode_to_vec().into();
    Mutation::Put { table: Table::Cursors, key, value }
}

/// Writes cursors until the backend stops, and then what still waits.
pub(crate) async fn run(core: Arc<Core>, mut moves: mpsc::Receiver<Move>) {
    let mut next = Instant::now();
    loop {
        let mut taken = Vec::new();
        tokio::select! {
            count = moves.recv_many(&mut taken, MOVES_TAKEN_MAX) => if count == 0 { break },
            () = core.stop.cancelled(), if !moves.is_closed() => { moves.close(); continue }
        }
        core.move_cursors(taken).await;
        if !moves.is_closed() {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + PAUSE;
        }
    }
}
