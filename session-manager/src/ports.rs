//! The two UDP ports, each with its own endpoint on its own threads.
//!
//! Why it exists: a storm of logins at the wake port must not be felt at the front port. The two share nothing that could
//! block: no thread, no socket, and as good as no lock (decision 11 names the rest). The threads of the wake port run only when the
//! processor has nothing else to do (SCHED_IDLE): measured beside 20,000 handshakes a second, a foreground answer then takes 0.18 ms
//! at the 99th percentile, as without them, and 1.46 ms beside threads of the same priority. They end with the manager, in
//! whatever way it ends.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::quic::{Porter, Tuning, Wanted, screened_endpoint};
use buslane_chassis::threads::Threads;
use buslane_chassis::tls::Identity;
use buslane_shared::limits::ALPN_SESSION;
use buslane_shared::mark::Lane;
use buslane_shared::refusal::Code;
use quinn::Endpoint;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::time::{Instant, timeout};

use crate::gate::Gate;
use crate::screen::{Watch, port_name};
use crate::{BindError, goodbye};

/// How long the last close packets and the threads of a port may take, when everything on them has been told to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// When the threads of a port run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Like all others.
    Usual,
    /// When no other wants to.
    Last,
}

impl Turn {
    /// Where nothing is controlled the scheduler is not asked for help either: a baseline that it protects would be none.
    fn of(lane: Lane, gate: &Gate) -> Self {
        match lane {
            Lane::Wake if gate.needs_passes() => Self::Last,
            Lane::Wake | Lane::Front => Self::Usual,
        }
    }

    /// Makes it so for this thread. It is a wish: where the system does not know it, the port works all the same.
    fn take(self) {
        if self == Self::Usual {
            return;
        }
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            tracing::warn!(%error, "the threads of the wake port have the usual priority");
        }
    }
}

/// An endpoint and the threads it lives on.
pub(crate) struct Listener {
    pub(crate) endpoint: Endpoint,
    pub(crate) watch: Watch,
    pub(crate) addr: SocketAddr,
    threads: Threads,
}

impl Listener {
    pub(crate) fn bind(
        watch: Watch,
        threads: usize,
        addr: SocketAddr,
        identity: &Identity,
        tuning: Tuning,
    ) -> Result<Self, BindError> {
        let turn = Turn::of(watch.lane, &watch.gate);
        let name = format!("buslane-{}", port_name(watch.lane));
        let threads = Threads::start(&name, threads, move || turn.take()).map_err(BindError::Threads)?;
        let inside = threads.handle().enter();
        let (endpoint, knocks) = screened_endpoint(addr, identity, ALPN_SESSION, tuning, watch.screen())?;
        let addr = endpoint.local_addr().map_err(BindError::Address)?;
        drop(inside);
        if watch.lane == Lane::Front {
            let porter = Porter::new(knocks, port_name(watch.lane));
            threads.spawn(porter.run(whom(watch.clone())));
        }
        Ok(Self { endpoint, watch, addr, threads })
    }

    /// Runs a task on the threads of this port.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.threads.spawn(task);
    }

    /// Closes what is still open, and ends the threads.
    pub(crate) async fn end(self) {
        self.endpoint.close(goodbye::number(Code::Draining), Code::Draining.name().as_bytes());
        // Whoever does not hear the close learns it from the silence.
        let _ = timeout(END_LIMIT, self.endpoint.wait_idle()).await;
        self.threads.end(END_LIMIT).await;
    }
}

/// Whom a port wants to hear. Those who do not knock as is usual are kept out of the front port when the handshakes are over that
/// began before there was a knock.
fn whom(watch: Watch) -> impl FnMut() -> Wanted + Send {
    let mut known_since = None;
    move || {
        let (keys, now_ms) = (watch.reader.feed.keys(), clock::unix_ms());
        let announced = keys.marks().knock(now_ms);
        if announced.is_some() {
            known_since.get_or_insert_with(Instant::now);
        }
        let is_due = known_since.is_some_and(|since: Instant| since.elapsed() >= watch.handshake_limit);
        let strangers = !(is_due && watch.gate.needs_passes());
        Wanted { announced, knocks: keys.marks().knocks(now_ms), strangers }
    }
}
