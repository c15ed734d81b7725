//! What the system says about this process: memory, descriptors, processor time, how long it runs.
//!
//! Why it exists: "memory after a storm returns to what it was before" is a promise, and a promise needs a number that
//! comes from outside of the program's own books. Where there is no `/proc`, the numbers are left out, never invented.

use std::fs;
use std::sync::LazyLock;
use std::time::Instant;

use metrics::gauge;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Page size on every system that has `/proc/self/statm` and that Buslane is built for.
const PAGE_BYTES: f64 = 4096.0;

pub(super) fn begin() {
    LazyLock::force(&STARTED);
}

pub(super) fn sample() {
    gauge!("buslane_process_uptime_seconds").set(STARTED.elapsed().as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        gauge!("buslane_process_resident_bytes").set(bytes);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        gauge!("buslane_process_open_fds").set(entries.count() as f64);
    }
}

fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}
