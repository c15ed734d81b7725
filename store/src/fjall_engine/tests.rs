//! The engine on a disk: the suite, and what only a disk can do.

use super::*;
use crate::conformance::{self, Factory};
use crate::fjall_engine::trees::{Waiting, Which};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

fn options() -> Options {
    Options { free_bytes_min: 0, ..Options::default() }
}

/// Each engine of the suite in a folder of its own.
struct OnDisk(parking_lot::Mutex<Vec<TempDir>>);

impl Factory for OnDisk {
    type Engine = FjallEngine;

    async fn open(&self) -> Arc<FjallEngine> {
        let folder = tempdir().unwrap();
        let engine = FjallEngine::open(folder.path(), options()).unwrap();
        self.0.lock().push(folder);
        engine
    }

    async fn reopen(&self, engine: Arc<FjallEngine>) -> Arc<FjallEngine> {
        assert_eq!(Arc::strong_count(&engine), 1);
        let path = engine._folder.path().to_owned();
        drop(engine);
        FjallEngine::open(&path, options()).unwrap()
    }

    fn fail_next_sync(&self, engine: &FjallEngine) {
        engine.fails_next.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_conforms() {
    conformance::run(&OnDisk(parking_lot::Mutex::default())).await;
}

fn room() -> RoomId {
    RoomId::from_bytes([1; 16])
}

fn record(seq: u64) -> SealedRecord {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    SealedRecord {
        room: room(),
        seq,
        sender: "alice".parse().unwrap(),
        client_id: ClientId::from_bytes(id),
        bytes: vec![seq as u8; 200].into(),
    }
}

/// Appends, one commit for each record.
async fn append(engine: &FjallEngine, seqs: std::ops::RangeInclusive<u64>) {
    let fence = engine.acquire(vec![room().shard()], "test").await.unwrap()[0];
    for seq in seqs {
        let place = engine.reserve().await.unwrap();
        engine.append(place, fence, record(seq)).await.unwrap();
    }
}

async fn stored(engine: &FjallEngine) -> Vec<u64> {
    let records = engine.read(room(), 0, 10_000, usize::MAX).await.unwrap();
    for found in &records {
        assert_eq!(found.bytes, record(found.seq).bytes);
    }
    records.iter().map(|r| r.seq).collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A copy of the folder as a crash would leave it; files end where their content ends.
fn crashed_copy(from: &Path) -> TempDir {
    let to = tempdir().unwrap();
    for file in files(from) {
        let target = to.path().join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        if file.extension().is_some_and(|e| e == "jnl") {
            bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        }
        std::fs::write(&target, bytes).unwrap();
    }
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_out_early_leaves_memory_and_is_still_there() {
    let folder = tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), options()).unwrap();
    append(&engine, 1..=1000).await;
    let before = engine.trees.bytes_in_memory();
    assert!(before > 200 * 200, "{before}");
    // The log alone holds enough for a file: the others stay.
    let waiting = engine.trees.waiting();
    assert!((128 * 1024..before).contains(&waiting.bytes), "{waiting:?} of {before}");
    assert_eq!((waiting.worth, waiting.is_behind), (waiting.bytes, false));
    engine.trees.begin_write_out(Which::Worth).unwrap();
    let left = before - waiting.bytes;
    let limit = Instant::now() + Duration::from_secs(20);
    while engine.trees.bytes_in_memory() > left {
        assert!(
            Instant::now() < limit,
            "{} of {before} bytes are still in memory",
            engine.trees.bytes_in_memory()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nothing is there to be written out, and that is no failure.
    assert_eq!(engine.trees.waiting(), Waiting::default());
    engine.trees.begin_write_out(Which::All).unwrap();
    assert_eq!(engine.trees.bytes_in_memory(), left);
    append(&engine, 1001..=1010).await;
    assert_eq!(stored(&engine).await, (1..=1010).collect::<Vec<_>>());
}

/// Everything in the store, in a form that compares.
fn content(engine: &FjallEngine) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut take = |entry| {
        entries.push(entry);
        Ok(())
    };
    let exported = catch_unwind(AssertUnwindSafe(|| engine.export(&mut take)));
    for seq in 1..=60 {
        let SealedRecord { room, sender, client_id, .. } = record(seq);
        let found = engine.find(room, &sender, client_id).map_err(|e| e.to_string())?;
        assert!(found == Some(seq) || exported.is_err(), "client id {seq} is lost in silence");
    }
    match exported {
        Ok(Ok(())) => Ok(entries),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("a panic".into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_cut_anywhere_keeps_what_comes_before() {
    let folder = tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), options()).unwrap();
    append(&engine, 1..=12).await;
    let image = crashed_copy(folder.path());
    let journal = image.path().join("fjall").join("0.jnl");
    let whole = std::fs::read(&journal).unwrap();
    // One record is about 350 bytes: the cuts fall into every part of one.
    let mut kept = Vec::new();
    for cut in (whole.len() - 2000..=whole.len()).rev().step_by(61) {
        let copy = crashed_copy(image.path());
        std::fs::write(copy.path().join("fjall").join("0.jnl"), &whole[..cut]).unwrap();
        let engine = FjallEngine::open(copy.path(), options()).unwrap();
        let seqs = stored(&engine).await;
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        assert_eq!(engine.head(room()).await, Ok(seqs.len() as u64));
        kept.push(seqs.len());
        append(&engine, seqs.len() as u64 + 1..=20).await;
        assert_eq!(stored(&engine).await, (1..=20).collect::<Vec<_>>());
    }
    assert_eq!(kept[0], 12);
    assert!(kept.is_sorted_by(|a, b| a >= b) && *kept.last().unwrap() < 10, "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_that_leaves_a_hole_in_the_last_write_keeps_what_comes_before() {
    let folder = tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), options()).unwrap();
    append(&engine, 1..=5).await;
    let long = Mutation::Put { table: Table::Users, key: "long".into(), value: vec![7; 60_000].into() };
    engine.write(vec![long]).await.unwrap();
    let image = crashed_copy(folder.path());
    let journal = image.path().join("fjall").join("0.jnl");
    let mut bytes = std::fs::read(&journal).unwrap();
    // A page in the middle of the last write never reached the disk, its end did.
    let page = (bytes.len() - 30_000) / 4096 * 4096;
    bytes[page..page + 4096].fill(0);
    std::fs::write(&journal, bytes).unwrap();
    let engine = FjallEngine::open(image.path(), options()).unwrap();
    assert_eq!(stored(&engine).await, (1..=5).collect::<Vec<_>>());
    assert_eq!(engine.get(Table::Users, b"long"), Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flipped_bit_in_any_file_is_reported_or_harmless() {
    const PLACES_EACH: usize = 4;
    let folder = tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), options()).unwrap();
    append(&engine, 1..=40).await;
    let put = |i: u8| Mutation::Put { table: Table::Users, key: vec![i].into(), value: vec![i; 50].into() };
    engine.write((1..40).map(put).collect()).await.unwrap();
    engine.trees.write_out().unwrap();
    append(&engine, 41..=60).await;
    let whole = content(&engine).unwrap();
    let image = crashed_copy(folder.path());
    drop(engine);

    let (mut reported, mut harmless) = (0, Vec::new());
    for file in files(image.path()) {
        let name = file.strip_prefix(image.path()).unwrap().to_owned();
        let bytes = std::fs::read(&file).unwrap();
        for i in 0..bytes.len().min(PLACES_EACH) {
            let at = (bytes.len() - 1) * (2 * i + 1) / (2 * PLACES_EACH);
            let copy = crashed_copy(image.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(copy.path().join(&name), flipped).unwrap();
            let found = FjallEngine::open(copy.path(), options()).map_err(|e| e.to_string());
            match found.and_then(|engine| content(&engine)) {
                Ok(found) if found == whole => harmless.push(format!("{}@{at}", name.display())),
                Ok(_) => {
                    panic!("a flipped bit at {at} of {} has changed the content in silence", name.display())
                }
                Err(_) => reported += 1,
            }
        }
    }
    println!("{reported} reported, {} harmless: {harmless:?}", harmless.len());
    assert!(reported > harmless.len());
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_free_again_afterwards() {
    let folder = tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), options()).unwrap();
    assert!(matches!(FjallEngine::open(folder.path(), options()), Err(OpenError::InUse(_))));
    // A write that nobody waits for is finished, and one that was never begun holds nobody up.
    let never_polled = engine.write(vec![]);
    drop(engine);
    assert!(FjallEngine::open(folder.path(), options()).is_ok());
    assert!(matches!(never_polled.await, Err(StoreError::Stopped(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_new_writes_and_lets_old_ones_go() {
    let folder = tempdir().unwrap();
    drop(FjallEngine::open(folder.path(), options()).unwrap());
    let engine = FjallEngine::open(folder.path(), Options { free_bytes_min: u64::MAX, ..options() }).unwrap();
    let full = StoreError::DiskFull { needed_bytes: u64::MAX };
    assert_eq!(engine.reserve().await.map(|_| ()), Err(full.clone()));
    assert_eq!(engine.write(vec![]).await, Err(full.clone()));
    assert_eq!(engine.trouble(), Some(full));
    assert!(engine.acquire(vec![1], "test").await.is_ok());
    assert_eq!(engine.trim(room(), 5).await, Ok(0));
}
