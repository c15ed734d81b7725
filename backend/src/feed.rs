//! What gateways and session managers need in order to decide alone: token keys, live session managers, revocations, orders
//! and loads.
//!
//! Each subscriber first gets everything, then every change at once. A subscriber that does not keep up loses its
//! stream; it comes back and gets everything again. Nothing here ever waits for a subscriber.

use buslane_shared::wire;
use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Updates that may wait for one subscriber: a minute of node changes in a bad hour.
const UPDATES_QUEUED_MAX: usize = 64;

/// Subscribers at a time: every gateway and session manager of the largest system.
const SUBSCRIBERS_MAX: usize = 4096;

/// Loads are left out for a subscriber who has no more room than this: those that matter come again within a second, and
/// room is for what comes once.
const ROOM_MIN: usize = UPDATES_QUEUED_MAX / 2;

/// The current state and who is to hear of its changes.
#[derive(Default)]
pub(crate) struct Feed(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    now: wire::FeedUpdate,
    subscribers: Vec<Subscriber>,
}

struct Subscriber {
    role: wire::RoleKind,
    updates: mpsc::Sender<wire::FeedUpdate>,
}

impl Inner {
    fn gateways(&self) -> u32 {
        let gateways = self.subscribers.iter().filter(|s| s.role == wire::RoleKind::Gateway);
        gateways.filter(|s| !s.updates.is_closed()).count() as u32
    }
}

impl Feed {
    /// Everything now, and changes from now on. `None`: too many subscribers.
    pub(crate) fn subscribe(&self, role: wire::RoleKind) -> Option<mpsc::Receiver<wire::FeedUpdate>> {
        let mut inner = self.0.lock();
        inner.subscribers.retain(|s| !s.updates.is_closed());
        if inner.subscribers.len() >= SUBSCRIBERS_MAX {
            return None;
        }
        let (tx, rx) = mpsc::channel(UPDATES_QUEUED_MAX);
        inner.subscribers.push(Subscriber { role, updates: tx.clone() });
        let gateways = inner.gateways();
        inner.now.loads.get_or_insert_default().gateways = gateways;
        tx.try_send(inner.now.clone()).ok()?;
        gauge!("buslane_backend_feed_subscribers").set(inner.subscribers.len() as f64);
        Some(rx)
    }

    /// The token keys have changed.
    pub(crate) fn set_keys(&self, keys: wire::KeySet) {
        self.publish(|| wire::FeedUpdate { keys: Some(keys), ..Default::default() });
    }

    /// The session managers have changed.
    pub(crate) fn set_nodes(&self, nodes: impl FnOnce() -> Vec<wire::Node>) {
        self.publish(|| wire::FeedUpdate {
            nodes: Some(wire::NodeSet { nodes: nodes() }),
            ..Default::default()
        });
    }

    /// The revocations have changed.
    pub(crate) fn set_revoked(&self, devices: impl FnOnce() -> Vec<wire::RevokedDevice>) {
        self.publish(|| wire::FeedUpdate {
            revoked: Some(wire::RevokedSet { devices: devices() }),
            ..Default::default()
        });
    }

    /// The orders have changed.
    pub(crate) fn set_orders(&self, orders: impl FnOnce() -> wire::OrderSet) {
        self.publish(|| wire::FeedUpdate { orders: Some(orders()), ..Default::default() });
    }

    /// These loads have changed; `all` is what a new subscriber gets.
    pub(crate) fn publish_loads(&self, changed: Vec<wire::NodeLoad>, all: Vec<wire::NodeLoad>) {
        let mut inner = self.0.lock();
        let gateways = inner.gateways();
        inner.now.loads = Some(wire::LoadSet { nodes: all, gateways });
        let loads = Some(wire::LoadSet { nodes: changed, gateways });
        let update = wire::FeedUpdate { loads, ..Default::default() };
        for subscriber in inner.subscribers.iter().filter(|s| s.updates.capacity() > ROOM_MIN) {
            // Full or gone: the next change that must not be missed ends the stream.
            let _ = subscriber.updates.try_send(update.clone());
        }
    }

    /// `change` is looked up under the lock: of two changes at once the later look is published last, so none is undone by
    /// one that looked before it.
    fn publish(&self, change: impl FnOnce() -> wire::FeedUpdate) {
        let mut inner = self.0.lock();
        let change = change();
        let mut changed = false;
        changed |= replace(&mut inner.now.keys, &change.keys);
        changed |= replace(&mut inner.now.nodes, &change.nodes);
        changed |= replace(&mut inner.now.revoked, &change.revoked);
        changed |= replace(&mut inner.now.orders, &change.orders);
        if changed {
            inner.subscribers.retain(|s| s.updates.try_send(change.clone()).is_ok());
        }
    }

    /// Ends every stream: the backend stops.
    pub(crate) fn close(&self) {
        self.0.lock().subscribers.clear();
    }
}

fn replace<T: Clone + PartialEq>(known: &mut Option<T>, new: &Option<T>) -> bool {
    if new.is_none() || known == new {
        return false;
    }
    known.clone_from(new);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> wire::Node {
        wire::Node { name: name.to_owned(), ..Default::default() }
    }

    #[test]
    fn first_everything_then_changes_only() {
        let feed = Feed::default();
        feed.set_nodes(|| vec![node("a")]);
        feed.set_revoked(Vec::new);
        let mut rx = feed.subscribe(wire::RoleKind::SessionManager).unwrap();
        let first = rx.try_recv().unwrap();
        assert_eq!(first.nodes.unwrap().nodes.len(), 1);
        assert!(first.revoked.is_some());
        feed.set_nodes(|| vec![node("a")]);
        assert!(rx.try_recv().is_err(), "nothing has changed");
        feed.set_nodes(Vec::new);
        let change = rx.try_recv().unwrap();
        assert_eq!(change.nodes.unwrap().nodes.len(), 0);
        assert!(change.revoked.is_none() && change.keys.is_none());
    }

    #[test]
    fn who_does_not_keep_up_loses_the_stream_and_gets_everything_again() {
        let feed = Feed::default();
        let mut slow = feed.subscribe(wire::RoleKind::SessionManager).unwrap();
        for n in 0..=UPDATES_QUEUED_MAX {
            feed.set_nodes(|| vec![node(&n.to_string())]);
        }
        let mut received = 0;
        while slow.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!(received, UPDATES_QUEUED_MAX);
        assert!(matches!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        let mut again = feed.subscribe(wire::RoleKind::SessionManager).unwrap();
        let nodes = again.try_recv().unwrap().nodes.unwrap().nodes;
        assert_eq!(nodes[0].name, UPDATES_QUEUED_MAX.to_string());
    }

    #[test]
    fn loads_are_complete_at_first_and_never_end_a_stream() {
        let feed = Feed::default();
        let load = |node: &str| wire::NodeLoad { node: node.to_owned(), load: None };
        let mut slow = feed.subscribe(wire::RoleKind::Gateway).unwrap();
        feed.publish_loads(vec![load("a")], vec![load("a"), load("b")]);
        let mut new = feed.subscribe(wire::RoleKind::Gateway).unwrap();
        let first = new.try_recv().unwrap().loads.unwrap();
        assert_eq!((first.nodes.len(), first.gateways), (2, 2));
        for _ in 0..2 * UPDATES_QUEUED_MAX {
            feed.publish_loads(vec![load("a")], vec![load("a")]);
        }
        feed.set_nodes(|| vec![node("a")]);
        let mut received = Vec::new();
        while let Ok(update) = slow.try_recv() {
            received.push(update);
        }
        assert_eq!(received.len(), ROOM_MIN + 1);
        assert_eq!(received[1].loads.as_ref().unwrap().nodes, [load("a")], "only what has changed");
        assert!(received.last().unwrap().nodes.is_some(), "what comes once found room");
        assert!(matches!(slow.try_recv(), Err(mpsc::error::TryRecvError::Empty)));
    }
}
