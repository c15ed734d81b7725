//! What session managers say about themselves, and what they were ordered, reaches whoever is fed.

use std::time::Duration;

use buslane_chassis::api::BackendApi;
use buslane_shared::wire::{self, from_manager::Kind};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::support::{LIMIT, World};

type Updates = mpsc::Receiver<wire::FeedUpdate>;

async fn fed(world: &World, role: wire::RoleKind) -> Updates {
    let request = wire::FeedRequest { role: role.into(), node: "n".into() };
    world.service.feed(request).await.unwrap()
}

/// The next update that has what is asked for.
async fn next<T>(updates: &mut Updates, pick: impl Fn(wire::FeedUpdate) -> Option<T>) -> T {
    let wanted = async {
        loop {
            if let Some(found) = pick(updates.recv().await.expect("the feed has ended")) {
                return found;
            }
        }
    };
    timeout(LIMIT, wanted).await.unwrap()
}

fn levels(set: wire::LoadSet) -> Vec<(String, u32)> {
    set.nodes.into_iter().map(|n| (n.node, n.load.unwrap_or_default().level)).collect()
}

fn load(level: u32) -> Kind {
    Kind::Load(wire::Load { level, ..Default::default() })
}

#[tokio::test]
async fn loads_reach_gateways_together_and_are_forgotten_with_their_node() {
    let (world, _) = World::memory().await;
    let mut gateway = fed(&world, wire::RoleKind::Gateway).await;
    let (one, two) = (world.link("one").await, world.link("two").await);
    one.say(load(1)).await;
    let first = next(&mut gateway, |u| u.loads.filter(|set| !set.nodes.is_empty())).await;
    assert_eq!((first.gateways, levels(first)), (1, vec![("one".to_owned(), 1)]));

    // Between two updates everything is gathered: a busy manager makes no more of them than a calm one.
    let began = Instant::now();
    for level in 2..=500 {
        one.say(load(level)).await;
        two.say(load(level)).await;
    }
    let mut updates = 0;
    let mut known = std::collections::BTreeMap::new();
    while known.len() < 2 || known.values().any(|level| *level != 500) {
        known.extend(levels(next(&mut gateway, |u| u.loads).await));
        updates += 1;
    }
    let ticks = began.elapsed().as_millis() / Duration::from_millis(50).as_millis();
    assert!(updates <= ticks + 2, "{updates} updates in {ticks} ticks");

    let mut late = fed(&world, wire::RoleKind::Gateway).await;
    let complete = next(&mut late, |u| u.loads).await;
    assert_eq!(complete.gateways, 2);
    assert_eq!(levels(complete), [("one".to_owned(), 500), ("two".to_owned(), 500)]);
    drop(two);
    next(&mut late, |u| u.nodes.filter(|set| set.nodes.len() == 1)).await;
    one.say(load(7)).await;
    next(&mut late, |u| u.loads).await;
    let mut later = fed(&world, wire::RoleKind::SessionManager).await;
    assert_eq!(levels(next(&mut later, |u| u.loads).await), [("one".to_owned(), 7)]);
    world.stop().await;
}

#[tokio::test]
async fn what_one_manager_was_ordered_all_are_told() {
    let (world, _) = World::memory().await;
    let mut other = fed(&world, wire::RoleKind::SessionManager).await;
    let manager = world.link("one").await;
    let now_ms = buslane_chassis::clock::unix_ms();
    let order = wire::Order {
        id: now_ms,
        kind: wire::OrderKind::Emergency.into(),
        reason: "drill".into(),
        author: "kim".into(),
        given_ms: now_ms,
        from_ms: now_ms,
        until_ms: now_ms + 600_000,
    };
    let nonsense = wire::Order { until_ms: 0, ..order.clone() };
    manager.say(Kind::Orders(wire::OrderSet { orders: vec![nonsense, order.clone()] })).await;
    let told = next(&mut other, |u| u.orders).await;
    assert_eq!(told.orders, std::slice::from_ref(&order));

    // Given at the backend itself: both hold, and a node that comes later hears of both.
    let normal = wire::Order { id: now_ms + 1, kind: wire::OrderKind::Normal.into(), ..order.clone() };
    world.service.take_orders(wire::OrderSet { orders: vec![normal.clone()] });
    assert_eq!(next(&mut other, |u| u.orders).await.orders, [order.clone(), normal.clone()]);
    let mut later = fed(&world, wire::RoleKind::SessionManager).await;
    assert_eq!(next(&mut later, |u| u.orders).await.orders, [order, normal]);
    world.stop().await;
}
