//! The ordered spaces of bytes that an engine keeps, and how keys and values lie in them.
//!
//! Everything that an engine decides (`ledger.rs`) and reads (`reading.rs`) is written once against [`Tree`]; an engine
//! only adds how bytes become durable. Nothing here ever writes.

use std::ops::{Bound, ControlFlow};

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::{BufMut, Bytes, BytesMut};

use crate::boundary::{StoreError, Table, Versioned};

/// One ordered space of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Space {
    /// room | seq → [`LogEntry`]
    Log,
    /// room → [`Mark`]: written when a room is trimmed, so that its head survives
    Marks,
    /// room | sender | 0 | client id → seq
    Dedup,
    /// shard → epoch | owner
    Leases,
    /// Counters of the engine itself.
    Meta,
    /// One table of the key-value part: key → revision | value.
    Kv(Table),
}

/// Every table, in the order in which they are exported.
pub(crate) const TABLES: [Table; 8] = [
    Table::Users,
    Table::Devices,
    Table::Rooms,
    Table::UserRooms,
    Table::Cursors,
    Table::Settings,
    Table::Keys,
    Table::System,
];

impl Space {
    /// Every space.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Log, Self::Marks, Self::Dedup, Self::Leases, Self::Meta]
            .into_iter()
            .chain(TABLES.into_iter().map(Self::Kv))
    }

    /// Its name on disk. Never changes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Marks => "marks",
            Self::Dedup => "dedup",
            Self::Leases => "leases",
            Self::Meta => "meta",
            Self::Kv(Table::Users) => "users",
            Self::Kv(Table::Devices) => "devices",
            Self::Kv(Table::Rooms) => "rooms",
            Self::Kv(Table::UserRooms) => "user_rooms",
            Self::Kv(Table::Cursors) => "cursors",
            Self::Kv(Table::Settings) => "settings",
            Self::Kv(Table::Keys) => "keys",
            Self::Kv(Table::System) => "system",
        }
    }
}

/// In which direction pairs are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Takes one pair and says whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The durable content of an engine. Reads see whole commits only.
pub(crate) trait Tree {
    /// The value of a key.
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the pairs of a range until `each` breaks.
    fn visit(
        &self,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        each: &mut Visit<'_>,
    ) -> Result<(), StoreError>;
}

/// A write on its way to disk: the new value, or `None` to remove the key.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) space: Space,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

const ROOM_BYTES: usize = 16;

/// Key of a record in [`Space::Log`].
pub(crate) fn log_key(room: RoomId, seq: u64) -> [u8; ROOM_BYTES + 8] {
    let mut key = [0; ROOM_BYTES + 8];
    let (head, tail) = key.split_at_mut(ROOM_BYTES);
    head.copy_from_slice(room.as_bytes());
    tail.copy_from_slice(&seq.to_be_bytes());
    key
}

/// Room and sequence of a key in [`Space::Log`].
pub(crate) fn log_place(key: &[u8]) -> Result<(RoomId, u64), StoreError> {
    let split = key.split_first_chunk::<ROOM_BYTES>();
    let parts = split.and_then(|(room, seq)| Some((room, <[u8; 8]>::try_from(seq).ok()?)));
    let (room, seq) = parts.ok_or_else(|| damaged("a key of the log has another length"))?;
    Ok((RoomId::from_bytes(*room), u64::from_be_bytes(seq)))
}

/// Key of a client id in [`Space::Dedup`]. A user name has no zero byte, so names never run together.
pub(crate) fn dedup_key(room: RoomId, sender: &UserId, client_id: ClientId) -> Bytes {
    let name = sender.as_str().as_bytes();
    let mut key = BytesMut::with_capacity(ROOM_BYTES + name.len() + 1 + 16);
    key.put_slice(room.as_bytes());
    key.put_slice(name);
    key.put_u8(0);
    key.put_slice(client_id.as_bytes());
    key.freeze()
}

/// A record with what trimming and backup need to know of it. The record itself is never looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry<'a> {
    pub(crate) sender: UserId,
    pub(crate) client_id: ClientId,
    pub(crate) record: &'a [u8],
}

impl<'a> LogEntry<'a> {
    /// `length of the name | name | client id | record`.
    pub(crate) fn encode(sender: &UserId, client_id: ClientId, record: &[u8]) -> Bytes {
        let name = sender.as_str().as_bytes();
        let mut out = BytesMut::with_capacity(1 + name.len() + 16 + record.len());
        out.put_u8(name.len() as u8); // a user name has at most 64 bytes
        out.put_slice(name);
        out.put_slice(client_id.as_bytes());
        out.put_slice(record);
        out.freeze()
    }

    pub(crate) fn decode(value: &'a [u8]) -> Result<Self, StoreError> {
        let parts = value.split_first().and_then(|(len, rest)| {
            let (name, rest) = rest.split_at_checked(usize::from(*len))?;
            let (client_id, record) = rest.split_first_chunk::<16>()?;
            let sender = std::str::from_utf8(name).ok()?.parse().ok()?;
            Some(Self { sender, client_id: ClientId::from_bytes(*client_id), record })
        });
        parts.ok_or_else(|| damaged("an entry of the log does not decode"))
    }
}

/// What trimming leaves behind of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The room's head when it was trimmed; the real one is this or the last record, whichever is higher.
    pub(crate) head: u64,
    /// No record below this is left: where readers start, so that they do not walk over what was removed.
    pub(crate) floor: u64,
}

impl Mark {
    pub(crate) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u64(self.head);
        out.put_u64(self.floor);
        out.freeze()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let (head, floor) =
            two_numbers(value).ok_or_else(|| damaged("the mark of a room does not decode"))?;
        Ok(Self { head, floor })
    }
}

fn two_numbers(value: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = value.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*first), number(rest)?))
}

/// Eight bytes as a number.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(<[u8; 8]>::try_from(value).ok()?))
}

/// A number as eight bytes.
pub(crate) fn number_bytes(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// `revision | value`, as values of tables lie on disk.
pub(crate) fn encode_versioned(revision: u64, value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + value.len());
    out.put_u64(revision);
    out.put_slice(value);
    out.freeze()
}

pub(crate) fn decode_versioned(stored: &Bytes) -> Result<Versioned, StoreError> {
    let (revision, _) =
        stored.split_first_chunk::<8>().ok_or_else(|| damaged("a value of a table does not decode"))?;
    Ok(Versioned { revision: u64::from_be_bytes(*revision), value: stored.slice(8..) })
}

/// `epoch | owner`, as leases lie on disk.
pub(crate) fn encode_lease(epoch: u32, owner: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + owner.len());
    out.put_u32(epoch);
    out.put_slice(owner.as_bytes());
    out.freeze()
}

pub(crate) fn decode_lease(stored: &[u8]) -> Result<(u32, String), StoreError> {
    let parts = stored.split_first_chunk::<4>().and_then(|(epoch, owner)| {
        Some((u32::from_be_bytes(*epoch), String::from_utf8(owner.to_vec()).ok()?))
    });
    parts.ok_or_else(|| damaged("a lease does not decode"))
}

/// The smallest key that is greater than every key with this prefix; `None`: there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// A [`StoreError::Damaged`] with this text.
pub(crate) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = LogEntry::decode(&value);
            let _ = Mark::decode(&value);
            let _ = decode_versioned(&Bytes::copy_from_slice(&value));
            let _ = decode_lease(&value);
            let _ = log_place(&value);
        }

        #[test]
        fn the_end_of_a_prefix_is_above_all_its_keys(prefix in proptest::collection::vec(any::<u8>(), 0..6),
                                                      rest in proptest::collection::vec(any::<u8>(), 0..6)) {
            let key = [prefix.clone(), rest].concat();
            if let Some(end) = after_prefix(&prefix) {
                prop_assert!(key < end);
                prop_assert!(!end.starts_with(&prefix));
            } else {
                prop_assert!(prefix.iter().all(|b| *b == 255));
            }
        }
    }

    #[test]
    fn log_keys_sort_by_sequence_and_read_back() {
        let room = RoomId::from_bytes([3; 16]);
        assert!(log_key(room, 255) < log_key(room, 256));
        assert_eq!(log_place(&log_key(room, 77)), Ok((room, 77)));
    }

    #[test]
    fn an_entry_reads_back() {
        let sender: UserId = "alice".parse().unwrap();
        let id = ClientId::from_bytes([9; 16]);
        let value = LogEntry::encode(&sender, id, b"record");
        assert_eq!(LogEntry::decode(&value), Ok(LogEntry { sender, client_id: id, record: b"record" }));
    }
}
