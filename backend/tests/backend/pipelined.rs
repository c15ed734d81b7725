//! A session sends ahead without waiting for receipts: its messages keep its order, however many are in flight, and also
//! when they are the first to touch their room after a restart.

use buslane_shared::id::RoomId;
use futures_util::future::join_all;

use crate::support::*;

/// More than the store has places and the runtime's budget has units, all from one task.
const IN_FLIGHT: usize = 6_000;

async fn sends_keep_their_order(phone: &Phone, room: RoomId) {
    let texts: Vec<String> = (0..IN_FLIGHT).map(|n| n.to_string()).collect();
    let receipts = join_all(texts.iter().map(|text| phone.send(room, text))).await;
    let seqs: Vec<u64> = receipts.into_iter().map(|receipt| receipt.unwrap().seq).collect();
    let disorder = seqs.windows(2).filter(|pair| pair[0] >= pair[1]).count();
    assert_eq!(disorder, 0, "places where a later send has a lower sequence");
}

#[tokio::test]
async fn sends_of_one_session_keep_their_order() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    sends_keep_their_order(&ann, room).await;
    world.stop().await;
}

#[tokio::test]
async fn sends_that_wake_a_room_after_a_restart_keep_their_order() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "before").await.unwrap();
    let world = world.restart_on(engine).await;
    sends_keep_their_order(&ann.at(&world), room).await;
    world.stop().await;
}
