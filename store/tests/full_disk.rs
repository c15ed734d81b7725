//! A disk that is really full: a small file system of its own, filled to the last byte.
//!
//! Mounting needs rights that not every machine gives a test; without them this says SKIP and the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::id::{ClientId, RoomId};
use buslane_store::fjall_engine::{FjallEngine, Options};
use buslane_store::{Engine, Epoch, Leases, RoomLog, SealedRecord, StoreError};

const ROOM: RoomId = RoomId::from_bytes([1; 16]);
const RECORD_BYTES: usize = 60_000;
const LIMIT: Duration = Duration::from_secs(20);

/// A file system in memory, unmounted at the end.
struct SmallDisk {
    place: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "buslane-test"])
            .arg(place.path())
            .output();
        match mounted {
            Ok(out) if out.status.success() => Some(Self { place }),
            Ok(out) => {
                println!("SKIP: cannot mount a small disk: {}", String::from_utf8_lossy(&out.stderr).trim());
                None
            }
            Err(e) => {
                println!("SKIP: cannot mount a small disk: {e}");
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("store")
    }

    /// Fills it up to `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let ballast = self.place.path().join("ballast");
        let stat = free_bytes(self.place.path());
        std::fs::write(&ballast, vec![1; (stat - left) as usize]).unwrap();
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.place.path()).status();
    }
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

fn record(seq: u64) -> SealedRecord {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    SealedRecord {
        room: ROOM,
        seq,
        sender: "alice".parse().unwrap(),
        client_id: ClientId::from_bytes(id),
        bytes: vec![seq as u8; RECORD_BYTES].into(),
    }
}

async fn append(engine: &FjallEngine, fence: Epoch, seq: u64) -> Result<(), StoreError> {
    let place = engine.reserve().await?;
    engine.append(place, fence, record(seq)).await
}

async fn stored(engine: &FjallEngine) -> u64 {
    let records = engine.read(ROOM, 0, usize::MAX, usize::MAX).await.unwrap();
    for (seq, found) in (1..).zip(&records) {
        assert_eq!((found.seq, &found.bytes), (seq, &record(seq).bytes));
    }
    records.len() as u64
}

fn open(disk: &SmallDisk, free_bytes_min: u64) -> Arc<FjallEngine> {
    FjallEngine::open(&disk.path(), Options { free_bytes_min, ..Options::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_in_time_and_heals_by_itself() {
    let Some(disk) = SmallDisk::mount(192) else { return };
    let engine = open(&disk, 64 << 20);
    let fence = engine.acquire(vec![1], "test").await.unwrap()[0];
    append(&engine, fence, 1).await.unwrap();
    let ballast = disk.fill((64 << 20) + 5 * RECORD_BYTES as u64);
    let mut seq = 1;
    let refused = loop {
        match append(&engine, fence, seq + 1).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::DiskFull { needed_bytes: 64 << 20 });
    assert_eq!(stored(&engine).await, seq);
    std::fs::remove_file(ballast).unwrap();
    let began = Instant::now();
    while append(&engine, fence, seq + 1).await.is_err() {
        assert!(began.elapsed() < LIMIT, "there is room again and nothing is taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(engine.trouble(), None);
    assert_eq!(stored(&engine).await, seq + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_stops_the_store_and_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(160) else { return };
    // Without the guard, so that the disk itself says no.
    let engine = open(&disk, 0);
    let fence = engine.acquire(vec![1], "test").await.unwrap()[0];
    append(&engine, fence, 1).await.unwrap();
    let ballast = disk.fill(10 * RECORD_BYTES as u64);
    let mut seq = 1;
    let refused = loop {
        match append(&engine, fence, seq + 1).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Stopped(_)), "{refused:?}");
    std::fs::remove_file(ballast).unwrap();
    assert!(
        matches!(append(&engine, fence, seq + 1).await, Err(StoreError::Stopped(_))),
        "it acknowledged again"
    );
    assert!(engine.trouble().is_some());
    drop(engine);
    let engine = open(&disk, 0);
    let kept = stored(&engine).await;
    assert!((seq..=seq + 1).contains(&kept), "{seq} acknowledged, {kept} kept");
    let fence = engine.acquire(vec![1], "test").await.unwrap()[0];
    append(&engine, fence, kept + 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_while_tables_are_written_out_stops_the_store() {
    const IN_FLIGHT: usize = 64;
    let Some(disk) = SmallDisk::mount(200) else { return };
    let engine = open(&disk, 0);
    let fence = engine.acquire(vec![1], "test").await.unwrap()[0];
    let (mut seq, mut acknowledged, mut pending) = (0, 0, std::collections::VecDeque::new());
    let refused = loop {
        if pending.len() == IN_FLIGHT {
            let receipt: futures_util::future::BoxFuture<'static, _> = pending.pop_front().unwrap();
            match tokio::time::timeout(LIMIT, receipt).await.expect("the store hangs") {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        }
        match engine.reserve().await {
            Ok(place) => {
                seq += 1;
                pending.push_back(engine.append(place, fence, record(seq)));
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Stopped(_)), "{refused:?}");
    drop(engine);
    drop(pending);
    // Room again, as an operator would make it.
    let bigger = ["-o", "remount,size=600m"];
    assert!(Command::new("mount").args(bigger).arg(disk.place.path()).status().unwrap().success());
    let engine = open(&disk, 0);
    let kept = stored(&engine).await;
    assert!(kept >= acknowledged, "{acknowledged} acknowledged, {kept} kept");
}
