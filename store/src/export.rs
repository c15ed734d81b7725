//! A consistent copy of everything an engine holds, as entries that any engine can take.
//!
//! What can be derived (the index of client ids) is not part of it. Keys are sealed as they lie in the store: an export
//! holds no secret that the store does not hold.

use std::io;
use std::ops::{Bound, ControlFlow};

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;

use crate::boundary::{StoreError, Table, Versioned};
use crate::ledger::REVISION_KEY;
use crate::space::{
    LogEntry, Mark, Order, Put, Space, TABLES, Tree, damaged, decode_lease, decode_versioned, dedup_key,
    encode_lease, encode_versioned, log_key, log_place, number, number_bytes,
};

/// One thing that an engine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A record of the log.
    Record {
        /// The conversation.
        room: RoomId,
        /// Its place.
        seq: u64,
        /// Who sent it.
        sender: UserId,
        /// The sender's name for it.
        client_id: ClientId,
        /// The encoded record.
        bytes: Bytes,
    },
    /// A room that was trimmed.
    Trimmed {
        /// The conversation.
        room: RoomId,
        /// Its head when it was trimmed.
        head: u64,
        /// No record below this is left.
        floor: u64,
    },
    /// A value of a table.
    Value {
        /// Table.
        table: Table,
        /// Key.
        key: Bytes,
        /// Value and revision.
        value: Versioned,
    },
    /// The owner of a shard.
    Lease {
        /// Shard.
        shard: u8,
        /// The epoch of its owner.
        epoch: u32,
        /// The owner's name.
        owner: String,
    },
    /// No revision up to this is ever given out again.
    Revisions {
        /// The counter.
        reserved: u64,
    },
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever takes the entries cannot.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// An engine that can be copied while it runs.
pub trait Export {
    /// Hands every entry of one moment to `each`, in the order of keys. Blocks for as long as that takes; writes go on.
    fn export(&self, each: &mut dyn FnMut(Entry) -> io::Result<()>) -> Result<(), ExportError>;
}

/// Spaces that are exported; the index of client ids follows from the log.
fn exported() -> impl Iterator<Item = Space> {
    [Space::Meta, Space::Leases, Space::Marks, Space::Log]
        .into_iter()
        .chain(TABLES.into_iter().map(Space::Kv))
}

/// Hands every entry of `tree` to `each`.
pub(crate) fn walk(
    tree: &impl Tree,
    each: &mut dyn FnMut(Entry) -> io::Result<()>,
) -> Result<(), ExportError> {
    for space in exported() {
        let mut result = Ok(());
        let all = (Bound::Unbounded, Bound::Unbounded);
        tree.visit(space, all, Order::Ascending, &mut |key, value| {
            result = entry(space, key, value)
                .map_err(ExportError::from)
                .and_then(|entry| entry.map_or(Ok(()), &mut *each).map_err(ExportError::from));
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        result?;
    }
    Ok(())
}

fn entry(space: Space, key: &[u8], value: &[u8]) -> Result<Option<Entry>, StoreError> {
    let room = || RoomId::try_from(key).map_err(|_| damaged("the mark of a room has no room"));
    Ok(Some(match space {
        Space::Log => {
            let (room, seq) = log_place(key)?;
            let LogEntry { sender, client_id, record } = LogEntry::decode(value)?;
            Entry::Record { room, seq, sender, client_id, bytes: Bytes::copy_from_slice(record) }
        }
        Space::Marks => {
            let Mark { head, floor } = Mark::decode(value)?;
            Entry::Trimmed { room: room()?, head, floor }
        }
        Space::Leases => {
            let (epoch, owner) = decode_lease(value)?;
            let shard = key.first().copied().ok_or_else(|| damaged("a lease has no shard"))?;
            Entry::Lease { shard, epoch, owner }
        }
        Space::Meta if key == REVISION_KEY => {
            let reserved =
                number(value).ok_or_else(|| damaged("the counter of revisions does not decode"))?;
            Entry::Revisions { reserved }
        }
        Space::Meta | Space::Dedup => return Ok(None),
        Space::Kv(table) => {
            let value = decode_versioned(&Bytes::copy_from_slice(value))?;
            Entry::Value { table, key: Bytes::copy_from_slice(key), value }
        }
    }))
}

/// The bytes to put for `entry`, what follows from it included.
pub(crate) fn puts(entry: Entry) -> Vec<Put> {
    let put = |space, key: Bytes, value| Put { space, key, value: Some(value) };
    match entry {
        Entry::Record { room, seq, sender, client_id, bytes } => vec![
            put(Space::Log, log_key(room, seq).to_vec().into(), LogEntry::encode(&sender, client_id, &bytes)),
            put(Space::Dedup, dedup_key(room, &sender, client_id), number_bytes(seq)),
        ],
        Entry::Trimmed { room, head, floor } => {
            vec![put(Space::Marks, room.to_wire(), Mark { head, floor }.encode())]
        }
        Entry::Value { table, key, value } => {
            vec![put(Space::Kv(table), key, encode_versioned(value.revision, &value.value))]
        }
        Entry::Lease { shard, epoch, owner } => {
            vec![put(Space::Leases, vec![shard].into(), encode_lease(epoch, &owner))]
        }
        Entry::Revisions { reserved } => {
            vec![put(Space::Meta, Bytes::from_static(REVISION_KEY), number_bytes(reserved))]
        }
    }
}
