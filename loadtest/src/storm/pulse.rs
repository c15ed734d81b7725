//! How far the network of a generator's thread is behind: a task that wants to run every few milliseconds, among those that carry packets.
//!
//! A generator hands out what is due in time even when its thread has more to do than it can, because that comes first there. Its connections then
//! answer late, and a server that waits for them looks slow.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lateness::Lateness;
use super::timing::Timing;

/// How often.
const EVERY: Duration = Duration::from_millis(20);

/// A pulse that beats.
#[derive(Debug)]
pub struct Pulse {
    late: Arc<Mutex<Lateness>>,
    task: JoinHandle<()>,
}

impl Pulse {
    /// Beats from now on, on this thread's runtime, as the tasks of connections do.
    pub fn start(timing: Timing) -> Self {
        let late = Arc::new(Mutex::new(Lateness::default()));
        let seen = late.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(timing.begin().into()).await;
            loop {
                let due = Instant::now() + EVERY;
                tokio::time::sleep_until(due).await;
                let behind = due.elapsed();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.record(timing.phase(due.into_std()), behind);
            }
        });
        Self { late, task }
    }

    /// Stops it; how late it was.
    pub fn finish(self) -> Lateness {
        self.task.abort();
        std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_something_else_is_late() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let late = runtime.block_on(async {
            // So long that a machine that stands still for a moment does not leave the quiet phase.
            let minute = Duration::from_secs(60);
            let timing = Timing::new(std::time::Instant::now(), minute, minute, minute);
            let pulse = Pulse::start(timing);
            while pulse.late.lock().unwrap().p99_ms().quiet.is_none() {
                tokio::task::yield_now().await;
            }
            std::thread::sleep(Duration::from_millis(200));
            tokio::time::sleep(EVERY).await;
            pulse.finish()
        });
        let late = late.p99_ms().quiet.unwrap();
        assert!(late >= 150.0, "{late} ms");
    }
}
