//! The two UDP ports, each with its own endpoint on its own threads.
//!
//! Why it exists: a storm of logins at the wake port must not be felt at the front port. The two share nothing that could
//! block: no thread, no socket, no lock but the shards of the session table. Their threads end with the manager, in
//! whatever way it ends.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use buslane_chassis::quic::{Tuning, server_endpoint};
use buslane_chassis::tls::Identity;
use buslane_shared::limits::ALPN_SESSION;
use buslane_shared::refusal::Code;
use quinn::Endpoint;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;

use crate::{BindError, goodbye};

/// How long the last close packets and the threads of a port may take, when everything on them has been told to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Threads that end when this is dropped, without waiting: it may be dropped inside a runtime.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// An endpoint and the threads it lives on.
pub(crate) struct Listener {
    pub(crate) endpoint: Endpoint,
    pub(crate) addr: SocketAddr,
    handle: Handle,
    threads: Threads,
}

impl Listener {
    pub(crate) fn bind(
        name: &'static str,
        threads: usize,
        addr: SocketAddr,
        identity: &Identity,
        tuning: Tuning,
    ) -> Result<Self, BindError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(format!("buslane-{name}"))
            .enable_all()
            .build()
            .map_err(BindError::Threads)?;
        let handle = runtime.handle().clone();
        let threads = Threads(Some(runtime));
        let _inside = handle.enter();
        let endpoint = server_endpoint(addr, identity, ALPN_SESSION, tuning)?;
        let addr = endpoint.local_addr().map_err(BindError::Address)?;
        drop(_inside);
        Ok(Self { endpoint, addr, handle, threads })
    }

    /// Runs a task on the threads of this port.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Closes what is still open, and ends the threads.
    pub(crate) async fn end(mut self) {
        self.endpoint.close(goodbye::number(Code::Draining), Code::Draining.name().as_bytes());
        // Whoever does not hear the close learns it from the silence.
        let _ = timeout(END_LIMIT, self.endpoint.wait_idle()).await;
        if let Some(runtime) = self.threads.0.take() {
            // Waiting for threads blocks.
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(END_LIMIT));
            let _ = ended.await;
        }
    }
}
