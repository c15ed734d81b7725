//! The fencing epochs under which this node writes: one for each shard.
//!
//! An epoch also is the first half of every nonce. When an append fails, the sequence that it had is given to another
//! message; so the epoch is replaced before the shard seals again, and no nonce ever seals two messages, not even when the
//! first of them never reached the disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use buslane_shared::id::RoomId;
use buslane_store::{Engine, Epoch, StoreError};

/// Shards of all rooms; fixed for ever.
pub(crate) const SHARDS: usize = 256;

/// Marks an epoch that must not seal any more.
const SPENT: u64 = 1 << 63;

/// The epochs of all shards.
pub(crate) struct Epochs {
    owner: String,
    shards: [AtomicU64; SHARDS],
    /// Another owner has taken over: this node writes nothing any more.
    ousted: AtomicBool,
    renewing: tokio::sync::Mutex<()>,
}

impl Epochs {
    /// Takes over all shards.
    pub(crate) async fn take_over(engine: &dyn Engine, owner: &str) -> Result<Self, StoreError> {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let epochs = engine.acquire(all, owner).await?;
        let shards =
            std::array::from_fn(|shard| AtomicU64::new(epochs.get(shard).map_or(SPENT, |e| e.0.into())));
        Ok(Self {
            owner: owner.to_owned(),
            shards,
            ousted: AtomicBool::new(false),
            renewing: tokio::sync::Mutex::new(()),
        })
    }

    fn shard(&self, room: RoomId) -> Option<&AtomicU64> {
        self.shards.get(usize::from(room.shard()))
    }

    /// The epoch that seals for this room now; `None` when it is spent.
    pub(crate) fn now(&self, room: RoomId) -> Option<Epoch> {
        let epoch = self.shard(room)?.load(Ordering::Acquire);
        (epoch & SPENT == 0).then(|| Epoch(u32::try_from(epoch).unwrap_or(u32::MAX)))
    }

    /// Takes a fresh epoch if the present one is spent.
    pub(crate) async fn renew(&self, engine: &dyn Engine, room: RoomId) -> Result<(), StoreError> {
        if self.ousted.load(Ordering::Acquire) {
            return Err(StoreError::Fenced);
        }
        if self.now(room).is_some() {
            return Ok(());
        }
        let _turn = self.renewing.lock().await;
        if self.now(room).is_some() {
            return Ok(());
        }
        let fresh = engine.acquire(vec![room.shard()], &self.owner).await?;
        if let (Some(shard), Some(epoch)) = (self.shard(room), fresh.first()) {
            shard.store(epoch.0.into(), Ordering::Release);
        }
        Ok(())
    }

    /// An append that was sealed under `epoch` failed. If that epoch is still in use, it is spent from now on; if the store
    /// says that it is fenced all the same, somebody else owns the shard.
    pub(crate) fn append_failed(&self, room: RoomId, epoch: Epoch, error: &StoreError) {
        let Some(shard) = self.shard(room) else { return };
        let current = u64::from(epoch.0);
        let was_current =
            shard.compare_exchange(current, current | SPENT, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if was_current && *error == StoreError::Fenced {
            self.ousted.store(true, Ordering::Release);
            tracing::error!(
                shard = room.shard(),
                "another owner has taken over this shard; this node stops writing"
            );
        }
    }
}
