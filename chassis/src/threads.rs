//! Threads of their own for what must not share any: a runtime that ends with its owner.
//!
//! Why it exists: what strangers may send to one port must not be felt at another, so each port has its own threads. They end in
//! whatever way their owner ends, also inside another runtime, which may not wait.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads.
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts so many; each calls `on_start` first, which may set its priority.
    pub fn start(name: &str, count: usize, on_start: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name(name)
            .on_thread_start(on_start)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to make what is to live on them: `let _inside = threads.handle().enter();`
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a task on them.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Ends them, and waits for it for so long.
    pub async fn end(mut self, limit: Duration) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads blocks.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(limit));
            let _ = ended.await;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
