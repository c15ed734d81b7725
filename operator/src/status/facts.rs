//! What one look at the system saw. Only values: nothing here reads a clock or asks anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use buslane_shared::UnixMs;

use crate::view::{NodeView, ProbeView, Sample};

/// What one look saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// When.
    pub now_ms: UnixMs,
    /// Name of the process that looks.
    pub here: String,
    /// "up", "gateway", "session-manager" or "backend".
    pub role: &'static str,
    /// Its readiness checks; `None`: it is ready, otherwise why not.
    pub checks: BTreeMap<String, Option<String>>,
    /// Whether the backend's feed is connected.
    pub feed_connected: bool,
    /// Gateways that the backend says are attached; 0: it has not said so.
    pub gateways_attached: u32,
    /// The other processes.
    pub nodes: Vec<NodeView>,
    /// The session managers.
    pub managers: Vec<Manager>,
    /// The last seconds of this node, oldest first.
    pub seconds: Vec<Arc<Sample>>,
    /// The seats of this node.
    pub seats: Option<Seats>,
    /// The probe.
    pub probe: Probe,
    /// When the certificate of this process ends.
    pub certificate_ends_ms: Option<UnixMs>,
    /// What is damaged in the audit; none: nothing is known to be.
    pub audit_damage: Option<String>,
    /// Memory and descriptors of this process.
    pub stocks: Stocks,
}

/// A session manager, by whatever way it was heard of.
#[derive(Debug, Clone, PartialEq)]
pub struct Manager {
    /// Its name.
    pub node: String,
    /// Since it was heard of last.
    pub age_ms: u64,
    /// How it was heard of.
    pub heard: Heard,
    /// Whether it drains.
    pub draining: bool,
    /// What it measures: "normal", "guard", "emergency" or "recovery".
    pub measured: String,
    /// Why, in words.
    pub cause: Option<String>,
    /// The order that it obeys.
    pub order: Option<u64>,
    /// What it lacks, in words.
    pub lacks: Option<String>,
}

/// How a session manager was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is this process.
    Here,
    /// It was asked itself.
    Directly,
    /// The backend told what it had said.
    ThroughBackend,
}

/// Who may have which seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// All of them.
    pub all: u32,
    /// The most that background may have now.
    pub background: u32,
}

/// What is known from outside.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Probe {
    /// This process does not probe, and why.
    Off(String),
    /// It has not come to an end yet.
    #[default]
    Waiting,
    /// The last one, and for how long its answer holds.
    Done {
        /// The last one.
        last: ProbeView,
        /// An answer that is older says nothing any more.
        fresh_ms: u64,
    },
}

/// Shares of what there is; none where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stocks {
    /// Of the memory.
    pub memory: Option<f64>,
    /// Of the descriptors.
    pub descriptors: Option<f64>,
}
