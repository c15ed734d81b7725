//! How the session managers are, as they last said it.
//!
//! Why it exists: whoever sends clients or requests to a node must know before it is full, and must not believe what is old. A
//! report is trusted for a second; after that a node decides from what it knows itself.

use std::collections::BTreeMap;
use std::time::Duration;

use buslane_shared::overload::posture::Report;
use buslane_shared::wire;
use tokio::time::Instant;

/// A report that is older says nothing any more: a node that is well reports every second, and more often while it changes.
pub const FRESH: Duration = Duration::from_secs(1);

/// A report and when it was heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// What the node said.
    pub report: Report,
    /// When it was heard here.
    pub at: Instant,
}

impl Heard {
    /// Whether it can be trusted now.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= FRESH
    }
}

/// The last report of each session manager.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loads {
    nodes: BTreeMap<String, Heard>,
    gateways: u32,
}

impl Loads {
    /// The last report of a node, however old.
    pub fn of(&self, node: &str) -> Option<&Heard> {
        self.nodes.get(node)
    }

    /// The report of a node, if it can be trusted now.
    pub fn fresh(&self, node: &str, now: Instant) -> Option<&Report> {
        self.of(node).filter(|heard| heard.is_fresh(now)).map(|heard| &heard.report)
    }

    /// Every report by name of its node, however old.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Heard)> {
        self.nodes.iter().map(|(node, heard)| (node.as_str(), heard))
    }

    /// Gateways that are attached to the backend; 0: it has not said so.
    pub fn gateways(&self) -> u32 {
        self.gateways
    }

    pub(super) fn on_set(&mut self, set: wire::LoadSet, now: Instant) {
        self.gateways = set.gateways;
        for wire::NodeLoad { node, load } in set.nodes {
            let Some(load) = load else { continue };
            self.nodes.insert(node, Heard { report: Report::from(&load), at: now });
        }
    }

    /// A node that is gone is not waited for.
    pub(super) fn on_nodes(&mut self, nodes: &[wire::Node]) {
        self.nodes.retain(|name, _| nodes.iter().any(|node| node.name == *name));
    }
}
