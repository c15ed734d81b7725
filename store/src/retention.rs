//! Retention: removing what is older than a room keeps.
//!
//! What goes is decided by a pure function from the times of records; the pass around it is paced, so that it never
//! competes with people for the disk. The newest record of a room goes like any other when it is too old; the room's head
//! stays, so no sequence is ever used again.

use std::time::Duration;

use buslane_shared::UnixMs;
use buslane_shared::id::RoomId;

use crate::boundary::{Engine, StoreError, StoredRecord, Table, Versioned};
use crate::record;

/// Records that are looked at in one step.
const STEP_RECORDS: usize = 512;

/// Bytes of one step.
const STEP_BYTES: usize = 512 * 1024;

/// Rooms on one page of the list.
const ROOMS_PAGE: usize = 256;

/// The default: what a large messenger keeps on its servers.
pub const KEEP_MS_DEFAULT: u64 = 3 * 24 * 60 * 60 * 1000;

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Rooms looked at.
    pub rooms: u64,
    /// Records removed.
    pub removed: u64,
}

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

/// Goes through all rooms once and removes what `keep_ms` says is too old (`None`: a room keeps everything). Rests for
/// `pause` after each step. May be dropped at any time; the next pass goes on.
pub async fn pass(
    engine: &dyn Engine,
    now_ms: UnixMs,
    keep_ms: impl Fn(RoomId, &Versioned) -> Option<u64> + Send,
    pause: Duration,
) -> Result<Pass, StoreError> {
    let mut done = Pass::default();
    let mut after = None;
    loop {
        let page = engine.scan(Table::Rooms, b"", after.as_deref(), ROOMS_PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(done) };
        after = Some(last.clone());
        for (key, state) in &page {
            // Whatever else may lie in the table is not a room.
            let Ok(room) = RoomId::try_from(key) else { continue };
            done.rooms += 1;
            if let Some(keep_ms) = keep_ms(room, state) {
                done.removed += trim(engine, room, now_ms, keep_ms, pause).await?;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn trim(
    engine: &dyn Engine,
    room: RoomId,
    now_ms: UnixMs,
    keep_ms: u64,
    pause: Duration,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    while let Some(before) = expired(engine, room, now_ms, keep_ms).await? {
        removed += engine.trim(room, before).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(removed)
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
    use crate::boundary::{Epoch, Kv, Leases, Mutation, RoomLog, SealedRecord};
    use crate::memory::MemoryEngine;
    use crate::sealing::{MemoryKeyWrap, RecordHeader, Sealer};
    use buslane_shared::id::ClientId;
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

    async fn fill(engine: &Arc<MemoryEngine>, sealer: &Sealer, room: RoomId, fence: Epoch, sent_at: &[u64]) {
        let state = Mutation::Put { table: Table::Rooms, key: room.to_wire(), value: "state".into() };
        engine.write(vec![state]).await.unwrap();
        let key = sealer.room_key(room).await.unwrap();
        for (seq, sent_at_ms) in (1u64..).zip(sent_at) {
            let sender: buslane_shared::id::UserId = "alice".parse().unwrap();
            let client_id = ClientId::from_bytes([seq as u8; 16]);
            let header =
                RecordHeader { room, seq, sender: sender.clone(), client_id, sent_at_ms: *sent_at_ms };
            let bytes = key.seal(fence, &header, b"x").unwrap();
            let place = engine.reserve().await.unwrap();
            engine.append(place, fence, SealedRecord { room, seq, sender, client_id, bytes }).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_removes_what_each_room_does_not_keep() {
        let engine = MemoryEngine::new();
        let sealer = Sealer::new(engine.clone(), Arc::new(MemoryKeyWrap::new().unwrap()));
        let [short, ever, new] = [1, 2, 3].map(|n| RoomId::from_bytes([n; 16]));
        let fences = engine.acquire(vec![1, 2, 3], "test").await.unwrap();
        let old: Vec<u64> = (1..=1200).collect();
        fill(&engine, &sealer, short, fences[0], &old).await;
        fill(&engine, &sealer, ever, fences[1], &old[..3]).await;
        fill(&engine, &sealer, new, fences[2], &[5000, 5001]).await;

        let keep = |room: RoomId, _: &Versioned| (room != ever).then_some(100);
        let done = pass(&*engine, 1200, keep, Duration::from_millis(10)).await.unwrap();
        assert_eq!(done, Pass { rooms: 3, removed: 1099 });
        let left = engine.read(short, 0, 1, usize::MAX).await.unwrap();
        assert_eq!((left[0].seq, engine.head(short).await), (1100, Ok(1200)));
        assert_eq!(engine.read(ever, 0, 10, usize::MAX).await.unwrap().len(), 3);
        assert_eq!(engine.read(new, 0, 10, usize::MAX).await.unwrap().len(), 2);

        let done = pass(&*engine, 99_999, keep, Duration::from_millis(10)).await.unwrap();
        assert_eq!(done.removed, 103);
        assert_eq!(engine.head(new).await, Ok(2));
    }
}
