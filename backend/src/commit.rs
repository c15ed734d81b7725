//! From a received message to its receipt and its fan-out.
//!
//! The receipt is made by the commit and by nothing else: [`pump`], the one task that watches over a room's commits, hands
//! it out when the store says that the message is on stable storage, and only then hands the message to the session
//! managers. There is one pump for each room with something on its way, so deliveries of a room are in its order. A caller
//! that goes away changes nothing: the pump does not belong to it.

use std::sync::Arc;
use std::time::Instant;

use buslane_shared::notify;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::sequencer::Lookup;
use buslane_shared::wire::{self, event::Kind};
use bytes::Bytes;
use metrics::{counter, histogram};
use prost::Message as _;

use crate::core::Core;
use crate::cursors::Move;
use crate::message::Received;
use crate::refuse;
use crate::registry::Recipient;
use crate::room::{Pending, Ready, Receipt, Room, Submitted};

/// How often a message looks again before it gives up: each time means that 256 messages, or a new epoch, came in between.
const LOOKS_MAX: usize = 16;

/// Messages after which a group's state is stored anew, so that loading it never folds more than about these.
const FOLD_EVERY: u64 = 1_000;

impl Core {
    /// Writes a message and waits for its receipt. `None`: there was nothing to write.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        room: &Arc<Room>,
        received: Received,
    ) -> Result<Option<Receipt>, Refusal> {
        let began = Instant::now();
        let key = self.room_key(room).await?;
        let mut place = self.engine.reserve().await.map_err(refuse::not_done)?;
        let mut received = received;
        for _ in 0..LOOKS_MAX {
            self.epochs.renew(&*self.engine, room.id).await.map_err(refuse::not_done)?;
            let Some(epoch) = self.epochs.now(room.id) else { continue };
            let as_of = room.lock().sequencer.durable();
            let found = self.engine.find(room.id, &received.sender, received.client_id);
            let lookup = Lookup { as_of, found: found.map_err(refuse::not_done)? };
            let ready = Ready { key, epoch, lookup, now_ms: self.now_ms() };
            match room.submit(&*self.engine, &self.epochs, received, place, &ready)? {
                Submitted::Pending { receipt, start } => {
                    if start {
                        self.tracker.spawn(pump(self.clone(), room.clone()));
                    }
                    // The pump answers always; should its task be lost, nobody knows whether the message is there.
                    let lost = || Refusal::of(Code::Internal).maybe_applied();
                    let receipt = receipt.await.unwrap_or_else(|_| Err(lost()))?;
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

    /// Hands a durable message to everybody who was a member when it got its place.
    fn publish(&self, room: &Room, pending: Pending) {
        let Pending { message, audience, roles, .. } = pending;
        for (user, role) in roles {
            self.publish_role(room, &user, role);
        }
        let now_ms = self.now_ms();
        let (sender, mentions) = (message.header.sender.clone(), message.mentions.clone());
        // The device that sent a message has it, and its place with the receipt. A change of members has no receipt.
        let device = message.event.is_none().then_some(message.device);
        let recipients = audience.iter().map(|(user, settings)| {
            let own = *user == sender;
            let settings = settings.unwrap_or_default();
            let mentioned = mentions.binary_search(user).is_ok();
            let notify = !own && notify::wants(&settings, mentioned, now_ms);
            Recipient { user, except: device.filter(|_| own), notify }
        });
        let delivery =
            || event(Kind::Delivery(wire::Delivery { message: Some(message.into_wire()), notify: false }));
        self.registry.deliver(recipients, delivery);
    }

    /// Tells a user that his relation to a room has changed.
    pub(crate) fn publish_role(&self, room: &Room, user: &buslane_shared::id::UserId, role: wire::Role) {
        let changed = wire::RoomChanged { room: room.id.to_wire(), role: role.into() };
        self.registry
            .deliver([Recipient { user, except: None, notify: false }], || event(Kind::Room(changed)));
    }

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

/// An event, encoded once for everybody.
pub(crate) fn event(kind: Kind) -> Bytes {
    wire::Event { no: 0, kind: Some(kind) }.encode_to_vec().into()
}

/// Watches over the commits of one room, in order, until none is on its way.
async fn pump(core: Arc<Core>, room: Arc<Room>) {
    let watch = Watch { core: &core, room: &room };
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
                let cause = if matches!(error, buslane_store::StoreError::OutOfSequence { .. }) {
                    room.broken().unwrap_or(error)
                } else {
                    error
                };
                pending.answer(&Err(refuse::write_failed(cause)));
            }
        }
    }
    watch.done();
}

/// Sees to it that a broken room is replaced, also when the pump is dropped or panics.
struct Watch<'a> {
    core: &'a Arc<Core>,
    room: &'a Arc<Room>,
}

impl Watch<'_> {
    fn done(self) {
        if self.room.broken().is_some() {
            self.core.rooms.discard(self.room);
        }
        std::mem::forget(self);
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.room.abandon();
        self.core.rooms.discard(self.room);
    }
}

impl Core {
    /// Stores a group's state when many messages came after the stored one.
    fn store_fold(self: &Arc<Self>, room: &Arc<Room>, seq: u64) {
        let mut inner = room.lock();
        let late = inner.state.kind() == wire::RoomKind::Group && seq >= inner.folded + FOLD_EVERY;
        let due = late && !std::mem::replace(&mut inner.folding, late);
        drop(inner);
        if due {
            let (core, room) = (self.clone(), room.clone());
            self.tracker.spawn(async move {
                let _turn = room.changing.lock().await;
                if let Err(refusal) = core.store_state(&room).await {
                    tracing::warn!(room = %room.id, %refusal, "the state of the room was not stored; its log has it");
                }
                room.lock().folding = false;
            });
        }
    }

    /// Stores the state of a room up to its last durable message. The caller holds `changing`, so no change of members is
    /// on its way.
    pub(crate) async fn store_state(&self, room: &Room) -> Result<(), Refusal> {
        let (folded, value) = {
            let inner = room.lock();
            if inner.broken_now() {
                return Ok(());
            }
            let folded = inner.sequencer.durable();
            (folded, inner.state.to_stored(folded, inner.first).encode_to_vec())
        };
        let put = buslane_store::Mutation::Put {
            table: buslane_store::Table::Rooms,
            key: room.id.to_wire(),
            value: value.into(),
        };
        self.engine.write(vec![put]).await.map_err(refuse::write_failed)?;
        room.lock().folded = folded;
        Ok(())
    }
}
