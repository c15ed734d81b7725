//! An engine that says of a message that it is stored while it only remembers it: the last ones of all are lost in a crash.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use buslane_shared::id::{ClientId, RoomId, UserId};
use buslane_store::memory::MemoryEngine;
use buslane_store::{
    Change, Engine, Epoch, Kv, Leases, Mutation, Reservation, RoomLog, SealedRecord, StoreError,
    StoredRecord, Table, Versioned,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Messages that it remembers before it writes the oldest one.
const REMEMBERED: usize = 5;

type Waiting = VecDeque<(Reservation, Epoch, SealedRecord)>;

/// An engine that is in no hurry.
pub struct Forgetful {
    disk: Arc<MemoryEngine>,
    remembered: Mutex<Waiting>,
}

impl Forgetful {
    pub fn over(disk: Arc<MemoryEngine>) -> Arc<Self> {
        Arc::new(Self { disk, remembered: Mutex::default() })
    }
}

impl RoomLog for Forgetful {
    fn reserve(&self) -> BoxFuture<'_, Result<Reservation, StoreError>> {
        self.disk.reserve()
    }

    fn append(
        &self,
        place: Reservation,
        fence: Epoch,
        record: SealedRecord,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut remembered = self.remembered.lock().unwrap();
        remembered.push_back((place, fence, record));
        if remembered.len() <= REMEMBERED {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (place, fence, oldest) = remembered.pop_front().unwrap();
        self.disk.append(place, fence, oldest)
    }

    fn read(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.disk.read(room, after, limit, max_bytes)
    }

    fn read_back(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.disk.read_back(room, before, limit, max_bytes)
    }

    fn head(&self, room: RoomId) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.disk.head(room)
    }

    fn find(&self, room: RoomId, sender: &UserId, client_id: ClientId) -> Result<Option<u64>, StoreError> {
        self.disk.find(room, sender, client_id)
    }

    fn trim(&self, room: RoomId, before: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.disk.trim(room, before)
    }
}

impl Kv for Forgetful {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.disk.get(table, key)
    }

    fn write(&self, batch: Vec<Mutation>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.disk.write(batch)
    }

    fn compare_and_set(
        &self,
        table: Table,
        key: Bytes,
        expected: Option<u64>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.disk.compare_and_set(table, key, expected, value)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Versioned)>, StoreError> {
        self.disk.scan(table, prefix, after, limit)
    }

    fn watch(&self, table: Table, prefix: &[u8]) -> mpsc::Receiver<Change> {
        self.disk.watch(table, prefix)
    }
}

impl Leases for Forgetful {
    fn acquire(&self, shards: Vec<u8>, owner: &str) -> BoxFuture<'_, Result<Vec<Epoch>, StoreError>> {
        self.disk.acquire(shards, owner)
    }
}

impl Engine for Forgetful {
    fn trouble(&self) -> Option<StoreError> {
        self.disk.trouble()
    }
}
