//! The desk: where requests of the wake port run, and its logins are checked.
//!
//! Why it exists: threads of the wake port run only when nothing else wants to. One that was stopped while it held a lock
//! of the backend, or that of the seats, would hold up the foreground for as long. So those threads do nothing but QUIC, and
//! everything that is shared is done here, on threads of normal priority, a session's requests in their order. The desk has
//! threads of its own: waking somebody on the wake port takes a lock of that port's scheduler, and only background may
//! wait for that. How a session's requests come here and go back is in `errands`.

use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

use crate::BindError;

/// How long its threads may take to end, when everything on them has been told to.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The desk is gone, or a request at it has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the desk does not answer")]
pub(crate) struct Gone;

/// The desk's own threads. They end with this, in whatever way it ends.
pub(crate) struct Room(Option<Runtime>, Desk);

impl Room {
    pub(crate) fn open(threads: usize) -> Result<Self, BindError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("buslane-desk")
            .enable_all()
            .build()
            .map_err(BindError::Threads)?;
        let desk = Desk(runtime.handle().clone());
        Ok(Self(Some(runtime), desk))
    }

    pub(crate) fn desk(&self) -> Desk {
        self.1.clone()
    }

    /// Ends the threads.
    pub(crate) async fn close(mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for threads blocks.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(CLOSE_LIMIT));
            let _ = ended.await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Without waiting: it may be dropped inside a runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where work of the wake port is done.
#[derive(Debug, Clone)]
pub(crate) struct Desk(Handle);

impl Desk {
    /// Runs a task there. It ends by itself, or with the desk.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Does something there, some time.
    pub(crate) fn later(&self, work: impl FnOnce() + Send + 'static) {
        self.spawn(async move { work() });
    }

    /// Does something there and waits for it. It ends when this is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Gone> {
        let work = AbortOnDropHandle::new(self.0.spawn(tokio::task::unconstrained(work)));
        work.await.map_err(|_| Gone)
    }
}
