//! What a write means: sequence, fencing, revisions and trimming, decided in one place for every engine.
//!
//! A command is *staged*: checked against what is stored and against what the same commit already holds, and turned into
//! bytes to put. An engine then commits what was staged, all of it or nothing. A command that is refused stages nothing.
//! The ledger never commits and never tells anybody that something is durable.

use std::collections::HashMap;
use std::ops::{Bound, ControlFlow};

use buslane_shared::id::RoomId;
use bytes::Bytes;

use crate::boundary::{
    Change, Epoch, KEY_BYTES_MAX, Mutation, SealedRecord, StoreError, Table, VALUE_BYTES_MAX, Versioned,
};
use crate::reading;
use crate::space::{
    LogEntry, Mark, Order, Put, Space, Tree, damaged, decode_lease, decode_versioned, dedup_key,
    encode_lease, encode_versioned, log_key, log_place, number, number_bytes,
};

/// Shards of the log: the first byte of a room.
const SHARDS: usize = 256;

/// Rooms whose head is kept in memory: 262,144 x about 40 bytes. A room beyond it costs one look into the log.
const HEADS_MAX: usize = 256 * 1024;

/// Revisions that one write of the counter allows, so that the counter itself is rarely written. What a crash leaves
/// unused is skipped, which no one minds: revisions only grow.
const REVISIONS_RESERVED: u64 = 1 << 20;

/// Records removed by one commit: a trim of a large room must not hold up the appends of others.
const TRIM_CHUNK: usize = 1024;

/// Where the counter of revisions lies in [`Space::Meta`].
pub(crate) const REVISION_KEY: &[u8] = b"revision";

/// A write that somebody wants.
#[derive(Debug)]
pub(crate) enum Command {
    Append { fence: Epoch, record: SealedRecord },
    Write(Vec<Mutation>),
    CompareAndSet { table: Table, key: Bytes, expected: Option<u64>, value: Bytes },
    Acquire { shards: Vec<u8>, owner: String },
    Trim(Trim),
}

/// A trim that may take several commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trim {
    pub(crate) room: RoomId,
    pub(crate) before: u64,
    /// What earlier commits have removed.
    pub(crate) removed: u64,
}

/// What a command will have done once it is committed.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Revision(u64),
    Epochs(Vec<Epoch>),
    /// All of it is removed: this many records.
    Trimmed(u64),
    /// There is more to remove: stage this next.
    TrimOn(Trim),
}

impl Command {
    /// About how many bytes it will write.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { record, .. } => record.bytes.len() + 128,
            Self::Write(batch) => batch.iter().map(mutation_bytes).sum(),
            Self::CompareAndSet { key, value, .. } => key.len() + value.len(),
            Self::Acquire { shards, .. } => shards.len() * 64,
            Self::Trim(_) => TRIM_CHUNK * 64,
        }
    }
}

fn mutation_bytes(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Put { key, value, .. } => key.len() + value.len(),
        Mutation::Delete { key, .. } => key.len(),
    }
}

fn check_mutation(mutation: &Mutation) -> Result<(), StoreError> {
    match mutation {
        Mutation::Put { key, value, .. } => check_key(key).and_then(|()| check_value(value)),
        Mutation::Delete { key, .. } => check_key(key),
    }
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
    if fits { Ok(()) } else { Err(StoreError::Unfit("a key has 1 to 1024 bytes")) }
}

fn check_value(value: &[u8]) -> Result<(), StoreError> {
    let fits = value.len() <= VALUE_BYTES_MAX;
    if fits { Ok(()) } else { Err(StoreError::Unfit("a value has at most 4 MiB")) }
}

/// Everything that one commit will write, and whom to tell afterwards.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) puts: Vec<Put>,
    pub(crate) changes: Vec<(Table, Change)>,
    /// Revisions of the keys that this commit changes; `None`: removed.
    revisions: HashMap<(Table, Bytes), Option<u64>>,
}

impl Staged {
    fn put(&mut self, space: Space, key: impl Into<Bytes>, value: Bytes) {
        self.puts.push(Put { space, key: key.into(), value: Some(value) });
    }

    fn remove(&mut self, space: Space, key: impl Into<Bytes>) {
        self.puts.push(Put { space, key: key.into(), value: None });
    }
}

/// The state against which commands are decided. It runs ahead of the disk by what is staged and not yet committed; an
/// engine whose commit fails must never use it again.
pub(crate) struct Ledger {
    heads: HashMap<RoomId, u64>,
    epochs: Vec<u32>,
    revision: u64,
    revisions_reserved: u64,
}

impl Ledger {
    /// The state as it is on disk.
    pub(crate) fn load(tree: &impl Tree) -> Result<Self, StoreError> {
        let mut epochs = vec![0; SHARDS];
        let mut trouble = None;
        tree.visit(
            Space::Leases,
            (Bound::Unbounded, Bound::Unbounded),
            Order::Ascending,
            &mut |key, value| {
                let slot = key.first().and_then(|shard| epochs.get_mut(usize::from(*shard)));
                match (slot, decode_lease(value)) {
                    (Some(slot), Ok((epoch, _))) => *slot = epoch,
                    (_, Err(e)) => trouble = Some(e),
                    (None, _) => trouble = Some(damaged("a lease has no shard")),
                }
                ControlFlow::Continue(())
            },
        )?;
        if let Some(error) = trouble {
            return Err(error);
        }
        let stored = tree.value(Space::Meta, REVISION_KEY)?;
        let revision = match stored {
            None => 0,
            Some(bytes) => {
                number(&bytes).ok_or_else(|| damaged("the counter of revisions does not decode"))?
            }
        };
        Ok(Self { heads: HashMap::new(), epochs, revision, revisions_reserved: revision })
    }

    /// Begins a commit. Nothing of an earlier one may be pending.
    pub(crate) fn begin(&mut self) -> Staged {
        if self.heads.len() > HEADS_MAX {
            self.heads.clear();
        }
        Staged::default()
    }

    /// Checks `command` and adds what it writes to `staged`.
    pub(crate) fn stage(
        &mut self,
        tree: &impl Tree,
        command: Command,
        staged: &mut Staged,
    ) -> Result<Outcome, StoreError> {
        match command {
            Command::Append { fence, record } => self.append(tree, fence, &record, staged),
            Command::Write(batch) => {
                batch.iter().try_for_each(check_mutation)?;
                Ok(self.write(batch, staged))
            }
            Command::CompareAndSet { table, key, expected, value } => {
                check_key(&key)?;
                check_value(&value)?;
                self.compare_and_set(tree, (table, key), expected, value, staged)
            }
            Command::Acquire { shards, owner } => self.acquire(&shards, &owner, staged),
            Command::Trim(trim) => self.trim(tree, trim, staged),
        }
    }

    fn append(
        &mut self,
        tree: &impl Tree,
        fence: Epoch,
        record: &SealedRecord,
        staged: &mut Staged,
    ) -> Result<Outcome, StoreError> {
        let epoch = self.epochs.get(usize::from(record.room.shard())).copied().unwrap_or(0);
        if epoch == 0 || fence.0 != epoch {
            return Err(StoreError::Fenced);
        }
        let head = match self.heads.get(&record.room) {
            Some(head) => *head,
            None => reading::head(tree, record.room)?,
        };
        if record.seq != head + 1 {
            return Err(StoreError::OutOfSequence { head, got: record.seq });
        }
        self.heads.insert(record.room, record.seq);
        let entry = LogEntry::encode(&record.sender, record.client_id, &record.bytes);
        staged.put(Space::Log, log_key(record.room, record.seq).to_vec(), entry);
        let name = dedup_key(record.room, &record.sender, record.client_id);
        staged.put(Space::Dedup, name, number_bytes(record.seq));
        Ok(Outcome::Done)
    }

    fn write(&mut self, batch: Vec<Mutation>, staged: &mut Staged) -> Outcome {
        for mutation in batch {
            match mutation {
                Mutation::Put { table, key, value } => {
                    self.put(table, key, value, staged);
                }
                Mutation::Delete { table, key } => {
                    staged.remove(Space::Kv(table), key.clone());
                    staged.changes.push((table, Change::Deleted { key: key.clone() }));
                    staged.revisions.insert((table, key), None);
                }
            }
        }
        Outcome::Done
    }

    fn put(&mut self, table: Table, key: Bytes, value: Bytes, staged: &mut Staged) -> u64 {
        if self.revision == self.revisions_reserved {
            self.revisions_reserved += REVISIONS_RESERVED;
            staged.put(Space::Meta, REVISION_KEY.to_vec(), number_bytes(self.revisions_reserved));
        }
        self.revision += 1;
        let revision = self.revision;
        staged.put(Space::Kv(table), key.clone(), encode_versioned(revision, &value));
        let value = Versioned { revision, value };
        staged.changes.push((table, Change::Put { key: key.clone(), value }));
        staged.revisions.insert((table, key), Some(revision));
        revision
    }

    fn compare_and_set(
        &mut self,
        tree: &impl Tree,
        (table, key): (Table, Bytes),
        expected: Option<u64>,
        value: Bytes,
        staged: &mut Staged,
    ) -> Result<Outcome, StoreError> {
        let place = (table, key);
        let found = match staged.revisions.get(&place) {
            Some(revision) => *revision,
            None => {
                let stored = tree.value(Space::Kv(table), &place.1)?;
                stored.map(|s| decode_versioned(&s)).transpose()?.map(|v| v.revision)
            }
        };
        if found != expected {
            return Err(StoreError::Conflict);
        }
        Ok(Outcome::Revision(self.put(table, place.1, value, staged)))
    }

    fn acquire(&mut self, shards: &[u8], owner: &str, staged: &mut Staged) -> Result<Outcome, StoreError> {
        let next = |shard: &u8| self.epochs.get(usize::from(*shard)).and_then(|epoch| epoch.checked_add(1));
        let epochs: Option<Vec<u32>> = shards.iter().map(next).collect();
        let epochs = epochs.ok_or_else(|| damaged("the epochs of a shard are used up"))?;
        for (shard, epoch) in shards.iter().zip(&epochs) {
            if let Some(slot) = self.epochs.get_mut(usize::from(*shard)) {
                *slot = *epoch;
            }
            staged.put(Space::Leases, vec![*shard], encode_lease(*epoch, owner));
        }
        Ok(Outcome::Epochs(epochs.into_iter().map(Epoch).collect()))
    }

    /// Removes the oldest records, at most [`TRIM_CHUNK`]. Only what is committed is looked at, so an append of the same
    /// commit is never touched.
    fn trim(&mut self, tree: &impl Tree, trim: Trim, staged: &mut Staged) -> Result<Outcome, StoreError> {
        let head = reading::head(tree, trim.room)?;
        let mark = reading::mark(tree, trim.room)?;
        let before = trim.before.min(head + 1);
        if before <= mark.floor {
            return Ok(Outcome::Trimmed(trim.removed));
        }
        let mut doomed = Vec::new();
        let mut trouble = None;
        let (from, to) = (log_key(trim.room, mark.floor), log_key(trim.room, before));
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        tree.visit(Space::Log, range, Order::Ascending, &mut |key, value| {
            match log_place(key).and_then(|(_, seq)| Ok((seq, LogEntry::decode(value)?))) {
                Ok((seq, entry)) => doomed.push((seq, dedup_key(trim.room, &entry.sender, entry.client_id))),
                Err(e) => trouble = Some(e),
            }
            if trouble.is_none() && doomed.len() < TRIM_CHUNK {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = trouble {
            return Err(error);
        }
        let whole = doomed.len() < TRIM_CHUNK;
        let floor = if whole { before } else { doomed.last().map_or(before, |(seq, _)| seq + 1) };
        let removed = trim.removed + doomed.len() as u64;
        for (seq, name) in doomed {
            staged.remove(Space::Log, log_key(trim.room, seq).to_vec());
            staged.remove(Space::Dedup, name);
        }
        staged.put(Space::Marks, trim.room.to_wire(), Mark { head, floor }.encode());
        Ok(if whole { Outcome::Trimmed(removed) } else { Outcome::TrimOn(Trim { removed, ..trim }) })
    }
}

impl Outcome {
    pub(crate) fn into_revision(self) -> Result<u64, StoreError> {
        match self {
            Self::Revision(revision) => Ok(revision),
            other => Err(damaged(format!("a compare-and-set has the outcome {other:?}"))),
        }
    }

    pub(crate) fn into_epochs(self) -> Result<Vec<Epoch>, StoreError> {
        match self {
            Self::Epochs(epochs) => Ok(epochs),
            other => Err(damaged(format!("a lease has the outcome {other:?}"))),
        }
    }
}
