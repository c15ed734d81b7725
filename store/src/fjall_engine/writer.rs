//! The one thread that writes: natural group commit.
//!
//! It takes everything that is queued, stages it, makes it durable by one fdatasync, and only then tells anybody. While it
//! waits for the disk the next group gathers, so the group grows with the load and there is no timer that lingers. After
//! any error of the disk it never acknowledges anything again: a second fsync that returns well proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::PLACES;
use crate::boundary::StoreError;
use crate::fjall_engine::health::Health;
use crate::fjall_engine::trees::Trees;
use crate::ledger::{Command, Ledger, Outcome};
use crate::space::Put;
use crate::watching::Watchers;

/// Bytes of one commit, about: larger ones gain nothing and make their first record wait for their last.
const COMMIT_BYTES_MAX: usize = 1024 * 1024;

/// A command, who waits for it, and its place in the bounded queue.
pub(crate) struct Queued {
    pub(crate) command: Command,
    pub(crate) done: oneshot::Sender<Result<Outcome, StoreError>>,
    pub(crate) place: OwnedSemaphorePermit,
}

/// A command that is staged: what it will be answered once it is durable.
struct Pending {
    result: Result<Outcome, StoreError>,
    done: oneshot::Sender<Result<Outcome, StoreError>>,
    place: OwnedSemaphorePermit,
}

pub(crate) struct Writer {
    pub(crate) trees: Trees,
    pub(crate) ledger: Ledger,
    /// Bounded by the places that everything in it holds.
    pub(crate) queue: mpsc::UnboundedReceiver<Queued>,
    pub(crate) health: Arc<Health>,
    pub(crate) watchers: Arc<Watchers>,
    /// True while a commit is under way.
    pub(crate) is_committing: Arc<AtomicBool>,
    /// A test wants the next commit to fail as a disk does.
    #[cfg(test)]
    pub(crate) fails_next: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread. It ends when the queue is closed and empty.
    pub(crate) fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("store-writer".into()).spawn(move || {
            // What a half-done commit has left in memory is not known: start again from what is on the disk.
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                tracing::error!("the writer of the store has panicked; the process ends and recovers when it is started again");
                std::process::abort();
            }
        })
    }

    fn run(mut self) {
        let mut unfinished = Vec::new();
        while let Some(group) = self.gather(std::mem::take(&mut unfinished)) {
            self.is_committing.store(true, Relaxed);
            unfinished = self.commit(group);
            self.is_committing.store(false, Relaxed);
        }
    }

    /// What is queued, after what an earlier commit has left over. Waits when there is nothing.
    fn gather(&mut self, mut group: Vec<Queued>) -> Option<Vec<Queued>> {
        if group.is_empty() {
            group.push(self.queue.blocking_recv()?);
        }
        let mut bytes: usize = group.iter().map(|q| q.command.bytes()).sum();
        while group.len() < PLACES && bytes < COMMIT_BYTES_MAX {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.command.bytes();
            group.push(next);
        }
        Some(group)
    }

    /// Commits a group and answers it. What it returns goes on in the next commit.
    fn commit(&mut self, group: Vec<Queued>) -> Vec<Queued> {
        if let Err(error) = self.health.running() {
            for queued in group {
                let _ = queued.done.send(Err(error.clone()));
            }
            return Vec::new();
        }
        crash_point("store.before_append");
        let mut staged = self.ledger.begin();
        let mut pending = Vec::with_capacity(group.len());
        for Queued { command, done, place } in group {
            let result = self.ledger.stage(&self.trees, command, &mut staged);
            pending.push(Pending { result, done, place });
        }
        if !staged.puts.is_empty() {
            let began = Instant::now();
            #[cfg(feature = "crash-points")]
            if crate::crash::is_due("store.before_sync") {
                let _ = self.trees.write(staged.puts, fjall::PersistMode::Buffer);
                std::process::abort();
            }
            if let Err(error) = self.make_durable(staged.puts) {
                let error = self.health.stop(error);
                return refuse(pending, &error);
            }
            metrics::histogram!("buslane_store_commit_seconds").record(began.elapsed().as_secs_f64());
            metrics::histogram!("buslane_store_commit_commands").record(pending.len() as f64);
            metrics::counter!("buslane_store_commands_total").increment(pending.len() as u64);
        }
        crash_point("store.after_sync");
        self.watchers.tell(&staged.changes);
        answer(pending)
    }

    fn make_durable(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.fails_next.swap(false, Relaxed) {
            self.trees.write(puts, fjall::PersistMode::Buffer)?;
            return Err(StoreError::Stopped("fsync has failed".into()));
        }
        self.trees.commit(puts)
    }
}

fn refuse(pending: Vec<Pending>, error: &StoreError) -> Vec<Queued> {
    for p in pending {
        let _ = p.done.send(Err(error.clone()));
    }
    Vec::new()
}

/// Whoever no longer waits has lost nothing: the command is done all the same.
fn answer(pending: Vec<Pending>) -> Vec<Queued> {
    let mut unfinished = Vec::new();
    let middle = pending.len() / 2;
    for (i, Pending { result, done, place }) in pending.into_iter().enumerate() {
        if i == middle {
            crash_point("store.mid_receipts");
        }
        match result {
            Ok(Outcome::TrimOn(trim)) => {
                unfinished.push(Queued { command: Command::Trim(trim), done, place })
            }
            result => {
                let _ = done.send(result);
            }
        }
    }
    crash_point("store.after_receipts");
    unfinished
}

#[cfg(feature = "crash-points")]
use crate::crash::pass as crash_point;

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
fn crash_point(_name: &str) {}
