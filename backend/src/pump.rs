//! The one task that watches over the commits of a room, in order: for each it hands out the receipt, and only then has the
//! message delivered. There is one while anything is on its way, and none otherwise.

use std::sync::Arc;

use buslane_store::StoreError;
use metrics::counter;

use crate::core::Core;
use crate::cursors::Move;
use crate::refuse;
use crate::room::{Pending, Room};

/// Watches over the commits of one room, in order, until none is on its way.
pub(crate) async fn pump(core: Arc<Core>, room: Arc<Room>) {
    let mut watch = Watch { core: &core, room: &room, finished: false };
    while let Some(commit) = room.next_commit() {
        let result = commit.await;
        let Some(mut pending) = room.settle(&result) else { continue };
        match result {
            Ok(()) => {
                pending.answer(&Ok(()));
                counter!("buslane_backend_commits_total").increment(1);
                core.note_own_read(&room, &pending);
                let seq = pending.message.header.seq;
                core.publish(&room, pending);
                core.store_fold(&room, seq);
            }
            Err(error) => {
                core.epochs.append_failed(room.id, pending.epoch, &error);
                tracing::warn!(room = %room.id, seq = pending.message.header.seq, %error, "append failed");
                counter!("buslane_backend_append_failures_total").increment(1);
                let cause = if matches!(error, StoreError::OutOfSequence { .. }) {
                    room.broken().unwrap_or(error)
                } else {
                    error
                };
                pending.answer(&Err(refuse::write_failed(cause)));
            }
        }
    }
    watch.finished = true;
}

/// Sees to it that a broken room is replaced, also when the pump is dropped or panics.
struct Watch<'a> {
    core: &'a Arc<Core>,
    room: &'a Arc<Room>,
    finished: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.room.abandon();
        }
        if self.room.broken().is_some() {
            self.core.rooms.discard(self.room);
        }
    }
}

impl Core {
    /// The sender has read what he wrote. Written with other cursors, soon.
    fn note_own_read(&self, room: &Arc<Room>, pending: &Pending) {
        let header = &pending.message.header;
        let mut inner = room.lock();
        let nobody_told = inner.own_reads.is_empty();
        inner.own_reads.insert(header.sender.clone(), header.seq);
        drop(inner);
        // Only a hint: when the queue is full, somebody else's move comes soon enough.
        if nobody_told && self.moves.try_send(Move::Own(room.id)).is_err() {
            room.lock().own_reads.clear();
        }
    }
}
