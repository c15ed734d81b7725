//! The engine in memory: the semantics of the real one without a disk, for tests of other parts.
//!
//! It runs the same ledger and the same reads, commits inside the call (so tests with a paused clock never wait for a
//! thread), and can be told to fail the way a disk fails. It is never used where data matter.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use crate::boundary::{
    Change, Engine, Epoch, Kv, Leases, Mutation, Reservation, RoomLog, SealedRecord, StoreError,
    StoredRecord, Table, Versioned,
};
use crate::export::{Entry, Export};
use crate::ledger::{Command, Ledger, Outcome, Trim};
use crate::reading::{self, Page};
use crate::space::{Order, Put, Space, Tree, Visit, damaged};
use crate::watching::Watchers;
use crate::{FREE_BYTES_MIN, PLACES};

/// What would lie on the disk.
#[derive(Clone, Default)]
struct Disk(BTreeMap<Space, BTreeMap<Bytes, Bytes>>);

impl Disk {
    fn commit(&mut self, puts: Vec<Put>) {
        for put in puts {
            let space = self.0.entry(put.space).or_default();
            match put.value {
                Some(value) => space.insert(put.key, value),
                None => space.remove(&put.key),
            };
        }
    }
}

impl Tree for Disk {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(&space).and_then(|s| s.get(key)).cloned())
    }

    fn visit(
        &self,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        each: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let Some(space) = self.0.get(&space) else { return Ok(()) };
        let mut pairs = space.range::<[u8], _>(range);
        let mut next = || if order == Order::Ascending { pairs.next() } else { pairs.next_back() };
        while let Some((key, value)) = next() {
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

struct State {
    disk: Disk,
    ledger: Ledger,
    stopped: Option<StoreError>,
    sync_fails_next: bool,
    disk_is_full: bool,
}

/// An engine whose disk is a map.
pub struct MemoryEngine {
    state: Mutex<State>,
    places: Arc<Semaphore>,
    watchers: Watchers,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Arc<Self> {
        Self::on(Disk::default()).unwrap_or_else(|_| unreachable!("an empty disk loads"))
    }

    fn on(disk: Disk) -> Result<Arc<Self>, StoreError> {
        let ledger = Ledger::load(&disk)?;
        let state = State { disk, ledger, stopped: None, sync_fails_next: false, disk_is_full: false };
        let places = Arc::new(Semaphore::new(PLACES));
        Ok(Arc::new(Self { state: Mutex::new(state), places, watchers: Watchers::default() }))
    }

    /// What a process finds that starts after this one has died: everything that was acknowledged. This engine stops.
    pub fn reopen(&self) -> Result<Arc<Self>, StoreError> {
        let mut state = self.state.lock();
        state.stopped = Some(StoreError::Stopped("the process has died".into()));
        Self::on(state.disk.clone())
    }

    /// The next commit reports an error, as a failed fsync does. Nothing is acknowledged afterwards.
    pub fn fail_next_sync(&self) {
        self.state.lock().sync_fails_next = true;
    }

    /// The disk has no room left.
    pub fn fill_disk(&self) {
        self.state.lock().disk_is_full = true;
    }

    /// The disk has room again.
    pub fn free_disk(&self) {
        self.state.lock().disk_is_full = false;
    }

    /// Changes one byte of the record under this sequence, as a failing disk does.
    pub fn damage(&self, room: RoomId, seq: u64) {
        let mut state = self.state.lock();
        let key = Bytes::copy_from_slice(&crate::space::log_key(room, seq));
        let log = state.disk.0.entry(Space::Log).or_default();
        if let Some(value) = log.get_mut(&key) {
            let mut bytes = value.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            *value = bytes.into();
        }
    }

    fn commit(&self, command: Command) -> Result<Outcome, StoreError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        let State { disk, ledger, .. } = &mut *state;
        let mut staged = ledger.begin();
        let outcome = ledger.stage(disk, command, &mut staged)?;
        if std::mem::take(&mut state.sync_fails_next) {
            let error = StoreError::Stopped("fsync has failed".into());
            state.stopped = Some(error.clone());
            return Err(error);
        }
        state.disk.commit(staged.puts);
        // Under the lock, so that watchers are told in the order of commits. It never waits.
        self.watchers.tell(&staged.changes);
        Ok(outcome)
    }

    fn room_left(&self) -> Result<(), StoreError> {
        let state = self.state.lock();
        match &state.stopped {
            Some(error) => Err(error.clone()),
            None if state.disk_is_full => Err(StoreError::DiskFull { needed_bytes: FREE_BYTES_MIN }),
            None => Ok(()),
        }
    }
}

fn ready<T: Send + 'static>(result: Result<T, StoreError>) -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(result))
}

impl RoomLog for MemoryEngine {
    fn reserve(&self) -> BoxFuture<'_, Result<Reservation, StoreError>> {
        Box::pin(async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            self.room_left()?;
            place.map(Reservation).map_err(|_| damaged("the queue is never closed"))
        })
    }

    fn append(
        &self,
        place: Reservation,
        fence: Epoch,
        record: SealedRecord,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let result = self.commit(Command::Append { fence, record }).map(|_| ());
        drop(place);
        ready(result)
    }

    fn read(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        let page = Page { room, edge: after, order: Order::Ascending, limit, max_bytes };
        ready(reading::page(&self.state.lock().disk, page))
    }

    fn read_back(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        let page = Page { room, edge: before, order: Order::Descending, limit, max_bytes };
        ready(reading::page(&self.state.lock().disk, page))
    }

    fn head(&self, room: RoomId) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(reading::head(&self.state.lock().disk, room))
    }

    fn find(&self, room: RoomId, sender: &UserId, client_id: ClientId) -> Result<Option<u64>, StoreError> {
        reading::find(&self.state.lock().disk, room, sender, client_id)
    }

    fn trim(&self, room: RoomId, before: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        let mut trim = Trim { room, before, removed: 0 };
        ready(loop {
            match self.commit(Command::Trim(trim)) {
                Ok(Outcome::TrimOn(rest)) => trim = rest,
                Ok(Outcome::Trimmed(removed)) => break Ok(removed),
                Ok(_) => break Err(damaged("a trim has another outcome")),
                Err(e) => break Err(e),
            }
        })
    }
}

impl Kv for MemoryEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        reading::value(&self.state.lock().disk, table, key)
    }

    fn write(&self, batch: Vec<Mutation>) -> BoxFuture<'static, Result<(), StoreError>> {
        let result = self.room_left().and_then(|()| self.commit(Command::Write(batch)));
        ready(result.map(|_| ()))
    }

    fn compare_and_set(
        &self,
        table: Table,
        key: Bytes,
        expected: Option<u64>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        let command = Command::CompareAndSet { table, key, expected, value };
        ready(self.room_left().and_then(|()| self.commit(command)).and_then(Outcome::into_revision))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Versioned)>, StoreError> {
        reading::scan(&self.state.lock().disk, table, prefix, after, limit)
    }

    fn watch(&self, table: Table, prefix: &[u8]) -> mpsc::Receiver<Change> {
        self.watchers.add(table, prefix)
    }
}

impl Leases for MemoryEngine {
    fn acquire(&self, shards: Vec<u8>, owner: &str) -> BoxFuture<'_, Result<Vec<Epoch>, StoreError>> {
        let command = Command::Acquire { shards, owner: owner.into() };
        ready(self.commit(command).and_then(Outcome::into_epochs))
    }
}

impl Engine for MemoryEngine {
    fn trouble(&self) -> Option<StoreError> {
        self.room_left().err()
    }
}

impl Export for MemoryEngine {
    fn export(
        &self,
        each: &mut dyn FnMut(Entry) -> std::io::Result<()>,
    ) -> Result<(), crate::export::ExportError> {
        let snapshot = self.state.lock().disk.clone();
        crate::export::walk(&snapshot, each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_engine_conforms() {
        struct InMemory;
        impl crate::conformance::Factory for InMemory {
            type Engine = MemoryEngine;

            async fn open(&self) -> Arc<MemoryEngine> {
                MemoryEngine::new()
            }

            async fn reopen(&self, engine: Arc<MemoryEngine>) -> Arc<MemoryEngine> {
                engine.reopen().unwrap()
            }

            fn fail_next_sync(&self, engine: &MemoryEngine) {
                engine.fail_next_sync();
            }
        }
        crate::conformance::run(&InMemory).await;
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_acknowledged() {
        let engine = MemoryEngine::new();
        engine.fail_next_sync();
        let put = || vec![Mutation::Put { table: Table::Users, key: "a".into(), value: "1".into() }];
        assert!(matches!(engine.write(put()).await, Err(StoreError::Stopped(_))));
        assert!(matches!(engine.write(put()).await, Err(StoreError::Stopped(_))));
        assert!(matches!(engine.reserve().await, Err(StoreError::Stopped(_))));
        assert!(matches!(engine.trouble(), Some(StoreError::Stopped(_))));
        assert_eq!(engine.reopen().unwrap().get(Table::Users, b"a"), Ok(None));
    }

    #[tokio::test]
    async fn a_full_disk_is_told_before_anything_is_sealed_and_heals() {
        let engine = MemoryEngine::new();
        engine.fill_disk();
        assert!(matches!(engine.reserve().await, Err(StoreError::DiskFull { .. })));
        engine.free_disk();
        assert!(engine.reserve().await.is_ok());
        assert_eq!(engine.trouble(), None);
    }
}
