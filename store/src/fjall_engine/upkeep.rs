//! What an open database needs from time to time: somebody who sees that its background work has failed, and somebody who has memory
//! tables written out that would otherwise only be when they are full.
//!
//! Why the second: each space keeps its newest entries in memory until there are 16 or 32 MiB of them. After a storm they would stay
//! there for hours, with everything that a restart has to replay.
//!
//! Two threads, because the second waits for the lock of a commit, which the first must be able to find stuck. Neither may hold up
//! commits for longer than tables that are full do: for each of them the database syncs its journal once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::health::Health;
use super::trees::Trees;
use crate::boundary::StoreError;

/// How often the background work of the database is checked for failure.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often a commit may be found stuck behind failed background work before the process ends.
const STUCK_CHECKS_MAX: u32 = 10;

/// How long entries stay in memory at most, as long as they are worth a file.
const WRITE_OUT_EVERY: Duration = Duration::from_secs(30);

/// What is not worth a file: less than this in all memory tables together stays where it is.
const WRITE_OUT_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// The threads. They end with the value.
pub(super) struct Upkeep {
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Upkeep {
    /// Starts them.
    pub(super) fn start(
        trees: &Trees,
        health: &Arc<Health>,
        is_committing: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let mut upkeep = Self { threads: Vec::new() };
        let (watched, its_health) = (trees.clone(), Arc::clone(health));
        upkeep.add("store-watch", move |stopped| watch(&stopped, &watched, &its_health, &is_committing))?;
        let (trees, health) = (trees.clone(), Arc::clone(health));
        upkeep.add("store-write-out", move |stopped| write_out(&stopped, &trees, &health))?;
        Ok(upkeep)
    }

    fn add(&mut self, name: &str, run: impl FnOnce(Receiver<()>) + Send + 'static) -> std::io::Result<()> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(stopped))?;
        self.threads.push((stop, thread));
        Ok(())
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Whether to go on after this time.
fn goes_on(stopped: &Receiver<()>, after: Duration) -> bool {
    stopped.recv_timeout(after) == Err(RecvTimeoutError::Timeout)
}

/// Watches the background work of the database. Its failure stops the store; a commit that waits for it for ever (for
/// memory tables that nobody writes out any more) ends the process, so that it is started again.
fn watch(stopped: &Receiver<()>, trees: &Trees, health: &Health, is_committing: &AtomicBool) {
    let mut stuck = 0;
    while goes_on(stopped, WATCH_EVERY) {
        if health.running().is_ok() && trees.is_poisoned() {
            health.stop(StoreError::Stopped("the background work of the store has failed".into()));
        }
        stuck = if health.running().is_err() && is_committing.load(Relaxed) { stuck + 1 } else { 0 };
        if stuck > STUCK_CHECKS_MAX {
            tracing::error!("a commit is stuck behind failed work of the disk; the process ends");
            std::process::abort();
        }
    }
}

/// Has the memory tables written out.
fn write_out(stopped: &Receiver<()>, trees: &Trees, health: &Health) {
    while goes_on(stopped, WRITE_OUT_EVERY) {
        // A full disk takes nothing now.
        if health.accepts().is_err() || trees.bytes_in_memory() < WRITE_OUT_BYTES_MIN {
            continue;
        }
        if let Err(error) = trees.begin_write_out() {
            // Background work that fails is what the other thread looks for.
            tracing::warn!(%error, "memory tables of the store were not written out");
        }
    }
}
