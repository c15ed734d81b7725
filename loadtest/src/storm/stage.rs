//! What every generator of a run is given: whom to talk to, where its thread runs, and when to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::live::Live;

/// The system that is measured, as a phone sees it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address of the gateway, `host:port`.
    pub gate: String,
    /// The authority that made its certificates.
    pub ca: PathBuf,
}

/// The UDP ports of the system, for traffic that no phone would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Of the gateway.
    pub gate: SocketAddr,
    /// Of sessions in the foreground.
    pub front: SocketAddr,
    /// Of sessions in the background.
    pub wake: SocketAddr,
}

/// What every generator is given.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Whom to talk to.
    pub target: Target,
    /// The same seed makes the same plan of load.
    pub seed: u64,
    /// Counters for whoever watches.
    pub live: Arc<Live>,
    /// Ends the run early: a generator returns what it has so far.
    pub stop: CancellationToken,
}

/// Where a thread of the driver runs, and how urgently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Processors that it may use; empty: any.
    pub processors: Vec<usize>,
    /// Whether the scheduler serves it only when no other thread of the driver wants to run.
    pub runs_last: bool,
}
