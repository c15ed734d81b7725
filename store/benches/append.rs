//! What the store can do on this disk: durable appends per second by depth, how fast a full store opens, and what
//! sealing costs.
//!
//! Prints a table. `BUSLANE_BENCH_DIR` names the folder to measure in (its disk is what is measured); without it the
//! system's temporary folder is used.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use buslane_shared::id::{ClientId, RoomId};
use buslane_store::fjall_engine::{FjallEngine, Options};
use buslane_store::measure::measure_append_rate;
use buslane_store::memory::MemoryEngine;
use buslane_store::sealing::{MemoryKeyWrap, RecordHeader, RoomKey, Sealer};
use buslane_store::{Epoch, Leases, StoredRecord};

fn main() {
    // `cargo test` starts every target; a measurement is not a test.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!(
        "{:>9} {:>6} {:>12} {:>10} {:>10} {:>10}",
        "in flight", "bytes", "appends/s", "p50 us", "p99 us", "p999 us"
    );
    for (in_flight, count) in [(1, 20_000), (64, 200_000), (1000, 300_000)] {
        let folder = folder();
        let r = runtime.block_on(measure_append_rate(folder.path(), in_flight, 300, count)).unwrap();
        println!(
            "{:>9} {:>6} {:>12.0} {:>10.0} {:>10.0} {:>10.0}",
            r.in_flight, r.size, r.per_s, r.p50_us, r.p99_us, r.p999_us
        );
    }
    start(&runtime);
    let room = RoomId::from_bytes([1; 16]);
    let sealer = Sealer::new(MemoryEngine::new(), Arc::new(MemoryKeyWrap::new().unwrap()));
    let key = runtime.block_on(sealer.room_key(room)).unwrap();
    println!("\n{:>9} {:>10} {:>10}", "bytes", "seal ns", "open ns");
    for bytes in [100, 300, 1000, 16_000] {
        let (seal, open) = sealing_ns(&key, room, bytes);
        println!("{bytes:>9} {seal:>10.0} {open:>10.0}");
    }
}

/// Fills a store with 1 GiB of records and opens it again: the journal is replayed, the tables are found.
fn start(runtime: &tokio::runtime::Runtime) {
    let folder = folder();
    runtime.block_on(measure_append_rate(folder.path(), 1000, 1000, 1 << 20)).unwrap();
    let began = Instant::now();
    let engine = FjallEngine::open(folder.path(), Options::default()).unwrap();
    let opened = began.elapsed();
    let began = Instant::now();
    runtime.block_on(engine.acquire((0..=255).collect(), "bench")).unwrap();
    println!("\nopening a store of 1 GiB: {opened:.0?}, taking its shards: {:.0?}", began.elapsed());
}

fn folder() -> tempfile::TempDir {
    match std::env::var_os("BUSLANE_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

fn sealing_ns(key: &RoomKey, room: RoomId, bytes: usize) -> (f64, f64) {
    const ROUNDS: u64 = 100_000;
    static EPOCH: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let fence = Epoch(EPOCH.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let clear = vec![7; bytes];
    let mut header = RecordHeader {
        room,
        seq: 0,
        sender: "alice".parse().unwrap(),
        client_id: ClientId::from_bytes([2; 16]),
        sent_at_ms: 1,
    };
    let began = Instant::now();
    for seq in 1..=ROUNDS {
        header.seq = seq;
        std::hint::black_box(key.seal(fence, &header, &clear).unwrap());
    }
    let seal = began.elapsed().as_nanos() as f64 / ROUNDS as f64;
    header.seq = ROUNDS + 1;
    let stored = StoredRecord { seq: header.seq, bytes: key.seal(fence, &header, &clear).unwrap() };
    let began = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(key.open(room, &stored).unwrap());
    }
    (seal, began.elapsed().as_nanos() as f64 / ROUNDS as f64)
}
