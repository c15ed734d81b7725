//! How the log and the tables are read, for every engine. Reads see what is committed, and nothing is skipped: what does
//! not decode is an error.

use std::ops::{Bound, ControlFlow};

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;

use crate::boundary::{StoreError, StoredRecord, Table, Versioned};
use crate::space::{
    LogEntry, Mark, Order, Space, Tree, after_prefix, damaged, decode_versioned, dedup_key, log_key,
    log_place, number,
};

/// What is asked of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) room: RoomId,
    /// Exclusive: the records after it (ascending) or before it (descending).
    pub(crate) edge: u64,
    pub(crate) order: Order,
    pub(crate) limit: usize,
    pub(crate) max_bytes: usize,
}

/// The mark that trimming left; all zero for a room that was never trimmed.
pub(crate) fn mark(tree: &impl Tree, room: RoomId) -> Result<Mark, StoreError> {
    let stored = tree.value(Space::Marks, room.as_bytes())?;
    stored.map_or(Ok(Mark::default()), |value| Mark::decode(&value))
}

/// The last committed sequence of a room. The log is asked first: a trim that comes in between removes records and
/// writes the mark in one commit, so one of the two always knows.
pub(crate) fn head(tree: &impl Tree, room: RoomId) -> Result<u64, StoreError> {
    let (from, to) = (log_key(room, 0), log_key(room, u64::MAX));
    let mut last = Ok(0);
    let range = (Bound::Included(&from[..]), Bound::Included(&to[..]));
    tree.visit(Space::Log, range, Order::Descending, &mut |key, _| {
        last = log_place(key).map(|(_, seq)| seq);
        ControlFlow::Break(())
    })?;
    match last? {
        0 => Ok(mark(tree, room)?.head),
        seq => Ok(seq),
    }
}

/// One page of the log.
pub(crate) fn page(tree: &impl Tree, page: Page) -> Result<Vec<StoredRecord>, StoreError> {
    let mut records = Vec::new();
    if page.limit == 0 {
        return Ok(records);
    }
    let floor = mark(tree, page.room)?.floor;
    let (from, to) = match page.order {
        Order::Ascending => (page.edge.saturating_add(1).max(floor), u64::MAX),
        Order::Descending => (floor, page.edge.saturating_sub(1)),
    };
    let ascending_past_the_end = page.order == Order::Ascending && page.edge == u64::MAX;
    if from > to || ascending_past_the_end || to == 0 {
        return Ok(records);
    }
    let (from, to) = (log_key(page.room, from), log_key(page.room, to));
    let range = (Bound::Included(&from[..]), Bound::Included(&to[..]));
    let mut bytes = 0;
    let mut trouble = None;
    tree.visit(Space::Log, range, page.order, &mut |key, value| {
        match log_place(key).and_then(|(_, seq)| Ok((seq, LogEntry::decode(value)?))) {
            Ok((seq, entry)) => {
                bytes += entry.record.len();
                if bytes > page.max_bytes && !records.is_empty() {
                    return ControlFlow::Break(());
                }
                records.push(StoredRecord { seq, bytes: Bytes::copy_from_slice(entry.record) });
            }
            Err(e) => trouble = Some(e),
        }
        if trouble.is_some() || records.len() >= page.limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    trouble.map_or(Ok(records), Err)
}

/// The sequence of a client id.
pub(crate) fn find(
    tree: &impl Tree,
    room: RoomId,
    sender: &UserId,
    client_id: ClientId,
) -> Result<Option<u64>, StoreError> {
    let stored = tree.value(Space::Dedup, &dedup_key(room, sender, client_id))?;
    let decode = |value: Bytes| number(&value).ok_or_else(|| damaged("a stored client id does not decode"));
    stored.map(decode).transpose()
}

/// The value of a key of a table.
pub(crate) fn value(tree: &impl Tree, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
    tree.value(Space::Kv(table), key)?.map(|stored| decode_versioned(&stored)).transpose()
}

/// One page of a table.
pub(crate) fn scan(
    tree: &impl Tree,
    table: Table,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Bytes, Versioned)>, StoreError> {
    let mut rows = Vec::new();
    let end = after_prefix(prefix);
    if limit == 0 || after.is_some_and(|after| end.as_deref().is_some_and(|end| after >= end)) {
        return Ok(rows);
    }
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut trouble = None;
    tree.visit(Space::Kv(table), (from, to), Order::Ascending, &mut |key, stored| {
        match decode_versioned(&Bytes::copy_from_slice(stored)) {
            Ok(value) => rows.push((Bytes::copy_from_slice(key), value)),
            Err(e) => trouble = Some(e),
        }
        if trouble.is_some() || rows.len() >= limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    trouble.map_or(Ok(rows), Err)
}
