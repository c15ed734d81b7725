//! Orderly shutdown as a value: one signal that everybody sees, one tracker of every task, one limit in time.
//!
//! Why it exists: every task has an owner that waits for it. A task that is spawned through [`Shutdown::tracker`] and
//! watches [`Shutdown::token`] is never left behind. It must never be used to abort work in the middle: whoever is told
//! to stop finishes what was promised, within the limit.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handle of the shutdown of one process (or of one test). Clones are the same shutdown.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the shutdown begins.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Spawn through this, so that [`Shutdown::finish`] waits for the task.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Tells everybody to stop. Doing it twice changes nothing.
    pub fn begin(&self) {
        self.token.cancel();
        self.tracker.close();
    }

    /// Begins the shutdown and waits until every tracked task has ended. False: some still ran at the limit.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.begin();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finish_waits_for_tasks_that_obey_and_reports_those_that_do_not() {
        let obedient = Shutdown::new();
        let token = obedient.token().clone();
        obedient.tracker().spawn(async move { token.cancelled().await });
        assert!(obedient.finish(Duration::from_secs(1)).await);

        let stubborn = Shutdown::new();
        let task = stubborn.tracker().spawn(std::future::pending::<()>());
        assert!(!stubborn.finish(Duration::from_secs(1)).await);
        task.abort();
        assert!(stubborn.finish(Duration::from_secs(1)).await);
    }
}
