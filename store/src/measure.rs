//! What the store alone can do on this disk, for setting the rates of the whole system beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::id::{ClientId, RoomId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::boundary::{Leases, RoomLog, SealedRecord, StoreError};
use crate::fjall_engine::{FjallEngine, OpenError, Options};

/// Rooms that share the load.
const ROOMS: u64 = 64;

/// The store's own rate.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct AppendRate {
    /// Appends without an answer at a time.
    pub in_flight: usize,
    /// Bytes of each record.
    pub size: usize,
    /// Durable appends in a second.
    pub per_s: f64,
    /// Median time from append to durable, in microseconds.
    pub p50_us: f64,
    /// The slowest of a hundred, likewise.
    pub p99_us: f64,
    /// The slowest of a thousand, likewise.
    pub p999_us: f64,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Appends `count` records of `size` bytes to a store in the folder `dir` (new or empty; it is left there), `in_flight` at
/// a time over 64 rooms.
pub async fn measure_append_rate(
    dir: &Path,
    in_flight: usize,
    size: usize,
    count: u64,
) -> Result<AppendRate, MeasureError> {
    let engine = FjallEngine::open(dir, Options::default())?;
    let shards: Vec<u8> = (0..ROOMS).map(|room| room_of(room).shard()).collect();
    let fences = engine.acquire(shards, "measure").await?;
    let content = vec![0x5a; size];
    let mut waiting = FuturesUnordered::new();
    let mut times = Vec::with_capacity(count as usize);
    let began = Instant::now();
    for i in 0..count {
        if waiting.len() >= in_flight {
            times.extend(waiting.next().await.transpose()?);
        }
        let fence = fences.get((i % ROOMS) as usize).copied().ok_or(StoreError::Fenced)?;
        let record = record(i, &content)?;
        let engine = Arc::clone(&engine);
        let place = engine.reserve().await?;
        let queued = Instant::now();
        let durable = engine.append(place, fence, record);
        waiting.push(async move { durable.await.map(|()| queued.elapsed()) });
    }
    while let Some(time) = waiting.next().await {
        times.push(time?);
    }
    let per_s = count as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |time: &Duration| time.as_secs_f64() * 1e6)
    };
    Ok(AppendRate { in_flight, size, per_s, p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) })
}

fn room_of(number: u64) -> RoomId {
    RoomId::from_bytes([number as u8; 16])
}

fn record(i: u64, content: &[u8]) -> Result<SealedRecord, StoreError> {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().skip(8).zip(i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()) {
        *to = from;
    }
    let sender = "measure".parse().map_err(|_| StoreError::Unfit("the name of the measuring user"))?;
    Ok(SealedRecord {
        room: room_of(i % ROOMS),
        seq: i / ROOMS + 1,
        sender,
        client_id: ClientId::from_bytes(id),
        bytes: bytes::Bytes::copy_from_slice(content),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_figure_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let rate = measure_append_rate(folder.path(), 32, 100, 500).await.unwrap();
        assert!(
            rate.per_s > 1.0
                && rate.p50_us > 0.0
                && rate.p50_us <= rate.p99_us
                && rate.p99_us <= rate.p999_us
        );
        let engine = FjallEngine::open(folder.path(), Options::default()).unwrap();
        assert_eq!(engine.head(room_of(0)).await, Ok(8));
    }
}
