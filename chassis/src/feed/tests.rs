//! What the feed knows, and that it keeps knowing it while the backend is away.

use buslane_shared::token::Purpose;
use bytes::Bytes;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::*;
use crate::testing::{Recorder, keys, until};

const SOON: Duration = Duration::from_secs(5);

fn device(n: u8) -> DeviceId {
    DeviceId::from_bytes([n; 16])
}

fn revoked(entries: &[(u8, u64)]) -> wire::FeedUpdate {
    let devices = entries
        .iter()
        .map(|(n, revoked_at_ms)| wire::RevokedDevice {
            user: "alice".into(),
            device: device(*n).to_wire(),
            revoked_at_ms: *revoked_at_ms,
        })
        .collect();
    wire::FeedUpdate { revoked: Some(wire::RevokedSet { devices }), ..Default::default() }
}

fn feed() -> Feed {
    Feed { news: News(broadcast::Sender::new(2)), ..Feed::default() }
}

#[test]
fn a_revocation_ends_what_was_issued_before_it_and_not_what_came_after() {
    let feed = feed();
    assert!(!feed.is_revoked(&device(1), 0));
    feed.on_update(revoked(&[(1, 1000)]));
    assert!(feed.is_revoked(&device(1), 999));
    assert!(feed.is_revoked(&device(1), 1000));
    assert!(!feed.is_revoked(&device(1), 1001));
    assert!(!feed.is_revoked(&device(2), 0));
}

#[test]
fn only_what_is_new_is_told() {
    let feed = feed();
    let mut news = feed.revocations();
    feed.on_update(revoked(&[(1, 1000)]));
    feed.on_update(revoked(&[(1, 1000), (2, 5)]));
    assert_eq!(news.try_recv().unwrap().device, device(1));
    assert_eq!(news.try_recv().unwrap().device, device(2));
    feed.on_update(revoked(&[(1, 2000), (2, 5)]));
    assert_eq!(news.try_recv().unwrap().revoked_at_ms, 2000);
    feed.on_update(wire::FeedUpdate::default());
    assert_eq!(news.try_recv(), Err(TryRecvError::Empty));
    assert!(feed.is_revoked(&device(2), 5), "an update without the set changes nothing");
}

#[tokio::test]
async fn whoever_is_too_slow_for_the_news_is_told_so() {
    let feed = feed();
    let mut news = feed.revocations();
    feed.on_update(revoked(&[(1, 1), (2, 1), (3, 1)]));
    assert_eq!(news.recv().await, Err(RecvError::Lagged(1)));
    assert!(feed.is_revoked(&device(1), 1));
}

#[test]
fn a_malformed_entry_does_not_hide_the_others() {
    let feed = feed();
    let mut update = revoked(&[(1, 10)]);
    let set = update.revoked.as_mut().unwrap();
    set.devices.insert(
        0,
        wire::RevokedDevice { user: "alice".into(), device: Bytes::from_static(b"short"), revoked_at_ms: 1 },
    );
    feed.on_update(update);
    assert!(feed.is_revoked(&device(1), 10));
}

#[tokio::test]
async fn it_is_ready_with_the_first_keys_and_follows_changes() {
    let backend = Recorder::new();
    let shutdown = Shutdown::new();
    let feed = Feed::follow(backend.shared(), wire::RoleKind::Gateway, "gw-1", &shutdown);
    assert!(!feed.ready(Duration::from_millis(50)).await);
    backend.state.send_replace(wire::FeedUpdate { keys: Some(keys(1)), ..Default::default() });
    assert!(feed.ready(SOON).await);
    let node = wire::Node { name: "sm-1".into(), ..Default::default() };
    backend.state.send_replace(wire::FeedUpdate {
        nodes: Some(wire::NodeSet { nodes: vec![node.clone()] }),
        ..Default::default()
    });
    until("the node is known", || feed.nodes().as_slice() == [node.clone()]).await;
    assert!(!feed.keys().is_empty(), "keys stay when an update has none");
    let body = wire::TicketBody { expires_ms: u64::MAX, ..Default::default() };
    assert!(feed.keys().seal(Purpose::Ticket, &body, [0; 12], 1).is_ok());
    assert!(shutdown.finish(SOON).await);
}

#[tokio::test]
async fn it_keeps_what_it_knows_and_comes_back_after_a_loss() {
    let backend = Recorder::new();
    backend.state.send_replace(wire::FeedUpdate { keys: Some(keys(1)), ..revoked(&[(1, 10)]) });
    let lossy = Arc::new(Lossy { inner: backend.clone(), cut: watch::Sender::new(0) });
    let shutdown = Shutdown::new();
    let feed = Feed::follow(lossy.clone(), wire::RoleKind::SessionManager, "sm-1", &shutdown);
    let mut freshness = feed.freshness();
    assert!(feed.ready(SOON).await);

    lossy.cut.send_modify(|n| *n += 1);
    freshness.wait_for(|f| !f.connected).await.unwrap();
    assert!(!feed.keys().is_empty());
    assert!(feed.is_revoked(&device(1), 10));

    backend.state.send_replace(revoked(&[(1, 10), (2, 20)]));
    tokio::time::timeout(SOON, freshness.wait_for(|f| f.connected)).await.unwrap().unwrap();
    until("the revocation made meanwhile is known", || feed.is_revoked(&device(2), 20)).await;
    assert!(shutdown.finish(SOON).await);
}

/// A backend whose feeds can be cut.
struct Lossy {
    inner: Arc<Recorder>,
    cut: watch::Sender<u32>,
}

impl crate::api::BackendApi for Lossy {
    fn relay(
        &self,
        call: crate::api::Call,
        request: wire::Request,
    ) -> futures_util::future::BoxFuture<'_, wire::Answer> {
        self.inner.relay(call, request)
    }

    fn enrol(
        &self,
        request: wire::EnrolDevice,
    ) -> futures_util::future::BoxFuture<'_, Result<wire::EnrolledDevice, buslane_shared::refusal::Refusal>>
    {
        self.inner.enrol(request)
    }

    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> futures_util::future::BoxFuture<
        '_,
        Result<mpsc::Receiver<wire::FeedUpdate>, buslane_shared::refusal::Refusal>,
    > {
        let mut cut = self.cut.subscribe();
        Box::pin(async move {
            let mut updates = self.inner.feed(request).await?;
            let (to, out) = mpsc::channel(1);
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        _ = cut.changed() => return,
                        Some(update) = updates.recv() => if to.send(update).await.is_err() { return },
                    }
                }
            });
            Ok(out)
        })
    }

    fn link(
        &self,
        up: mpsc::Receiver<wire::FromManager>,
    ) -> futures_util::future::BoxFuture<
        '_,
        Result<mpsc::Receiver<wire::ToManager>, buslane_shared::refusal::Refusal>,
    > {
        self.inner.link(up)
    }
}

fn loads(nodes: &[(&str, u32)]) -> wire::FeedUpdate {
    let node = |(name, level): &(&str, u32)| wire::NodeLoad {
        node: (*name).into(),
        load: Some(wire::Load { level: *level, ..Default::default() }),
    };
    let set = wire::LoadSet { nodes: nodes.iter().map(node).collect(), gateways: 3 };
    wire::FeedUpdate { loads: Some(set), ..Default::default() }
}

fn levels(feed: &Feed) -> Vec<(String, u16)> {
    feed.loads().borrow().iter().map(|(node, heard)| (node.to_owned(), heard.report.level)).collect()
}

#[tokio::test(start_paused = true)]
async fn loads_are_merged_forgotten_with_their_node_and_believed_for_a_second() {
    let feed = feed();
    feed.on_update(loads(&[("a", 1), ("b", 2)]));
    feed.on_update(loads(&[("b", 3)]));
    assert_eq!(levels(&feed), [("a".to_owned(), 1), ("b".to_owned(), 3)]);
    assert_eq!(feed.loads().borrow().gateways(), 3);
    let nodes = vec![wire::Node { name: "b".into(), ..Default::default() }];
    feed.on_update(wire::FeedUpdate { nodes: Some(wire::NodeSet { nodes }), ..Default::default() });
    assert_eq!(levels(&feed), [("b".to_owned(), 3)]);
    let known = feed.loads().borrow().clone();
    assert!(known.fresh("b", Instant::now() + FRESH).is_some());
    assert!(known.fresh("b", Instant::now() + FRESH + Duration::from_millis(1)).is_none());
    assert!(known.of("b").is_some() && known.of("a").is_none());
}

#[tokio::test]
async fn the_first_update_after_a_loss_is_complete() {
    let feed = feed();
    feed.on_update(loads(&[("gone", 1)]));
    let (to, updates) = mpsc::channel(4);
    to.send(loads(&[("here", 2)])).await.unwrap();
    to.send(loads(&[("too", 3)])).await.unwrap();
    drop(to);
    feed.take_over(updates).await;
    assert_eq!(levels(&feed), [("here".to_owned(), 2), ("too".to_owned(), 3)]);
}

#[test]
fn orders_are_handed_on_as_they_are() {
    let feed = feed();
    let mut orders = feed.orders();
    let set = wire::OrderSet { orders: vec![wire::Order { id: 7, ..Default::default() }] };
    feed.on_update(wire::FeedUpdate { orders: Some(set.clone()), ..Default::default() });
    assert_eq!(*orders.borrow_and_update(), set);
    feed.on_update(wire::FeedUpdate::default());
    assert!(!orders.has_changed().unwrap());
}
