//! What a device remembers: its credential, its outbox and its cursors, in one redb file with one writer thread.
//!
//! The writer takes everything that was queued and commits it at once, so a burst of sends costs one fsync. Nothing waits
//! for the disk but a send: a cursor or a receipt that is lost in a crash only means that something is asked for, or sent,
//! once more. After an error of the disk nothing is promised any more.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use buslane_shared::id::{ClientId, RoomId};
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use redb::{Database, DatabaseError, ReadableTable, TableDefinition};

use crate::error::{Error, Refused};
use crate::gate::Credential;
use crate::identity::private_file;

const FILE: &str = "client.redb";

/// Version of the file. A newer one is refused, never guessed at.
const FORMAT: u64 = 1;

/// Pages kept in memory: cursors and outbox of a phone fit many times over.
const CACHE_BYTES: usize = 1024 * 1024;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const OUTBOX: TableDefinition<u64, &[u8]> = TableDefinition::new("outbox");
const CURSORS: TableDefinition<[u8; 16], u64> = TableDefinition::new("cursors");

/// Which parts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Credential, outbox and cursors.
    Everything,
    /// The credential.
    Identity,
}

/// A send of an earlier run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeptSend {
    pub ordinal: u64,
    pub room: RoomId,
    pub client_id: ClientId,
    pub send: wire::Send,
    pub failure: Option<Refused>,
}

/// What an earlier run left.
#[derive(Default)]
pub(crate) struct Kept {
    pub credential: Option<Credential>,
    /// This device has compared its cursors with the room list at least once.
    pub seen_rooms: bool,
    pub cursors: HashMap<RoomId, u64>,
    pub outbox: Vec<KeptSend>,
}

/// Told about sends that are on the disk, or that cannot be.
pub(crate) type OnStored = Arc<dyn Fn(&[u64], Result<(), Error>) + Send + Sync>;

enum Change {
    Put { ordinal: u64, bytes: Vec<u8>, awaited: bool },
    Remove { ordinal: u64 },
    Meta { key: &'static str, bytes: Vec<u8> },
}

#[derive(Default)]
struct Queue {
    changes: Vec<Change>,
    cursors: HashMap<RoomId, u64>,
    closing: bool,
    broken: Option<Error>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.cursors.is_empty()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    on_stored: Mutex<Option<OnStored>>,
}

/// A handle of the state on this device.
pub(crate) struct Store {
    disk: Option<Disk>,
    keep: Keep,
}

struct Disk {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl Store {
    /// Keeps nothing.
    pub fn memory() -> Self {
        Self { disk: None, keep: Keep::Identity }
    }

    /// Opens the file in `folder`, made at the first call. Blocks on the disk.
    pub fn open(folder: &Path, user: &str, keep: Keep) -> Result<(Self, Kept), Error> {
        let path = folder.join(FILE);
        // A damaged file must never take the app down with it.
        let opened = catch_unwind(AssertUnwindSafe(|| open(&path, user, keep)));
        let (database, kept) = opened.unwrap_or_else(|_| Err(damaged(&path, "it does not open")))?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            more: Condvar::new(),
            on_stored: Mutex::new(None),
        });
        let writer = Writer { database, path: path.clone(), shared: shared.clone() };
        let thread = std::thread::Builder::new()
            .name("buslane-client-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| unusable(&path, e))?;
        Ok((Self { disk: Some(Disk { shared, thread: Mutex::new(Some(thread)) }), keep }, kept))
    }

    /// Sets who is told about sends that were stored.
    pub fn on_stored(&self, on_stored: OnStored) {
        if let Some(disk) = &self.disk {
            *disk.shared.on_stored.lock() = Some(on_stored);
        }
    }

    /// Keeps a new send; true: it is on its way to the disk, and `on_stored` will tell. False: nothing is kept, go on.
    pub fn keep_new_send(&self, ordinal: u64, send: &wire::Send) -> Result<bool, Error> {
        let Some(disk) = self.outbox() else { return Ok(false) };
        let mut queue = disk.shared.queue.lock();
        if let Some(error) = &queue.broken {
            return Err(error.clone());
        }
        queue.changes.push(Change::Put { ordinal, bytes: encode(send, None), awaited: true });
        disk.shared.more.notify_one();
        Ok(true)
    }

    /// Keeps what has become of a send.
    pub fn keep_send(&self, ordinal: u64, send: &wire::Send, failure: Option<&Refused>) {
        if let Some(disk) = self.outbox() {
            disk.push(Change::Put { ordinal, bytes: encode(send, failure), awaited: false });
        }
    }

    /// Forgets a send.
    pub fn forget_send(&self, ordinal: u64) {
        if let Some(disk) = self.outbox() {
            disk.push(Change::Remove { ordinal });
        }
    }

    /// Keeps how far a room has come.
    pub fn keep_cursor(&self, room: RoomId, seq: u64) {
        if let Some(disk) = self.outbox() {
            let mut queue = disk.shared.queue.lock();
            let cursor = queue.cursors.entry(room).or_default();
            *cursor = seq.max(*cursor);
            disk.shared.more.notify_one();
        }
    }

    /// Keeps the credential.
    pub fn keep_credential(&self, credential: &Credential) {
        if let Some(disk) = &self.disk {
            let mut bytes = credential.expires_ms.to_be_bytes().to_vec();
            bytes.extend_from_slice(&credential.bytes);
            disk.push(Change::Meta { key: "credential", bytes });
        }
    }

    /// Keeps that the room list was seen.
    pub fn keep_seen_rooms(&self) {
        if let Some(disk) = self.outbox() {
            disk.push(Change::Meta { key: "seen_rooms", bytes: vec![1] });
        }
    }

    /// Writes what is queued and ends the writer. Blocks on the disk; a second call does nothing.
    pub fn close(&self) {
        let Some(disk) = &self.disk else { return };
        disk.shared.queue.lock().closing = true;
        disk.shared.more.notify_one();
        let thread = disk.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer of the client's state has panicked");
        }
    }

    fn outbox(&self) -> Option<&Disk> {
        self.disk.as_ref().filter(|_| self.keep == Keep::Everything)
    }
}

impl Drop for Store {
    /// The thread ends by itself; it is not waited for, because a drop must not block.
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            disk.shared.queue.lock().closing = true;
            disk.shared.more.notify_one();
        }
    }
}

impl Disk {
    fn push(&self, change: Change) {
        let mut queue = self.shared.queue.lock();
        // A broken disk takes nothing any more, and nothing may pile up for it.
        if queue.broken.is_none() {
            queue.changes.push(change);
            self.shared.more.notify_one();
        }
    }
}

struct Writer {
    database: Database,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(self) {
        loop {
            let (changes, cursors) = {
                let mut queue = self.shared.queue.lock();
                while queue.is_empty() && !queue.closing {
                    self.shared.more.wait(&mut queue);
                }
                if queue.is_empty() {
                    return;
                }
                (std::mem::take(&mut queue.changes), std::mem::take(&mut queue.cursors))
            };
            let awaited: Vec<u64> = changes
                .iter()
                .filter_map(|c| match c {
                    Change::Put { ordinal, awaited: true, .. } => Some(*ordinal),
                    _ => None,
                })
                .collect();
            let outcome = self.commit(&changes, &cursors).map_err(|e| unusable(&self.path, e));
            if let Err(error) = &outcome {
                tracing::error!(%error, "the client's state is not written any more");
                let mut queue = self.shared.queue.lock();
                queue.broken = Some(error.clone());
            }
            let on_stored = self.shared.on_stored.lock().clone();
            if let Some(on_stored) = on_stored
                && !awaited.is_empty()
            {
                on_stored(&awaited, outcome);
            }
        }
    }

    fn commit(&self, changes: &[Change], cursors: &HashMap<RoomId, u64>) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let mut outbox = transaction.open_table(OUTBOX)?;
            let mut kept = transaction.open_table(CURSORS)?;
            for change in changes {
                match change {
                    Change::Put { ordinal, bytes, .. } => drop(outbox.insert(ordinal, bytes.as_slice())?),
                    Change::Remove { ordinal } => drop(outbox.remove(ordinal)?),
                    Change::Meta { key, bytes } => drop(meta.insert(*key, bytes.as_slice())?),
                }
            }
            for (room, seq) in cursors {
                kept.insert(room.as_bytes(), seq)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn open(path: &Path, user: &str, keep: Keep) -> Result<(Database, Kept), Error> {
    let shown = path.display().to_string();
    let file = private_file()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| unusable(path, e))?;
    let database =
        redb::Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => Error::StateInUse { path: folder_of(path) },
            DatabaseError::UpgradeRequired(_) => unusable(path, "it was made by another version"),
            DatabaseError::Storage(redb::StorageError::Io(e))
                if e.kind() != std::io::ErrorKind::InvalidData =>
            {
                unusable(path, e)
            }
            other => damaged(path, other),
        })?;
    let kept = read(&database, path, &shown, user, keep)?;
    Ok((database, kept))
}

fn read(database: &Database, path: &Path, shown: &str, user: &str, keep: Keep) -> Result<Kept, Error> {
    let broken = |e: redb::Error| damaged(path, e);
    let transaction = database.begin_write().map_err(|e| broken(e.into()))?;
    let mut kept = Kept::default();
    {
        let mut meta = transaction.open_table(META).map_err(|e| broken(e.into()))?;
        let value = |meta: &redb::Table<'_, &str, &[u8]>, key: &str| {
            meta.get(key).map(|v| v.map(|v| v.value().to_vec())).map_err(|e| broken(e.into()))
        };
        let format = value(&meta, "format")?.map(|b| number(&b));
        match format {
            None => {
                meta.insert("format", &FORMAT.to_be_bytes()[..]).map_err(|e| broken(e.into()))?;
                meta.insert("user", user.as_bytes()).map_err(|e| broken(e.into()))?;
            }
            Some(Some(FORMAT)) => {}
            Some(_) => return Err(unusable(path, "it was made by a newer version; update this program")),
        }
        if let Some(found) = value(&meta, "user")?
            && found != user.as_bytes()
        {
            return Err(Error::StateOfAnother {
                path: folder_of(path),
                found: String::from_utf8_lossy(&found).into_owned(),
                wanted: user.to_owned(),
            });
        }
        kept.seen_rooms = keep == Keep::Everything && value(&meta, "seen_rooms")?.is_some();
        kept.credential = value(&meta, "credential")?.and_then(|b| {
            let (expires, bytes) = b.split_first_chunk::<8>()?;
            Some(Credential {
                bytes: Bytes::copy_from_slice(bytes),
                expires_ms: u64::from_be_bytes(*expires),
            })
        });
        let outbox = transaction.open_table(OUTBOX).map_err(|e| broken(e.into()))?;
        let cursors = transaction.open_table(CURSORS).map_err(|e| broken(e.into()))?;
        if keep == Keep::Everything {
            for row in outbox.iter().map_err(|e| broken(e.into()))? {
                let (ordinal, bytes) = row.map_err(|e| broken(e.into()))?;
                let send = decode(ordinal.value(), bytes.value());
                kept.outbox.push(
                    send.ok_or_else(|| damaged(path, format_args!("a message in {shown} does not decode")))?,
                );
            }
            for row in cursors.iter().map_err(|e| broken(e.into()))? {
                let (room, seq) = row.map_err(|e| broken(e.into()))?;
                kept.cursors.insert(RoomId::from_bytes(room.value()), seq.value());
            }
        }
    }
    transaction.commit().map_err(|e| unusable(path, e))?;
    Ok(kept)
}

/// `4 refusal code, 0 for none | 1 maybe applied | 1 retryable | wire::Send`
fn encode(send: &wire::Send, failure: Option<&Refused>) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + send.encoded_len());
    out.extend_from_slice(&failure.map_or(0, |f| f.code as i32).to_be_bytes());
    out.push(u8::from(failure.is_some_and(|f| f.maybe_applied)));
    out.push(u8::from(failure.is_some_and(|f| f.retryable)));
    send.encode_raw(&mut out);
    out
}

fn decode(ordinal: u64, bytes: &[u8]) -> Option<KeptSend> {
    let (code, rest) = bytes.split_first_chunk::<4>()?;
    let ([maybe_applied, retryable], rest) = rest.split_first_chunk::<2>()?;
    let send = wire::Send::decode(rest).ok()?;
    let failure = match i32::from_be_bytes(*code) {
        0 => None,
        code => Some(Refused {
            maybe_applied: *maybe_applied != 0,
            retryable: *retryable != 0,
            ..Refused::of(Code::try_from(code).unwrap_or_default())
        }),
    };
    let (room, client_id) = (RoomId::try_from(&send.room).ok()?, ClientId::try_from(&send.client_id).ok()?);
    Some(KeptSend { ordinal, room, client_id, send, failure })
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn folder_of(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

fn damaged(path: &Path, detail: impl std::fmt::Display) -> Error {
    Error::StateDamaged { path: path.display().to_string(), detail: detail.to_string() }
}

fn unusable(path: &Path, detail: impl std::fmt::Display) -> Error {
    Error::StateUnusable { path: path.display().to_string(), detail: detail.to_string() }
}

#[cfg(test)]
mod tests;
