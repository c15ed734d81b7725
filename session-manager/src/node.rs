//! What every task of a session manager needs, and nothing that only one of them needs.

use std::sync::Arc;

use buslane_chassis::api::Backend;
use buslane_chassis::feed::Feed;
use buslane_chassis::quic::Tuning;

use crate::config::Config;
use crate::meters::Meters;
use crate::table::Table;

/// The node, shared by both ports.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) backend: Backend,
    pub(crate) feed: Arc<Feed>,
    pub(crate) table: Arc<Table>,
    pub(crate) tuning: Tuning,
}

/// The node as the tasks of one port see it.
pub(crate) struct Port {
    pub(crate) node: Arc<Node>,
    pub(crate) meters: Meters,
}
