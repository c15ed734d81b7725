//! What every task of a session manager needs, and nothing that only one of them needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buslane_chassis::api::Backend;
use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Refusals;
use buslane_chassis::quic::Tuning;
use buslane_shared::UnixMs;
use buslane_shared::mark::Lane;

use crate::config::Config;
use crate::courier::Backlog;
use crate::desk::Desk;
use crate::drain::Drain;
use crate::load::Load;
use crate::meters::Meters;
use crate::room::UsedSlots;
use crate::table::Table;

/// The node, shared by both ports.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) backend: Backend,
    pub(crate) feed: Arc<Feed>,
    pub(crate) table: Arc<Table>,
    pub(crate) tuning: Tuning,
    pub(crate) load: Load,
    pub(crate) slots: UsedSlots,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) drain: Drain,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) connected: Connected,
    pub(crate) started_ms: UnixMs,
}

/// Sessions with a connection, by port.
#[derive(Default)]
pub(crate) struct Connected {
    front: AtomicU64,
    wake: AtomicU64,
}

impl Connected {
    pub(crate) fn at(&self, lane: Lane) -> u64 {
        self.count(lane).load(Ordering::Relaxed)
    }

    pub(crate) fn on_came(&self, lane: Lane) {
        self.count(lane).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_went(&self, lane: Lane) {
        self.count(lane).fetch_sub(1, Ordering::Relaxed);
    }

    fn count(&self, lane: Lane) -> &AtomicU64 {
        match lane {
            Lane::Front => &self.front,
            Lane::Wake => &self.wake,
        }
    }
}

/// The node as the tasks of one port see it.
pub(crate) struct Port {
    pub(crate) node: Arc<Node>,
    pub(crate) meters: Meters,
    /// Where its requests run; none: in the tasks of its sessions.
    pub(crate) desk: Option<Desk>,
}

impl Port {
    /// Whom it is for: the one with a desk is for background.
    pub(crate) fn lane(&self) -> Lane {
        if self.desk.is_some() { Lane::Wake } else { Lane::Front }
    }
}
