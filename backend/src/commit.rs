//! From a received message to its receipt.
//!
//! The receipt is made by the commit and by nothing else: the room's pump hands it out when the store says that the message
//! is on stable storage. A caller that goes away changes nothing: the pump does not belong to it.

use std::sync::Arc;
use std::time::Instant;

use buslane_chassis::trace::{Kind, Span};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::sequencer::Lookup;
use metrics::histogram;
use tokio::sync::MutexGuard;

use crate::core::Core;
use crate::message::Received;
use crate::pump::pump;
use crate::refuse;
use crate::room::{Ready, Receipt, Room, Submitted};

/// How often a message looks again before it gives up: each time means that more messages than a room remembers, or a new
/// epoch, came in between.
const LOOKS_MAX: usize = 16;

impl Core {
    /// Writes a message and waits for its receipt. `None`: there was nothing to write. The turn ends when the message has
    /// its place.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        room: &Arc<Room>,
        received: Received,
        turn: Option<MutexGuard<'_, ()>>,
    ) -> Result<Option<Receipt>, Refusal> {
        let began = Instant::now();
        let parent = received.parent;
        // Up to its place in the room and in the store's queue: is it known, may its sender, which number?
        let mut order = Span::child(parent, "authorise and order", Kind::Internal);
        let key = self.room_key(room).await?;
        let mut place = self.engine.reserve().await.map_err(refuse::not_done)?;
        let mut received = received;
        for _ in 0..LOOKS_MAX {
            self.epochs.renew(&*self.engine, room.id).await.map_err(refuse::not_done)?;
            let Some(epoch) = self.epochs.now(room.id) else { continue };
            let as_of = room.lock().sequencer.durable();
            let found = self.engine.find(room.id, &received.sender, received.client_id);
            let lookup = Lookup { as_of, found: found.map_err(refuse::not_done)? };
            let in_order = self.follows(room, &received)?;
            let ready = Ready { key, epoch, lookup, in_order, now_ms: self.now_ms() };
            let submitted = room.submit(&*self.engine, &self.epochs, received, place, &ready);
            match submitted.inspect_err(|refusal| order.fail(refusal.code.name()))? {
                Submitted::Pending { receipt, start } => {
                    drop((turn, order));
                    let mut commit = Span::child(parent, "commit", Kind::Internal);
                    if start {
                        self.tasks.spawn(pump(self.clone(), room.clone()));
                    }
                    // The pump answers always; should its task be lost, nobody knows whether the message is there.
                    let lost = || Refusal::of(Code::Internal).maybe_applied();
                    let receipt = receipt.await.unwrap_or_else(|_| Err(lost()));
                    let receipt = receipt.inspect_err(|refusal| commit.fail(refusal.code.name()))?;
                    histogram!("buslane_backend_commit_seconds").record(began.elapsed().as_secs_f64());
                    return Ok(Some(receipt));
                }
                Submitted::Known(receipt) => return Ok(Some(receipt)),
                Submitted::Stored(seq) => return self.stored_receipt(room, seq).await.map(Some),
                Submitted::Nothing => return Ok(None),
                Submitted::LookAgain(again, unused) => (received, place) = (again, unused),
            }
        }
        Err(Refusal::new(Code::Busy, "the room is changing too fast; try again"))
    }

    /// Whether the room has what a message is to follow. Over one stream it came before this one, so whatever became of it became of it by now;
    /// where it did not, the client sends this one again.
    fn follows(&self, room: &Room, received: &Received) -> Result<bool, Refusal> {
        let Some(before) = received.after else { return Ok(true) };
        if room.lock().sequencer.remembers(&(received.sender.clone(), before)) {
            return Ok(true);
        }
        let found = self.engine.find(room.id, &received.sender, before).map_err(refuse::not_done)?;
        Ok(found.is_some())
    }

    /// The receipt of a message that is in the log.
    async fn stored_receipt(&self, room: &Room, seq: u64) -> Result<Receipt, Refusal> {
        let records =
            self.engine.read(room.id, seq.saturating_sub(1), 1, 1).await.map_err(refuse::not_done)?;
        let record = records.first().filter(|r| r.seq == seq);
        let record =
            record.ok_or_else(|| refuse::damaged_value("the log", room.id, format!("{seq} is missing")))?;
        let open = self.room_key(room).await?.open(room.id, record).map_err(refuse::not_done)?;
        Ok(Receipt { seq, sent_at_ms: open.header.sent_at_ms, duplicate: true })
    }
}
