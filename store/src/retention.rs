//! Retention: what of a room is older than it keeps.
//!
//! It is decided by a pure function from the times of records, a bounded step at a time; removing it is left to the owner
//! of the room, who paces it. The newest record of a room goes like any other when it is too old; the room's head stays,
//! so no sequence is ever used again.

use buslane_shared::UnixMs;
use buslane_shared::id::RoomId;

use crate::boundary::{Engine, StoreError, StoredRecord};
use crate::record;

/// Records that are looked at in one step.
const STEP_RECORDS: usize = 512;

/// Bytes of one step.
const STEP_BYTES: usize = 512 * 1024;

/// Up to where (exclusive) the oldest records of a room have expired, given them in order with their times; `None`:
/// nothing has. Only an unbroken run from the oldest goes: where clocks were set back, a record may stay longer than it
/// must, and never goes early.
pub fn expired_before(
    records: impl IntoIterator<Item = (u64, UnixMs)>,
    now_ms: UnixMs,
    keep_ms: u64,
) -> Option<u64> {
    let is_expired = |sent_at_ms: UnixMs| sent_at_ms.saturating_add(keep_ms) < now_ms;
    let run = records.into_iter().take_while(|(_, sent_at_ms)| is_expired(*sent_at_ms));
    run.last().map(|(seq, _)| seq.saturating_add(1))
}

/// Up to where (exclusive) one step may trim a room whose messages are kept for `keep_ms`; `None`: nothing has expired.
pub async fn expired(
    engine: &dyn Engine,
    room: RoomId,
    now_ms: UnixMs,
    keep_ms: u64,
) -> Result<Option<u64>, StoreError> {
    // The oldest one alone answers for most rooms.
    let oldest = engine.read(room, 0, 1, STEP_BYTES).await?;
    if expired_before(times(room, &oldest)?, now_ms, keep_ms).is_none() {
        return Ok(None);
    }
    let step = engine.read(room, 0, STEP_RECORDS, STEP_BYTES).await?;
    Ok(expired_before(times(room, &step)?, now_ms, keep_ms))
}

fn times(room: RoomId, records: &[StoredRecord]) -> Result<Vec<(u64, UnixMs)>, StoreError> {
    let time =
        |stored: &StoredRecord| Ok((stored.seq, record::decode(room, &stored.bytes)?.header.sent_at_ms));
    records.iter().map(time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::{Leases, RoomLog, SealedRecord};
    use crate::memory::MemoryEngine;
    use crate::sealing::{MemoryKeyWrap, RecordHeader, Sealer};
    use buslane_shared::id::{ClientId, UserId};
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn only_what_is_older_goes() {
        let records = [(4, 100), (5, 200), (6, 300)];
        assert_eq!(expired_before(records, 250, 100), Some(5));
        assert_eq!(expired_before(records, 300, 100), Some(5), "exactly as old as is kept stays");
        assert_eq!(expired_before(records, 301, 100), Some(6));
        assert_eq!(expired_before(records, 9999, 100), Some(7));
        assert_eq!(expired_before(records, 150, 100), None);
        assert_eq!(expired_before(records, 9999, u64::MAX), None);
        assert_eq!(expired_before([], 9999, 0), None);
    }

    proptest! {
        #[test]
        fn nothing_goes_early_whatever_the_clocks_did(times in proptest::collection::vec(0u64..1000, 0..50), now in 0u64..2000, keep in 0u64..1000) {
            let records = times.iter().enumerate().map(|(i, t)| (i as u64 + 1, *t));
            let before = expired_before(records.clone(), now, keep).unwrap_or(1);
            for (seq, time) in records {
                prop_assert!(seq >= before || time + keep < now);
            }
        }
    }

    #[tokio::test]
    async fn steps_end_where_the_kept_begin() {
        let engine = MemoryEngine::new();
        let sealer = Sealer::new(engine.clone(), Arc::new(MemoryKeyWrap::new().unwrap()));
        let room = RoomId::from_bytes([1; 16]);
        let fence = engine.acquire(vec![room.shard()], "test").await.unwrap()[0];
        let key = sealer.room_key(room).await.unwrap();
        let sender: UserId = "alice".parse().unwrap();
        for seq in 1..=1200 {
            let client_id = ClientId::from_bytes([seq as u8; 16]);
            let header = RecordHeader { room, seq, sender: sender.clone(), client_id, sent_at_ms: seq };
            let bytes = key.seal(fence, &header, b"x").unwrap();
            let record = SealedRecord { room, seq, sender: sender.clone(), client_id, bytes };
            engine.append(engine.reserve().await.unwrap(), fence, record).await.unwrap();
        }
        let mut removed = Vec::new();
        while let Some(before) = expired(&*engine, room, 1200, 100).await.unwrap() {
            removed.push(engine.trim(room, before).await.unwrap());
        }
        assert_eq!(removed, [512, 512, 75]);
        let left = engine.read(room, 0, 1, usize::MAX).await.unwrap();
        assert_eq!((left[0].seq, engine.head(room).await), (1100, Ok(1200)));
        assert_eq!(expired(&*engine, RoomId::from_bytes([2; 16]), 1200, 0).await, Ok(None));
    }
}
