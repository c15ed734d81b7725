//! Durable, ordered, sealed: the boundaries of storage, the engines behind them, and the sealing of records.
//!
//! What a write means is decided in one place (`ledger.rs`) and how the store is read in another (`reading.rs`); an engine
//! adds how bytes become durable: [`fjall_engine`] on a disk, [`memory`] for tests. [`sealing`] stands above every engine:
//! an engine never sees a message in the clear. Nothing in here says that something is stored before it is.

pub mod backup;
pub mod boundary;
pub mod conformance;
#[cfg(feature = "crash-points")]
pub mod crash;
pub mod export;
pub mod fjall_engine;
pub mod keywrap;
mod ledger;
pub mod measure;
pub mod memory;
pub mod meters;
mod reading;
pub mod record;
pub mod retention;
pub mod sealing;
mod space;
mod watching;

use std::fs::File;
use std::io;
use std::path::Path;

pub use boundary::*;

/// Appends that wait for their commit: latency grows with depth, and from here on throughput no longer does. With the
/// largest content of a record this also bounds their bytes, to 256 MiB; with messages of 1 KiB they are 4 MiB.
pub const PLACES: usize = 4096;

/// Bytes that must be free on the disk before a write is taken, unless configured otherwise. What was taken is always
/// finished: a full queue (see [`PLACES`]), the memory tables and one compaction fit in here.
pub const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// Random bytes for keys and nonces; `None`: the system has none, and nothing may be sealed.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

/// Makes the name of a new file durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
