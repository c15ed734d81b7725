//! The boundaries between Buslane and a storage engine.
//!
//! Every engine passes the same conformance suite (`conformance.rs`). The contract is written so that a replicated engine
//! fits behind it as well as a local one: nothing here needs a transaction over two keys, only the order of writes.

use std::sync::Arc;

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Fences an owner of shards: a later owner has a higher epoch, and an append with a lower one is refused. It also is the
/// first part of every nonce, so no owner ever uses a nonce of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk has too little room left. Nothing was written; it heals by itself when there is room again.
    #[error("the disk of the store has less than {needed_bytes} bytes left")]
    DiskFull {
        /// What must be free before anything is written.
        needed_bytes: u64,
    },
    /// A write or an fsync failed. What was in flight may or may not be stored; nothing is acknowledged from now on.
    #[error("the store has stopped after an error: {0}")]
    Stopped(Arc<str>),
    /// A newer owner has the shard. Drop what you know of it.
    #[error("another owner has taken over the shard")]
    Fenced,
    /// The record does not continue its room (`seq` is not head + 1). A bug of the owner; nothing was written.
    #[error("a record for sequence {got} does not continue a room whose head is {head}")]
    OutOfSequence {
        /// The room's head.
        head: u64,
        /// The sequence of the record.
        got: u64,
    },
    /// The value was changed by somebody else in the meantime.
    #[error("the value has another revision than expected")]
    Conflict,
    /// A key or value is out of bounds. A bug of the caller; nothing was written.
    #[error("not written: {0}")]
    Unfit(&'static str),
    /// A stored record does not open or does not decode. It is reported, never skipped.
    #[error("damaged record: {0}")]
    Damaged(String),
}

/// A sealed record on its way into the log.
#[derive(Debug, Clone)]
pub struct SealedRecord {
    /// The conversation.
    pub room: RoomId,
    /// The next sequence of the room: head + 1.
    pub seq: u64,
    /// Who sent it; with `client_id` the key of idempotency.
    pub sender: UserId,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// The encoded record (header and ciphertext).
    pub bytes: Bytes,
}

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the room.
    pub seq: u64,
    /// The encoded record (header and ciphertext).
    pub bytes: Bytes,
}

/// A place in the engine's bounded queue. Dropped without use, it is given back.
#[must_use]
pub struct Reservation(pub(crate) tokio::sync::OwnedSemaphorePermit);

/// The log of all rooms: durable, ordered, append-only but for trimming.
pub trait RoomLog: Send + Sync + 'static {
    /// Waits for a place in the write queue. Bounded: 4096 places, because latency grows with depth and throughput no longer does.
    ///
    /// This is where a full disk is told ([`StoreError::DiskFull`]), before anything was sealed: a place that was given
    /// out is honoured, so that a sealed record is never refused for want of room and its nonce never used twice.
    fn reserve(&self) -> BoxFuture<'_, Result<Reservation, StoreError>>;

    /// Queues `record` before it returns (so the order of calls is the order of the log); the future is ready when the
    /// record is on stable storage. Dropping the future does not take the record back.
    ///
    /// `fence` is the epoch that [`Leases::acquire`] gave for the room's shard; any other is [`StoreError::Fenced`]. After
    /// any error the owner forgets the shard and acquires it anew: it never seals another record with the same sequence
    /// and epoch.
    fn append(
        &self,
        place: Reservation,
        fence: Epoch,
        record: SealedRecord,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Records after `after`, ascending, at most `limit` and about `max_bytes` (at least one, if there is one).
    fn read(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>>;

    /// Records before `before`, descending, likewise.
    fn read_back(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>>;

    /// The last durable sequence of a room, 0 for an empty one. Survives trimming.
    fn head(&self, room: RoomId) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The sequence under which this client id is stored in the room, if it is.
    fn find(&self, room: RoomId, sender: &UserId, client_id: ClientId) -> Result<Option<u64>, StoreError>;

    /// Removes the records below `before` and their client ids. The head stays.
    fn trim(&self, room: RoomId, before: u64) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// Tables of the key-value part. Each is a keyspace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// user → account
    Users,
    /// user | device → device
    Devices,
    /// room → state of the room: kind, title, members, and the sequence up to which the log is folded into it
    Rooms,
    /// user | room → the user's list of rooms (a hint, checked against `Rooms`)
    UserRooms,
    /// room | user [| device] → cursors
    Cursors,
    /// user | … → settings and blocks
    Settings,
    /// room | epoch → wrapped data key
    Keys,
    /// What the system itself needs: token keys, enrolment codes, format
    System,
}

/// A value and the revision under which it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Grows with every write of the key; never 0.
    pub revision: u64,
    /// The value.
    pub value: Bytes,
}

/// One write of a batch.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Sets a value, whatever was there.
    Put {
        /// Table.
        table: Table,
        /// Key.
        key: Bytes,
        /// Value.
        value: Bytes,
    },
    /// Removes a value, if there is one.
    Delete {
        /// Table.
        table: Table,
        /// Key.
        key: Bytes,
    },
}

/// A change that a watcher sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A value was set.
    Put {
        /// Key.
        key: Bytes,
        /// New value.
        value: Versioned,
    },
    /// A value was removed.
    Deleted {
        /// Key.
        key: Bytes,
    },
    /// The watcher was too slow and has missed changes: scan again.
    Lagged,
}

/// Longest key of a table, in bytes: two user names and what separates them fit several times over.
pub const KEY_BYTES_MAX: usize = 1024;

/// Largest value of a table, in bytes: the state of the largest room is far below it.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Key-value: members, settings, keys and the like. A key has 1 to [`KEY_BYTES_MAX`] bytes, a value at most
/// [`VALUE_BYTES_MAX`]; a write outside of these bounds is refused as [`StoreError::Unfit`]. Every write is durable before its future is ready, and is queued
/// when its future is first polled.
pub trait Kv: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError>;

    /// Writes in the given order. Not a transaction: after a crash a prefix of the batch may be there. Callers order
    /// their writes so that every prefix is harmless.
    fn write(&self, batch: Vec<Mutation>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Sets the value if its revision is still `expected` (`None`: if there is no value). [`StoreError::Conflict`] otherwise.
    fn compare_and_set(
        &self,
        table: Table,
        key: Bytes,
        expected: Option<u64>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<u64, StoreError>>;

    /// Keys that begin with `prefix` and are greater than `after`, ascending, at most `limit`.
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Versioned)>, StoreError>;

    /// Changes of keys that begin with `prefix`, from now on, in order.
    fn watch(&self, table: Table, prefix: &[u8]) -> mpsc::Receiver<Change>;
}

/// Ownership of shards.
pub trait Leases: Send + Sync + 'static {
    /// Takes over `shards` for `owner`: durable, and every earlier owner is fenced. The epochs are in the order of `shards`.
    fn acquire(&self, shards: Vec<u8>, owner: &str) -> BoxFuture<'_, Result<Vec<Epoch>, StoreError>>;
}

/// Everything an engine offers.
pub trait Engine: RoomLog + Kv + Leases {
    /// `None` while the store acknowledges writes, or why it does not.
    fn trouble(&self) -> Option<StoreError>;
}
