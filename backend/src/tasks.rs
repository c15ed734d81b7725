//! The backend's tasks: all on its own runtime, all waited for at the end.
//!
//! In one process a request may come in on a session manager's runtime whose threads rank low or end early. Whatever the
//! backend has taken over, it finishes on its own threads: a receipt never waits for somebody else's.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Starts tasks.
#[derive(Clone)]
pub(crate) struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
}

impl Tasks {
    /// Tasks on the present runtime, waited for through `tracker`.
    pub(crate) fn here(tracker: TaskTracker) -> Self {
        Self { runtime: Handle::current(), tracker }
    }

    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn_on(task, &self.runtime)
    }
}
