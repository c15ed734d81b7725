//! Backup of a running store into one file, and restoring it.
//!
//! The file is engine-neutral and of one moment: `name and form | frames | SHA-256 of everything before`, each frame a length
//! (four bytes, big-endian) and a protobuf message. Everything in it is sealed as it is in the store; the key file is
//! *not* in it, only the ids of the keys that are needed. A file that is cut short, altered or longer than it should be is
//! refused before anything is written, and a restore that fails leaves no store behind.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use buslane_shared::id::{ClientId, RoomId};
use buslane_shared::{UnixMs, frame};
use bytes::BytesMut;
use prost::Message;

use crate::boundary::{StoreError, Table, Versioned};
use crate::export::{Entry, Export, ExportError};
use crate::fjall_engine::{FjallEngine, OpenError};
use crate::space::{Space, TABLES};

/// First bytes of a backup, before the number of its form.
const NAME: &[u8; 15] = b"buslane backup\0";

/// Number of the form that is written and read.
const FORM: u8 = 1;

/// Bytes of the checksum at the end.
const SUM_BYTES: usize = 32;

/// Entries are gathered into frames of about this size: few enough to be quick, small enough to hold in memory.
const FRAME_BYTES: usize = 256 * 1024;

/// Largest frame that is read: a gathered one and the largest single value behind it.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A restored store may be older than one that went on after the backup, with the same keys. Its epochs begin this much
/// higher, and a random bit more, so that the two never use the same nonce.
const EPOCH_JUMP: u32 = 1 << 20;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Summary {
    /// When it was made.
    pub taken_at_ms: UnixMs,
    /// Messages and events in it.
    pub records: u64,
    /// Everything in it.
    pub entries: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Ids of the keys that the key file must hold to read it.
    pub key_ids: BTreeSet<String>,
}

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries so far.
    pub entries: u64,
    /// Bytes of the file so far.
    pub bytes: u64,
}

/// Why there is no backup, or no restored store.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There already is a file of this name.
    #[error("{0} exists already; a backup never overwrites, choose another name")]
    Exists(PathBuf),
    /// The file cannot be read or written.
    #[error("{path} cannot be used: {error}; check the path, its permissions and the disk")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else.
    #[error("{0} is not a backup of buslane; choose another file")]
    NotABackup(PathBuf),
    /// A newer version has made it.
    #[error(
        "{path} is a backup of form {found}, this version reads form {known}; restore it with a newer version"
    )]
    NewerForm {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u8,
        /// The form that is known.
        known: u8,
    },
    /// It was cut short or altered.
    #[error("{path} is not a whole backup ({reason}); nothing was restored, use another copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store cannot be read.
    #[error("the store cannot be read: {0}; the backup was not made")]
    Store(#[from] StoreError),
    /// The folder cannot take the backup.
    #[error(transparent)]
    Folder(#[from] OpenError),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    |error| BackupError::Io { path: path.to_owned(), error }
}

fn damaged(path: &Path, reason: impl Into<String>) -> BackupError {
    BackupError::Damaged { path: path.to_owned(), reason: reason.into() }
}

/// Writes everything that `engine` holds at this moment into a new file. Blocks for as long as that takes; appends go
/// on meanwhile. Until it is whole the file is called `<name>.partial`.
pub fn backup(
    engine: &dyn Export,
    path: &Path,
    now_ms: UnixMs,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, BackupError> {
    if path.try_exists().map_err(io_error(path))? {
        return Err(BackupError::Exists(path.to_owned()));
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let written = write_all(engine, file.map_err(io_error(&partial))?, now_ms, progress);
    let summary = written.map_err(|error| {
        // Half a backup is worth nothing, and the disk may be full of it.
        let _ = fs::remove_file(&partial);
        match error {
            ExportError::Store(error) => BackupError::Store(error),
            ExportError::Sink(error) => io_error(&partial)(error),
        }
    })?;
    fs::rename(&partial, path).and_then(|()| crate::sync_parent(path)).map_err(io_error(path))?;
    Ok(summary)
}

fn write_all(
    engine: &dyn Export,
    file: File,
    now_ms: UnixMs,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ExportError> {
    let mut out =
        Output { file: BufWriter::with_capacity(1 << 20, file), sum: Context::new(&SHA256), bytes: 0 };
    let mut summary = Summary { taken_at_ms: now_ms, ..Summary::default() };
    out.write(NAME)?;
    out.write(&[FORM])?;
    let mut gathered = Frame::default();
    let mut gathered_bytes = 0;
    engine.export(&mut |entry| {
        summary.count(&entry);
        let item = Item::from(entry);
        gathered_bytes += item.encoded_len();
        gathered.items.push(item);
        if gathered_bytes >= FRAME_BYTES {
            out.frame(&gathered)?;
            gathered.items.clear();
            gathered_bytes = 0;
            progress(Progress { entries: summary.entries, bytes: out.bytes });
        }
        Ok(())
    })?;
    gathered.end = Some(End::from(&summary));
    out.frame(&gathered)?;
    summary.bytes = out.finish()?;
    progress(Progress { entries: summary.entries, bytes: summary.bytes });
    Ok(summary)
}

/// Reads a backup from beginning to end and says what is in it, or what is wrong with it.
pub fn verify(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Summary, BackupError> {
    read_all(path, progress, &mut |_| Ok(()))
}

/// Makes a store in `folder`, which is new or empty, out of a backup. Blocks for as long as that takes. The file is
/// verified as a whole first; the folder only becomes a store when everything is in it and on the disk.
pub fn restore(
    path: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, BackupError> {
    verify(path, &mut |_| ())?;
    let bits = crate::random::<4>()
        .ok_or_else(|| io_error(path)(io::Error::other("the system gives no random bytes")))?;
    let jump = EPOCH_JUMP + u32::from_be_bytes(bits) % EPOCH_JUMP;
    let mut summary = Summary::default();
    FjallEngine::restore(folder, |take| {
        summary = read_all(path, progress, &mut |mut entries| {
            for entry in &mut entries {
                if let Entry::Lease { epoch, .. } = entry {
                    let raised = epoch.checked_add(jump);
                    *epoch = raised.ok_or_else(|| damaged(path, "the epochs of a shard are used up"))?;
                }
            }
            take(entries).map_err(|e| io_error(folder)(io::Error::other(e.to_string())))
        })?;
        Ok::<(), BackupError>(())
    })?;
    Ok(summary)
}

type Take<'a> = dyn FnMut(Vec<Entry>) -> Result<(), BackupError> + 'a;

fn read_all(
    path: &Path,
    progress: &mut dyn FnMut(Progress),
    take: &mut Take<'_>,
) -> Result<Summary, BackupError> {
    let file = File::open(path).map_err(io_error(path))?;
    let bytes = file.metadata().map_err(io_error(path))?.len();
    let mut input = Input {
        path,
        file: BufReader::with_capacity(1 << 20, file),
        left: bytes.saturating_sub(SUM_BYTES as u64),
        sum: Context::new(&SHA256),
    };
    input.beginning()?;
    let mut summary = Summary { bytes, ..Summary::default() };
    loop {
        let frame = input.frame()?;
        let entries: Option<Vec<Entry>> = frame.items.into_iter().map(Item::into_entry).collect();
        let entries = entries.ok_or_else(|| damaged(path, "an entry does not decode"))?;
        entries.iter().for_each(|entry| summary.count(entry));
        take(entries)?;
        progress(Progress { entries: summary.entries, bytes: bytes - SUM_BYTES as u64 - input.left });
        if let Some(end) = frame.end {
            summary.taken_at_ms = end.taken_at_ms;
            input.finish()?;
            return if End::from(&summary) == end {
                Ok(summary)
            } else {
                Err(damaged(path, "it holds something else than it says"))
            };
        }
    }
}

impl Summary {
    fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        match entry {
            Entry::Record { .. } => self.records += 1,
            Entry::Value { table: Table::Keys, value, .. } => {
                // What is no wrapped key does not need one.
                self.key_ids.extend(crate::keywrap::key_id(&value.value));
            }
            _ => {}
        }
    }
}

struct Output {
    file: BufWriter<File>,
    sum: Context,
    bytes: u64,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        frame::encode(frame, &mut bytes);
        self.write(&bytes)
    }

    fn finish(mut self) -> io::Result<u64> {
        self.file.write_all(self.sum.finish().as_ref())?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(self.bytes + SUM_BYTES as u64)
    }
}

struct Input<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Bytes before the checksum that were not read yet.
    left: u64,
    sum: Context,
}

impl Input<'_> {
    fn read(&mut self, bytes: usize) -> Result<Vec<u8>, BackupError> {
        if bytes as u64 > self.left {
            return Err(damaged(self.path, "it ends early"));
        }
        let mut out = vec![0; bytes];
        self.file.read_exact(&mut out).map_err(io_error(self.path))?;
        self.sum.update(&out);
        self.left -= bytes as u64;
        Ok(out)
    }

    fn beginning(&mut self) -> Result<(), BackupError> {
        let not_ours = |_| BackupError::NotABackup(self.path.to_owned());
        if self.read(NAME.len()).map_err(not_ours)? != NAME {
            return Err(BackupError::NotABackup(self.path.to_owned()));
        }
        match self.read(1)?.first() {
            Some(&FORM) => Ok(()),
            Some(&found) if found > FORM => {
                Err(BackupError::NewerForm { path: self.path.to_owned(), found, known: FORM })
            }
            _ => Err(BackupError::NotABackup(self.path.to_owned())),
        }
    }

    fn frame(&mut self) -> Result<Frame, BackupError> {
        let prefix = self.read(frame::PREFIX_BYTES)?;
        let len = <[u8; 4]>::try_from(&prefix[..]).map_or(usize::MAX, |p| u32::from_be_bytes(p) as usize);
        if len > FRAME_BYTES_MAX {
            return Err(damaged(self.path, "a length is out of bounds"));
        }
        Frame::decode(&self.read(len)?[..]).map_err(|_| damaged(self.path, "a frame does not decode"))
    }

    fn finish(mut self) -> Result<(), BackupError> {
        if self.left > 0 {
            return Err(damaged(self.path, "something follows its end"));
        }
        let mut sum = [0; SUM_BYTES];
        self.file.read_exact(&mut sum).map_err(|_| damaged(self.path, "it ends early"))?;
        let is_right = self.sum.finish().as_ref() == sum;
        if is_right { Ok(()) } else { Err(damaged(self.path, "its checksum is another")) }
    }
}

/// The form of a frame. Numbers of fields are never used twice.
#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Item>,
    /// In the last frame.
    #[prost(message, optional, tag = "2")]
    end: Option<End>,
}

#[derive(Clone, PartialEq, Message)]
struct End {
    #[prost(uint64, tag = "1")]
    taken_at_ms: u64,
    #[prost(uint64, tag = "2")]
    records: u64,
    #[prost(uint64, tag = "3")]
    entries: u64,
    #[prost(string, repeated, tag = "4")]
    key_ids: Vec<String>,
}

impl From<&Summary> for End {
    fn from(summary: &Summary) -> Self {
        Self {
            taken_at_ms: summary.taken_at_ms,
            records: summary.records,
            entries: summary.entries,
            key_ids: summary.key_ids.iter().cloned().collect(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Item {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Record(RecordItem),
    #[prost(message, tag = "2")]
    Trimmed(TrimmedItem),
    #[prost(message, tag = "3")]
    Value(ValueItem),
    #[prost(message, tag = "4")]
    Lease(LeaseItem),
    #[prost(uint64, tag = "5")]
    Revisions(u64),
}

#[derive(Clone, PartialEq, Message)]
struct RecordItem {
    #[prost(bytes = "bytes", tag = "1")]
    room: bytes::Bytes,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(string, tag = "3")]
    sender: String,
    #[prost(bytes = "bytes", tag = "4")]
    client_id: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    bytes: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct TrimmedItem {
    #[prost(bytes = "bytes", tag = "1")]
    room: bytes::Bytes,
    #[prost(uint64, tag = "2")]
    head: u64,
    #[prost(uint64, tag = "3")]
    floor: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueItem {
    #[prost(string, tag = "1")]
    table: String,
    #[prost(bytes = "bytes", tag = "2")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    value: bytes::Bytes,
    #[prost(uint64, tag = "4")]
    revision: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseItem {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint32, tag = "2")]
    epoch: u32,
    #[prost(string, tag = "3")]
    owner: String,
}

impl From<Entry> for Item {
    fn from(entry: Entry) -> Self {
        let kind = match entry {
            Entry::Record { room, seq, sender, client_id, bytes } => Kind::Record(RecordItem {
                room: room.to_wire(),
                seq,
                sender: sender.as_str().to_owned(),
                client_id: client_id.to_wire(),
                bytes,
            }),
            Entry::Trimmed { room, head, floor } => {
                Kind::Trimmed(TrimmedItem { room: room.to_wire(), head, floor })
            }
            Entry::Value { table, key, value } => Kind::Value(ValueItem {
                table: Space::Kv(table).name().to_owned(),
                key,
                value: value.value,
                revision: value.revision,
            }),
            Entry::Lease { shard, epoch, owner } => {
                Kind::Lease(LeaseItem { shard: shard.into(), epoch, owner })
            }
            Entry::Revisions { reserved } => Kind::Revisions(reserved),
        };
        Self { kind: Some(kind) }
    }
}

impl Item {
    fn into_entry(self) -> Option<Entry> {
        Some(match self.kind? {
            Kind::Record(item) => Entry::Record {
                room: RoomId::try_from(&item.room).ok()?,
                seq: item.seq,
                sender: item.sender.parse().ok()?,
                client_id: ClientId::try_from(&item.client_id).ok()?,
                bytes: item.bytes,
            },
            Kind::Trimmed(item) => Entry::Trimmed {
                room: RoomId::try_from(&item.room).ok()?,
                head: item.head,
                floor: item.floor,
            },
            Kind::Value(item) => Entry::Value {
                table: TABLES.into_iter().find(|table| Space::Kv(*table).name() == item.table)?,
                key: Some(item.key).filter(|key| !key.is_empty())?,
                value: Versioned { revision: item.revision, value: item.value },
            },
            Kind::Lease(item) => {
                Entry::Lease { shard: item.shard.try_into().ok()?, epoch: item.epoch, owner: item.owner }
            }
            Kind::Revisions(reserved) => Entry::Revisions { reserved },
        })
    }
}

#[cfg(test)]
mod tests;
