//! A pool of workers with a queue in front, as most servers have it.

use std::collections::VecDeque;

use buslane_shared::Nanos;

use crate::simulate::job::Job;

/// Counts who is at work, and keeps who waits.
#[derive(Debug)]
pub struct Pool {
    workers: u32,
    busy: u32,
    waiting: VecDeque<Waiting>,
}

/// Who waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// For a worker.
    pub job: Job,
    /// Since then.
    pub since: Nanos,
    /// When it is turned away.
    pub until: Nanos,
}

impl Pool {
    /// With this many workers.
    pub fn new(workers: u32) -> Self {
        Self { workers, busy: 0, waiting: VecDeque::new() }
    }

    /// Takes a worker for a job that comes, unless it must wait.
    pub fn try_start(&mut self) -> bool {
        let starts = self.waiting.is_empty() && self.has_worker();
        self.busy += u32::from(starts);
        starts
    }

    /// Takes a worker for a job that has waited.
    pub fn start(&mut self) {
        self.busy += 1;
    }

    /// Whether a worker is free.
    pub fn has_worker(&self) -> bool {
        self.busy < self.workers
    }

    /// Workers without work.
    pub fn free(&self) -> u32 {
        self.workers.saturating_sub(self.busy)
    }

    /// A worker is free again.
    pub fn end(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// A job waits, no longer than `patience`.
    pub fn wait(&mut self, job: &Job, now: Nanos, patience: Nanos) {
        self.waiting.push_back(Waiting { job: *job, since: now, until: now.saturating_add(patience) });
    }

    /// Those who wait, the oldest first.
    pub fn queue(&mut self) -> &mut VecDeque<Waiting> {
        &mut self.waiting
    }
}
