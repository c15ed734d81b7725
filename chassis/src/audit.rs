//! What operators have done: one line for each action, written and on the disk *before* the action, each line chained to the
//! one before it by its hash.
//!
//! Why it exists: in the week after a bad night somebody asks who did what, and must be able to trust the answer. A changed
//! byte, a removed, added or exchanged line is found by [`Audit::verify`] and by anybody with `sha256sum`. A tail that was cut
//! off is found as long as the small file beside it, `audit.head`, was not replaced as well; the head is also in the process's
//! log at each entry, for whoever keeps that elsewhere.
//!
//! It must never refuse to go on because it was damaged: it says so, marks the break and continues. And it never removes
//! anything but its own oldest files, beyond a bound.

mod check;
mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{clock, secret};

pub use check::{Damage, Report};
pub use line::Record;

use check::Snapshot;
use line::Hash;

/// A file is closed beyond this: some 20,000 actions.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Files that are kept, the one that is written included: years of operators.
const FILES_MAX: usize = 16;

/// Longest line: far more than any action needs, so that a file which is none of ours is not read into memory.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// Room on the disk that is given back when there is none left: an operator must be able to act just then.
const RESERVE_BYTES: usize = 64 * 1024;

/// Action of the entry that is written where the chain was found damaged.
const BREAK: &str = "audit.break";

/// Author of what the node does by itself.
pub const SELF: &str = "buslane";

/// Why nothing could be written. The action must not be done.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit file {path} cannot be used: {error}; see to the disk: nothing is done that is not recorded"
)]
pub struct AuditError {
    path: PathBuf,
    error: io::Error,
}

/// What is about to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Who.
    pub author: String,
    /// What, as a stable name: "order.emergency", "config.reload".
    pub action: String,
    /// Why.
    pub reason: String,
    /// What holds.
    pub before: Value,
    /// What is to hold.
    pub after: Value,
}

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    no: u64,
    hash: Hash,
}

/// The audit of one node.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    bytes_max: u64,
    inner: Mutex<Inner>,
    /// The turn of those who look: each reads all of it.
    looking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    bytes: u64,
    head: Option<Head>,
}

impl Audit {
    /// Opens the audit of a folder and checks it. What is damaged is in the report, in the log, and marked in the chain.
    pub fn open(folder: &Path) -> Result<(Arc<Self>, Report), AuditError> {
        Self::open_with(folder, FILE_BYTES_MAX)
    }

    pub(crate) fn open_with(folder: &Path, bytes_max: u64) -> Result<(Arc<Self>, Report), AuditError> {
        let at = |error| AuditError { path: current(folder), error };
        let checked = Snapshot::take(folder).and_then(Snapshot::check).map_err(at)?;
        let file = open_current(folder).map_err(at)?;
        let bytes = file.metadata().map_err(at)?.len();
        // Without the reserve everything works until the disk is full.
        let _ = secret::create(&reserve(folder), &[0; RESERVE_BYTES]);
        let inner = Inner { file, bytes, head: checked.head };
        let (inner, looking) = (Mutex::new(inner), Arc::default());
        let audit = Arc::new(Self { folder: folder.to_owned(), bytes_max, inner, looking });
        if let Some(damage) = checked.report.damage.first() {
            tracing::error!(file = %damage.file, line = damage.line, what = damage.what, "the audit is damaged");
            if checked.unmarked {
                audit.mark_break(damage, checked.ends_in_line)?;
            }
        }
        Ok((audit, checked.report))
    }

    /// Writes an entry and waits until it is on the disk; returns its number. Blocks: see [`Audit::record`].
    pub fn write(&self, entry: Entry) -> Result<u64, AuditError> {
        let mut inner = self.inner.lock();
        let failed = |error| AuditError { path: current(&self.folder), error };
        if inner.bytes >= self.bytes_max {
            self.rotate(&mut inner).map_err(failed)?;
        }
        let no = inner.head.as_ref().map_or(1, |head| head.no.saturating_add(1));
        let record = Record {
            no,
            at_ms: clock::unix_ms(),
            author: entry.author,
            action: entry.action,
            reason: entry.reason,
            before: entry.before,
            after: entry.after,
            prev: inner.head.as_ref().map(|head| head.hash.clone()).unwrap_or_default(),
        };
        let (line, hash) = line::encode(&record).map_err(failed)?;
        if line.len() > LINE_BYTES_MAX {
            // It could not be read again, and would look like damage for ever.
            return Err(failed(io::Error::other(format!("an entry has at most {LINE_BYTES_MAX} bytes"))));
        }
        self.append(&mut inner, line.as_bytes()).map_err(failed)?;
        let head = Head { no, hash };
        tracing::info!(no, action = record.action, author = ?record.author, head = head.hash, "audit");
        // Only a witness against a cut tail: the entry itself is on the disk.
        let written = serde_json::to_vec(&head).map_err(io::Error::from);
        if let Err(error) = written.and_then(|bytes| secret::write(&self.folder.join(HEAD), &bytes)) {
            tracing::warn!(%error, "the head of the audit was not written");
        }
        inner.head = Some(head);
        metrics::counter!("buslane_audit_entries_total").increment(1);
        Ok(no)
    }

    /// As [`Audit::write`], without holding up the runtime.
    pub async fn record(self: &Arc<Self>, entry: Entry) -> Result<u64, AuditError> {
        let audit = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || audit.write(entry)).await;
        written.unwrap_or_else(|error| {
            Err(AuditError { path: current(&self.folder), error: io::Error::other(error) })
        })
    }

    /// Checks the whole chain. Blocks.
    pub fn verify(&self) -> Result<Report, AuditError> {
        let checked = self.snapshot()?.check();
        Ok(checked.map_err(|error| AuditError { path: current(&self.folder), error })?.report)
    }

    /// The last entries, oldest first, as far as they can be read. Blocks.
    pub fn last(&self, count: usize) -> Result<Vec<Record>, AuditError> {
        self.snapshot()?.last(count).map_err(|error| AuditError { path: current(&self.folder), error })
    }

    /// The last entries and a check of the whole chain, without holding up the runtime. One after the other: however many look, the threads that
    /// wait for a disk are there for those who act.
    pub async fn look(self: &Arc<Self>, count: usize) -> Result<(Vec<Record>, Report), AuditError> {
        let turn = Arc::clone(&self.looking).lock_owned().await;
        let audit = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            // It is over with the reading, also where nobody waits for that any more.
            let _turn = turn;
            Ok((audit.last(count)?, audit.verify()?))
        });
        read.await.unwrap_or_else(|error| {
            Err(AuditError { path: current(&self.folder), error: io::Error::other(error) })
        })
    }

    /// Nobody writes meanwhile: a line that is half there would look like damage. What takes time, the reading, comes after: an
    /// order does not wait for somebody who looks at the audit.
    fn snapshot(&self) -> Result<Snapshot, AuditError> {
        let _still = self.inner.lock();
        Snapshot::take(&self.folder).map_err(|error| AuditError { path: current(&self.folder), error })
    }

    /// All or nothing, as far as a disk lets one: what was not written whole is taken back.
    fn append(&self, inner: &mut Inner, line: &[u8]) -> io::Result<()> {
        let before = inner.bytes;
        let mut written = append(&mut inner.file, line);
        if written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::StorageFull) {
            inner.file.set_len(before)?;
            std::fs::remove_file(reserve(&self.folder))?;
            tracing::warn!("the disk is full; the audit uses its reserve");
            written = append(&mut inner.file, line);
        }
        match written {
            Ok(()) => inner.bytes = before.saturating_add(line.len() as u64),
            Err(_) => inner.file.set_len(before)?,
        }
        written
    }

    fn rotate(&self, inner: &mut Inner) -> io::Result<()> {
        let files = check::files(&self.folder)?;
        let last = inner.head.as_ref().map_or(0, |head| head.no);
        std::fs::rename(current(&self.folder), self.folder.join(closed_name(last)))?;
        inner.file = open_current(&self.folder)?;
        inner.bytes = 0;
        // The new one counts too.
        let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
        files.iter().take(surplus).try_for_each(std::fs::remove_file)
    }

    fn mark_break(&self, damage: &Damage, ends_in_line: bool) -> Result<(), AuditError> {
        if !ends_in_line {
            let mut inner = self.inner.lock();
            self.append(&mut inner, b"\n")
                .map_err(|error| AuditError { path: current(&self.folder), error })?;
        }
        let entry = Entry {
            author: SELF.to_owned(),
            action: BREAK.to_owned(),
            reason: "what was found when the audit was opened".to_owned(),
            before: json!({"file": damage.file, "line": damage.line, "what": damage.what}),
            after: Value::Null,
        };
        self.write(entry).map(|_| ())
    }
}

/// Checks the chain of a folder that no process writes to. Blocks.
pub fn verify(folder: &Path) -> Result<Report, AuditError> {
    let checked = Snapshot::take(folder)
        .and_then(Snapshot::check)
        .map_err(|error| AuditError { path: current(folder), error })?;
    Ok(checked.report)
}

/// The last entries of a folder that no process writes to, oldest first, as far as they can be read. Blocks.
pub fn last(folder: &Path, count: usize) -> Result<Vec<Record>, AuditError> {
    Snapshot::take(folder)
        .and_then(|all| all.last(count))
        .map_err(|error| AuditError { path: current(folder), error })
}

const HEAD: &str = "audit.head";

fn current(folder: &Path) -> PathBuf {
    folder.join("audit.jsonl")
}

fn reserve(folder: &Path) -> PathBuf {
    folder.join("audit.reserve")
}

/// Sorted by name they are in order.
fn closed_name(last: u64) -> String {
    format!("audit.{last:020}.jsonl")
}

fn open_current(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(current(folder))
}

fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    file.write_all(line)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
