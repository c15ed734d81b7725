//! The engine of one machine: fjall (a log-structured merge tree in pure Rust) behind one writer thread.
//!
//! One writer for everything, because fjall syncs under one lock, so that grouping is ours to do; and because revisions,
//! sequences and epochs are then decided in one order. Reads see what is committed and take no part in that.

mod folder;
mod health;
mod journal;
mod trees;
mod upkeep;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::boundary::{
    Change, Engine, Epoch, Kv, Leases, Mutation, Reservation, RoomLog, SealedRecord, StoreError,
    StoredRecord, Table, Versioned,
};
use crate::export::{self, Entry, Export, ExportError};
use crate::ledger::{Command, Ledger, Outcome, Trim};
use crate::reading::{self, Page};
use crate::space::{Order, damaged};
use crate::watching::Watchers;
use crate::{FREE_BYTES_MIN, PLACES};

use folder::Folder;
pub use folder::{FORMAT, OpenError};
use health::Health;
use trees::Trees;
use upkeep::Upkeep;
use writer::{Queued, Writer};

/// Key-value writes that wait for their commit. They are rarer than appends and may be larger.
const KV_PLACES: usize = 1024;

/// A page of the log up to this is read at once; a longer one may touch the disk often and goes to the blocking pool.
const INLINE_RECORDS_MAX: usize = 32;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for blocks that were read, in bytes.
    pub cache_bytes: u64,
    /// What must be free on the disk before anything more is taken, in bytes.
    pub free_bytes_min: u64,
}

impl Default for Options {
    /// 64 MiB of cache: the newest messages are in the memory tables anyway.
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, free_bytes_min: FREE_BYTES_MIN }
    }
}

/// A store in a folder.
pub struct FjallEngine {
    trees: Trees,
    queue: Option<mpsc::UnboundedSender<Queued>>,
    places: Arc<Semaphore>,
    kv_places: Arc<Semaphore>,
    health: Arc<Health>,
    watchers: Arc<Watchers>,
    writer: Option<JoinHandle<()>>,
    upkeep: Option<Upkeep>,
    #[cfg(test)]
    fails_next: Arc<AtomicBool>,
    /// Given back last.
    _folder: Folder,
}

/// How far background work stands back: a tenth of the processor where others want all of it, which is twice of what it needs.
#[cfg(target_os = "linux")]
const WORKERS_NICE: i32 = 10;

impl FjallEngine {
    /// Opens the store in this folder, or makes one where there is none.
    pub fn open(path: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        let folder = Folder::take(path)?;
        if !folder.holds_store()? {
            folder.create::<OpenError>(|path| make(path, &options).map(|_| ()))?;
        }
        let data = folder.data();
        journal::check(&data)?;
        let trees = open_trees(&data, &options)?;
        let damaged = |e: StoreError| OpenError::Damaged { path: data.clone(), reason: e.to_string() };
        let ledger = Ledger::load(&trees).map_err(damaged)?;
        Self::start(folder, trees, ledger, &options).map_err(folder::unreadable(path))
    }

    /// Makes a store in a new or empty folder out of exported entries. It is whole on disk when this returns; before
    /// that, and if `fill` fails, there is no store in the folder.
    pub fn restore<E: From<OpenError>>(
        path: &Path,
        fill: impl FnOnce(&mut dyn FnMut(Vec<Entry>) -> Result<(), StoreError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let folder = Folder::take(path)?;
        folder.require_empty()?;
        folder.create(|data| {
            let trees = make(data, &Options::default())?;
            let mut take = |entries: Vec<Entry>| {
                let puts = entries.into_iter().flat_map(export::puts).collect();
                trees.write(puts, fjall::PersistMode::Buffer)
            };
            fill(&mut take)?;
            let unreadable = |e: StoreError| OpenError::Unreadable {
                path: data.to_owned(),
                error: std::io::Error::other(e.to_string()),
            };
            trees.sync().map_err(unreadable)?;
            Ok(())
        })
    }

    fn start(folder: Folder, trees: Trees, ledger: Ledger, options: &Options) -> std::io::Result<Arc<Self>> {
        let (queue, receiver) = mpsc::unbounded_channel();
        let health = Arc::new(Health::new(folder.path(), options.free_bytes_min));
        let watchers = Arc::new(Watchers::default());
        let is_committing = Arc::new(AtomicBool::new(false));
        #[cfg(test)]
        let fails_next = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            trees: trees.clone(),
            ledger,
            queue: receiver,
            health: Arc::clone(&health),
            watchers: Arc::clone(&watchers),
            is_committing: Arc::clone(&is_committing),
            #[cfg(test)]
            fails_next: Arc::clone(&fails_next),
        };
        let upkeep = Upkeep::start(&trees, &health, is_committing)?;
        Ok(Arc::new(Self {
            trees,
            queue: Some(queue),
            places: Arc::new(Semaphore::new(PLACES)),
            kv_places: Arc::new(Semaphore::new(KV_PLACES)),
            health,
            watchers,
            writer: Some(writer.spawn()?),
            upkeep: Some(upkeep),
            #[cfg(test)]
            fails_next,
            _folder: folder,
        }))
    }

    /// A key-value write, a trim or a lease: waits for a place, then for the commit. The future holds nothing that keeps
    /// the engine open.
    fn submit(&self, command: Command, room: Room) -> BoxFuture<'static, Result<Outcome, StoreError>> {
        let health = Arc::clone(&self.health);
        let places = Arc::clone(&self.kv_places);
        let queue = self.queue.as_ref().map(mpsc::UnboundedSender::downgrade);
        Box::pin(async move {
            match room {
                Room::Needed => health.accepts()?,
                Room::NotNeeded => health.running()?,
            }
            let place = places.acquire_owned().await.map_err(|_| closed())?;
            let queue = queue.and_then(|queue| queue.upgrade()).ok_or_else(closed)?;
            let (done, answer) = oneshot::channel();
            // A closed queue drops `done`, which the answer tells.
            let _ = queue.send(Queued { command, done, place });
            drop(queue);
            answer.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn page(&self, page: Page) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        Box::pin(async move {
            if page.limit <= INLINE_RECORDS_MAX {
                return reading::page(&self.trees, page);
            }
            let trees = self.trees.clone();
            let read = tokio::task::spawn_blocking(move || reading::page(&trees, page)).await;
            read.unwrap_or_else(|e| Err(damaged(format!("reading has failed: {e}"))))
        })
    }
}

/// Whether a write is only taken while the disk has room.
#[derive(Debug, Clone, Copy)]
enum Room {
    Needed,
    /// It makes room, or is so small that a full disk must not prevent a start.
    NotNeeded,
}

fn closed() -> StoreError {
    StoreError::Stopped("it was closed".into())
}

/// Makes an empty database.
fn make(path: &Path, options: &Options) -> Result<Trees, OpenError> {
    let trees = open_trees(path, options)?;
    let unreadable = |e: StoreError| folder::unreadable(path)(std::io::Error::other(e.to_string()));
    trees.sync().map_err(unreadable)?;
    Ok(trees)
}

fn open_trees(path: &Path, options: &Options) -> Result<Trees, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    // The database asserts what it expects of its files; a damaged one must not end the process without a word.
    match catch_unwind(AssertUnwindSafe(|| yielding(|| Trees::open(path, options.cache_bytes)))) {
        Ok(Ok(trees)) => Ok(trees),
        Ok(Err(fjall::Error::Locked)) => Err(OpenError::InUse(path.to_owned())),
        Ok(Err(fjall::Error::Io(error))) => Err(OpenError::Unreadable { path: path.to_owned(), error }),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("its files contradict each other".into())),
    }
}

/// Runs this on a thread that yields to others; the threads that it starts inherit that.
///
/// What the database does in the background (writing memory tables out, compaction) keeps a processor busy for half a second
/// every ten seconds at a few thousand messages a second. On a full processor it then took two thirds of it from the messages:
/// they waited 350 ms at the 99th percentile, measured with `buslane load run steady --pin`.
#[cfg(target_os = "linux")]
fn yielding<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            // On Linux this is the thread's alone. It is a wish: without it everything works all the same.
            if let Err(error) = rustix::process::nice(WORKERS_NICE) {
                tracing::warn!(%error, "the background work of the store has the usual priority");
            }
            work()
        };
        match scope.spawn(run).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Elsewhere the priority is that of the whole process.
#[cfg(not(target_os = "linux"))]
fn yielding<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    work()
}

impl Drop for FjallEngine {
    /// Finishes what is queued, so that whoever opens the folder next finds it.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.writer.take() {
            let _ = thread.join();
        }
        // After the writer: also its last commit may be stuck, and only the watch ends that.
        drop(self.upkeep.take());
    }
}

impl RoomLog for FjallEngine {
    fn reserve(&self) -> BoxFuture<'_, Result<Reservation, StoreError>> {
        Box::pin(async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
            self.health.accepts()?;
            Ok(Reservation(place))
        })
    }

    fn append(
        &self,
        place: Reservation,
        fence: Epoch,
        record: SealedRecord,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (done, answer) = oneshot::channel();
        if let Some(queue) = &self.queue {
            let _ = queue.send(Queued { command: Command::Append { fence, record }, done, place: place.0 });
        }
        Box::pin(async { answer.await.unwrap_or_else(|_| Err(closed())).map(|_| ()) })
    }

    fn read(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.page(Page { room, edge: after, order: Order::Ascending, limit, max_bytes })
    }

    fn read_back(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.page(Page { room, edge: before, order: Order::Descending, limit, max_bytes })
    }

    fn head(&self, room: RoomId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { reading::head(&self.trees, room) })
    }

    fn find(&self, room: RoomId, sender: &UserId, client_id: ClientId) -> Result<Option<u64>, StoreError> {
        reading::find(&self.trees, room, sender, client_id)
    }

    fn trim(&self, room: RoomId, before: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        let trim = self.submit(Command::Trim(Trim { room, before, removed: 0 }), Room::NotNeeded);
        Box::pin(async move {
            match trim.await? {
                Outcome::Trimmed(removed) => Ok(removed),
                other => Err(damaged(format!("a trim has the outcome {other:?}"))),
            }
        })
    }
}

impl Kv for FjallEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        reading::value(&self.trees, table, key)
    }

    fn write(&self, batch: Vec<Mutation>) -> BoxFuture<'static, Result<(), StoreError>> {
        let written = self.submit(Command::Write(batch), Room::Needed);
        Box::pin(async { written.await.map(|_| ()) })
    }

    fn compare_and_set(
        &self,
        table: Table,
        key: Bytes,
        expected: Option<u64>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        let set = self.submit(Command::CompareAndSet { table, key, expected, value }, Room::Needed);
        Box::pin(async { set.await.and_then(Outcome::into_revision) })
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Versioned)>, StoreError> {
        reading::scan(&self.trees, table, prefix, after, limit)
    }

    fn watch(&self, table: Table, prefix: &[u8]) -> mpsc::Receiver<Change> {
        self.watchers.add(table, prefix)
    }
}

impl Leases for FjallEngine {
    fn acquire(&self, shards: Vec<u8>, owner: &str) -> BoxFuture<'_, Result<Vec<Epoch>, StoreError>> {
        let acquired = self.submit(Command::Acquire { shards, owner: owner.into() }, Room::NotNeeded);
        Box::pin(async { acquired.await.and_then(Outcome::into_epochs) })
    }
}

impl Engine for FjallEngine {
    fn trouble(&self) -> Option<StoreError> {
        self.health.accepts().err()
    }
}

impl Export for FjallEngine {
    fn export(&self, each: &mut dyn FnMut(Entry) -> std::io::Result<()>) -> Result<(), ExportError> {
        export::walk(&self.trees.freeze(), each)
    }
}

#[cfg(test)]
mod tests;
