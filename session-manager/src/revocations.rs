//! Ends the sessions of devices that lost their right, as soon as it is known.

use std::sync::Arc;

use buslane_chassis::feed::Revocation;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::node::Node;

/// Never returns while the feed lives; its owner stops it.
pub(crate) async fn run(node: Arc<Node>, mut news: broadcast::Receiver<Revocation>) {
    loop {
        match news.recv().await {
            Ok(revocation) => {
                node.table.revoke(&revocation.user, revocation.device, revocation.revoked_at_ms);
            }
            Err(RecvError::Lagged(_)) => compare_all(&node),
            Err(RecvError::Closed) => return,
        }
    }
}

/// News were missed: every session is looked at.
fn compare_all(node: &Node) {
    for presence in node.table.all() {
        if node.feed.is_revoked(&presence.device, presence.issued_at_ms) {
            node.table.revoke(&presence.user, presence.device, presence.issued_at_ms);
        }
    }
}
