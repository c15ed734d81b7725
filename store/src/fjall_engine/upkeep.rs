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
use super::trees::{Trees, Waiting, Which};
use crate::boundary::StoreError;

/// How often the background work of the database is checked for failure.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often a commit may be found stuck behind failed background work before the process ends.
const STUCK_CHECKS_MAX: u32 = 10;

/// How often it is looked whether something is to be written out.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is written out at the next look while little is written: memory is given back, and there is less to be replayed.
const CALM_BYTES_MIN: u64 = 1024 * 1024;

/// Little is written while no more than this comes between two looks. What is more takes a second of a processor to write out and to
/// merge, and messages feel it where that processor is full.
const CALM_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Otherwise it is written out after so many looks,
const BUSY_LOOKS: u32 = 3;

/// unless it is less than this.
const BUSY_BYTES_MIN: u64 = 4 * 1024 * 1024;

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
    let mut pace = Pace::default();
    while goes_on(stopped, LOOK_EVERY) {
        let due = pace.look(trees.written(), trees.waiting());
        // A full disk takes nothing now.
        let Some(which) = due.filter(|_| health.accepts().is_ok()) else { continue };
        pace.written_out();
        if let Err(error) = trees.begin_write_out(which) {
            // Background work that fails is what the other thread looks for.
            tracing::warn!(%error, "memory tables of the store were not written out");
        }
    }
}

/// When memory tables are written out.
#[derive(Debug, Default)]
struct Pace {
    /// Looks since they were the last time.
    looks: u32,
    /// What had been written at the last look.
    written: u64,
}

impl Pace {
    /// So much was written since the beginning. Which of the memory tables it is time for.
    fn look(&mut self, written: u64, waiting: Waiting) -> Option<Which> {
        self.looks = self.looks.saturating_add(1);
        let grown = written.saturating_sub(std::mem::replace(&mut self.written, written));
        if grown <= CALM_BYTES_MAX && !waiting.is_behind && waiting.worth >= CALM_BYTES_MIN {
            return Some(Which::Worth);
        }
        (self.looks >= BUSY_LOOKS && waiting.bytes >= BUSY_BYTES_MIN).then_some(Which::All)
    }

    /// They are being written out.
    fn written_out(&mut self) {
        self.looks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    /// The seconds at which tables are written out that grow by so much between two looks.
    fn written_out_at(grows: &[u64], is_behind: bool, worth: fn(u64) -> u64) -> Vec<(u64, Which)> {
        let (mut pace, mut written, mut bytes, mut at) = (Pace::default(), 0, 0, Vec::new());
        for (grown, look) in grows.iter().zip(1..) {
            written += grown;
            bytes += grown;
            if let Some(which) = pace.look(written, Waiting { bytes, worth: worth(bytes), is_behind }) {
                pace.written_out();
                bytes = 0;
                at.push((look * LOOK_EVERY.as_secs(), which));
            }
        }
        at
    }

    #[test]
    fn little_is_written_out_when_it_is_worth_it_and_much_three_times_less_often() {
        let at = |grows: &[u64]| written_out_at(grows, false, |bytes| bytes);
        let worth = |at: &[u64]| at.iter().map(|at| (*at, Which::Worth)).collect::<Vec<_>>();
        assert!(at(&[0; 100]).is_empty());
        assert_eq!(at(&[300 * KIB; 12]), worth(&[40, 80, 120]), "a mebibyte");
        assert_eq!(at(&[1500 * KIB; 4]), worth(&[10, 20, 30, 40]));
        assert_eq!(at(&[3 * MIB; 7]), [(30, Which::All), (60, Which::All)], "a processor that may be full");
        let mut storm = vec![20 * MIB; 4];
        storm.extend([1500 * KIB, 0, 0, 0]);
        assert_eq!(at(&storm), [(30, Which::All), (50, Which::Worth)], "when it is over, at the next look");
    }

    #[test]
    fn where_a_merge_is_dear_or_behind_it_waits_for_more() {
        let large = |bytes| if bytes >= 12 * MIB { bytes } else { 0 };
        assert_eq!(written_out_at(&[MIB; 8], false, large), [(40, Which::All), (80, Which::All)]);
        assert_eq!(written_out_at(&[MIB; 8], true, |bytes| bytes), [(40, Which::All), (80, Which::All)]);
        assert!(written_out_at(&[100 * KIB; 39], true, |bytes| bytes).is_empty());
    }
}
