//! The spaces of the store as keyspaces of one fjall database, and how it is tuned.

use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{
    AbstractTree, CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable,
    Snapshot,
};

use crate::boundary::StoreError;
use crate::space::{Order, Put, Space, Tree, Visit, damaged};

/// Journals together, before fjall writes out whatever keeps the oldest one. It bounds what is replayed at start: with
/// the active journal about 200 MiB, a second. (64 MiB is the smallest that fjall takes, and one journal.)
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Memory table of the log. At most five of them wait to be written out.
const LOG_TABLE_BYTES: u64 = 32 * 1024 * 1024;

/// Tables that compaction is behind with, beyond which nothing is written out early: it goes by the processor's time, not by the
/// clock, and fjall slows writes down from 20 of them.
const LEVEL_0_TABLES_MAX: usize = 8;

/// A memory table that holds less than this is left alone: it would be a file of its own.
const SPACE_BYTES_MIN: u64 = 128 * 1024;

/// Four files that are written out are merged with what lies below them, up to 256 MiB: in the calm a memory table is worth a file when it
/// holds this part of what its space has on disk, or [`WORTH_BYTES_MAX`]. So a merge rewrites at most 16 times what is new.
const WORTH_PART: u64 = 64;

const WORTH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Memory table of every other space.
const TABLE_BYTES: u64 = 16 * 1024 * 1024;

/// Threads that write out and merge tables. One would let a long merge hold up the writing out, and with it all appends.
const WORKERS: usize = 2;

/// The keyspaces of an open database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Trees {
    db: Database,
    spaces: Arc<HashMap<Space, Keyspace>>,
    written: Arc<AtomicU64>,
}

/// What memory tables hold that could be written out early.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Waiting {
    /// All that is not too little for a file.
    pub(crate) bytes: u64,
    /// What is worth a file also where there is time.
    pub(crate) worth: u64,
    /// Earlier ones are not written out yet, or compaction is behind.
    pub(crate) is_behind: bool,
}

/// Which memory tables are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All that hold enough for a file.
    All,
    /// Those that hold enough in proportion to what their space has on disk.
    Worth,
}

impl Trees {
    /// Opens the database at `path`, or makes one.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            // Records are ciphertext: compressing them costs time and saves nothing.
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .worker_threads(WORKERS)
            .open()?;
        let open = |space: Space| Ok((space, db.keyspace(space.name(), || options(space))?));
        let spaces = Space::all().map(open).collect::<fjall::Result<_>>()?;
        Ok(Self { spaces: Arc::new(spaces), db, written: Arc::default() })
    }

    /// Writes all of it or nothing, on stable storage when it returns.
    pub(crate) fn commit(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        self.write(puts, PersistMode::SyncData)
    }

    /// Writes without making it durable: for filling a folder that nobody uses yet, or before a crash that a test wants.
    pub(crate) fn write(&self, puts: Vec<Put>, durability: PersistMode) -> Result<(), StoreError> {
        let mut batch = self.db.batch().durability(Some(durability));
        let mut bytes = 0;
        for put in puts {
            bytes += put.key.len() + put.value.as_ref().map_or(0, |value| value.len());
            let space = self.space(put.space)?;
            match put.value {
                Some(value) => batch.insert(space, &put.key[..], &value[..]),
                None => batch.remove(space, &put.key[..]),
            }
        }
        self.written.fetch_add(bytes as u64, Relaxed);
        batch.commit().map_err(|e| StoreError::Stopped(format!("a write has failed: {e}").into()))
    }

    /// Makes everything durable, file sizes and names included.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.db.persist(PersistMode::SyncAll);
        synced.map_err(|e| StoreError::Stopped(format!("fsync has failed: {e}").into()))
    }

    /// Writes every memory table out, as happens by itself when one is full.
    #[cfg(test)]
    pub(crate) fn write_out(&self) -> fjall::Result<()> {
        self.spaces.values().try_for_each(Keyspace::rotate_memtable_and_wait)
    }

    /// Entries that are not in a table on disk yet. They are in the journal.
    #[cfg(test)]
    pub(crate) fn bytes_in_memory(&self) -> u64 {
        self.db.write_buffer_size()
    }

    /// Bytes that were written since the store was opened.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// What could be written out early.
    pub(crate) fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::default();
        for space in self.spaces.values() {
            let bytes = space.tree.active_memtable().size();
            if is_behind(space) {
                waiting.is_behind = true;
                continue;
            }
            if bytes >= SPACE_BYTES_MIN {
                waiting.bytes += bytes;
            }
            if bytes >= worth(space) {
                waiting.worth += bytes;
            }
        }
        waiting
    }

    /// Has memory tables written out in the background, as happens by itself when one is full.
    pub(crate) fn begin_write_out(&self, which: Which) -> fjall::Result<()> {
        for space in self.spaces.values().filter(|space| !is_behind(space)) {
            let bytes_min = match which {
                Which::All => SPACE_BYTES_MIN,
                Which::Worth => worth(space),
            };
            if space.tree.active_memtable().size() >= bytes_min {
                space.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Whether an earlier write, in the foreground or the background, has failed for good.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.db.persist(PersistMode::Buffer).is_err()
    }

    /// Everything as it is now, while writes go on.
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen { snapshot: self.db.snapshot(), trees: self.clone() }
    }

    fn space(&self, space: Space) -> Result<&Keyspace, StoreError> {
        self.spaces.get(&space).ok_or_else(|| damaged("a space is not open"))
    }
}

fn options(space: Space) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(TABLE_BYTES);
    match space {
        // Ciphertext, read in ranges: neither compression nor filters help.
        Space::Log => options
            .max_memtable_size(LOG_TABLE_BYTES)
            .data_block_compression_policy(CompressionPolicy::disabled())
            .filter_policy(FilterPolicy::disabled()),
        // Random ids, asked for once for every new message and hardly ever there: filters in every level (the default).
        Space::Dedup => options.data_block_compression_policy(CompressionPolicy::disabled()),
        _ => options,
    }
}

/// Whether the last memory table of this space still waits to be written out (where four wait all writes stop), or its compaction is
/// behind.
fn is_behind(space: &Keyspace) -> bool {
    space.sealed_memtable_count() > 0 || space.l0_table_count() >= LEVEL_0_TABLES_MAX
}

fn worth(space: &Keyspace) -> u64 {
    (space.disk_space() / WORTH_PART).clamp(SPACE_BYTES_MIN, WORTH_BYTES_MAX)
}

fn unreadable(error: &fjall::Error) -> StoreError {
    damaged(format!("the store cannot be read: {error}"))
}

fn visit_all(
    mut pairs: impl DoubleEndedIterator<Item = Guard>,
    order: Order,
    each: &mut Visit<'_>,
) -> Result<(), StoreError> {
    let mut next = || if order == Order::Ascending { pairs.next() } else { pairs.next_back() };
    while let Some(pair) = next() {
        let (key, value) = pair.into_inner().map_err(|e| unreadable(&e))?;
        if each(&key, &value).is_break() {
            break;
        }
    }
    Ok(())
}

impl Tree for Trees {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.space(space)?.get(key).map_err(|e| unreadable(&e))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn visit(
        &self,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        each: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        visit_all(self.space(space)?.range::<&[u8], _>(range), order, each)
    }
}

/// The store at one moment.
pub(crate) struct Frozen {
    snapshot: Snapshot,
    trees: Trees,
}

impl Tree for Frozen {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.snapshot.get(self.trees.space(space)?, key).map_err(|e| unreadable(&e))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn visit(
        &self,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        each: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        visit_all(self.snapshot.range::<&[u8], _>(self.trees.space(space)?, range), order, each)
    }
}
