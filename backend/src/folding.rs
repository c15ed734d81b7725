//! The state of a room in the store: the fold of its membership events up to a sequence, and the rest of the log.
//!
//! The log is the truth. The stored state only spares reading it from the beginning, and lets its beginning go.

use std::sync::Arc;

use buslane_shared::id::RoomId;
use buslane_shared::membership::{Event, RoomState};
use buslane_shared::refusal::Refusal;
use buslane_shared::wire::{self, message::Content};
use buslane_store::{Mutation, Table};
use prost::Message as _;

use crate::core::Core;
use crate::message;
use crate::refuse;
use crate::room::Room;

/// Messages after which a group's state is stored anew, so that loading it never folds more than about these.
const FOLD_EVERY: u64 = 1_000;

/// Records of a fold read at a time.
const FOLD_PAGE: usize = 512;

/// Bytes of a fold read at a time.
const FOLD_PAGE_BYTES: usize = 1024 * 1024;

impl Core {
    /// The stored state of a room.
    pub(crate) fn stored_room(&self, id: RoomId) -> Result<Option<wire::StoredRoom>, Refusal> {
        let stored = self.engine.get(Table::Rooms, id.as_bytes()).map_err(refuse::not_done)?;
        stored
            .map(|v| wire::StoredRoom::decode(v.value).map_err(|e| refuse::damaged_value("the state", id, e)))
            .transpose()
    }

    pub(crate) async fn fold(
        &self,
        id: RoomId,
        state: &mut RoomState,
        folded: u64,
        head: u64,
    ) -> Result<(), Refusal> {
        let mut after = folded;
        while after < head {
            let records =
                self.engine.read(id, after, FOLD_PAGE, FOLD_PAGE_BYTES).await.map_err(refuse::not_done)?;
            let missing =
                |seq: u64| Err(refuse::damaged_value("the log", id, format!("sequence {seq} is missing")));
            if records.is_empty() {
                return missing(after + 1);
            }
            let key = self.sealer.room_key(id).await.map_err(refuse::not_done)?;
            for record in &records {
                if record.seq != after + 1 {
                    return missing(after + 1);
                }
                after = record.seq;
                let message = message::read(key.open(id, record).map_err(refuse::not_done)?);
                let message = message.map_err(refuse::not_done)?;
                if let Some(Content::Membership(change)) = &message.content {
                    let event =
                        Event::from_wire(change).map_err(|e| refuse::damaged_value("an event", id, e))?;
                    state.apply(message.seq, &event);
                }
            }
        }
        Ok(())
    }

    /// Stores a group's state when many messages came after the stored one.
    pub(crate) fn store_fold(self: &Arc<Self>, room: &Arc<Room>, seq: u64) {
        let mut inner = room.lock();
        let late = inner.state.kind() == wire::RoomKind::Group && seq >= inner.folded + FOLD_EVERY;
        let due = late && !std::mem::replace(&mut inner.folding, late);
        drop(inner);
        if due {
            let (core, room) = (self.clone(), room.clone());
            self.tasks.spawn(async move {
                let _turn = room.changing.lock().await;
                if let Err(refusal) = core.store_state(&room).await {
                    tracing::warn!(room = %room.id, %refusal, "the state of the room was not stored; its log has it");
                }
                room.lock().folding = false;
            });
        }
    }

    /// Stores the state of a room up to its last durable message. The caller holds `changing`, so no change of members is
    /// on its way. False: the room is broken, and what is in memory is not to be stored.
    pub(crate) async fn store_state(&self, room: &Room) -> Result<bool, Refusal> {
        let (folded, value) = {
            let inner = room.lock();
            if inner.broken_now() {
                return Ok(false);
            }
            let folded = inner.sequencer.durable();
            (folded, inner.state.to_stored(folded, inner.first).encode_to_vec())
        };
        let put = Mutation::Put { table: Table::Rooms, key: room.id.to_wire(), value: value.into() };
        self.engine.write(vec![put]).await.map_err(refuse::write_failed)?;
        room.lock().folded = folded;
        Ok(true)
    }
}
