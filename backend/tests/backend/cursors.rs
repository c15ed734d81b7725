//! Cursors: forward only, durable when acknowledged, told to those who care, and counted without the sender.

use buslane_shared::limits::CURSORS_PER_MARK_MAX;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, event::Kind, request::Op};

use crate::support::*;

fn counts(room: buslane_shared::id::RoomId, from: u64, to: u64) -> Op {
    Op::ReadCounts(wire::ReadCounts { room: room.to_wire(), from, to })
}

async fn unread(phone: &Phone, op: Op) -> (Vec<u32>, Vec<u32>) {
    match phone.ask(op).await.unwrap() {
        wire::answer::Result::ReadCounts(list) => (list.unread, list.undelivered),
        other => panic!("not counts: {other:?}"),
    }
}

#[tokio::test]
async fn a_cursor_never_moves_back_and_outlives_a_restart() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let tablet = world.enrol_another(&bob).await;
    let room = ann.direct(&bob).await;
    for n in 0..5 {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    bob.done(mark(room, 4, 3)).await;
    bob.done(mark(room, 2, 1)).await;
    tablet.done(mark(room, 1, 0)).await;
    let seen = async |bob: &Phone, tablet: &Phone| {
        let (b, t) = (bob.describe(room).await, tablet.describe(room).await);
        (b.delivered, b.read, t.delivered, t.read)
    };
    assert_eq!(seen(&bob, &tablet).await, (4, 3, 1, 3), "delivery is of a device, reading of the user");
    for beyond in [mark(room, 6, 0), mark(room, 0, 6)] {
        assert_eq!(bob.code_of(beyond).await, Code::BadField);
    }
    bob.done(mark(room, 5, 5)).await;
    let world = world.restart_on(engine.reopen().unwrap()).await;
    assert_eq!(seen(&bob.at(&world), &tablet.at(&world)).await, (5, 5, 1, 5));
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_a_mark_is_refused() {
    let (world, _) = World::memory().await;
    let (ann, bob, sam) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("sam").await);
    let room = ann.direct(&bob).await;
    assert_eq!(sam.code_of(mark(room, 1, 1)).await, Code::UnknownRoom);
    let cursor = wire::Cursor { room: room.to_wire(), delivered: 1, read: 1 };
    let many = Op::Mark(wire::Mark { cursors: vec![cursor; CURSORS_PER_MARK_MAX + 1] });
    assert_eq!(ann.code_of(many).await, Code::BadField);
    ann.done(Op::Mark(wire::Mark::default())).await;
    ann.send(room, "x").await.unwrap();
    let good = wire::Cursor { room: room.to_wire(), delivered: 1, read: 1 };
    let bad = wire::Cursor { room: room.to_wire(), delivered: 2, read: 0 };
    assert_eq!(bob.code_of(Op::Mark(wire::Mark { cursors: vec![good, bad] })).await, Code::BadField);
    assert_eq!(bob.describe(room).await.delivered, 0, "all or none");
    world.stop().await;
}

#[tokio::test]
async fn the_peer_and_the_other_devices_hear_of_it_and_the_marking_device_does_not() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "x").await.unwrap();
    until(async || ann.describe(room).await.read == 1).await;
    let mut manager = world.link("sm").await;
    manager.open(&[&ann, &bob]).await;
    bob.done(mark(room, 1, 1)).await;
    let told = manager.next().await;
    let Kind::Cursor(moved) = &told.event else { panic!("not a cursor: {told:?}") };
    assert_eq!((moved.user.as_str(), moved.delivered, moved.read), ("bob", 1, 1));
    assert_eq!(told.users(), ["ann"]);
    world.stop().await;
}

#[tokio::test]
async fn a_sender_has_read_what_he_wrote() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    for n in 1..=20 {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    until(async || ann.describe(room).await.read == 20).await;
    assert_eq!(bob.describe(room).await.read, 0);
    let world = world.restart_on(engine.reopen().unwrap()).await;
    assert_eq!(ann.at(&world).describe(room).await.read, 20);
    world.stop().await;
}

#[tokio::test]
async fn unread_counts_of_a_group() {
    let (world, _) = World::memory().await;
    let (ann, bob, eve) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("eve").await);
    let room = ann.group(&[&bob]).await;
    ann.send(room, "2").await.unwrap();
    ann.done(invite(room, &[&eve])).await;
    eve.room(join(room)).await;
    bob.send(room, "5").await.unwrap();
    // Who wrote has read: bob up to 5, eve up to 4, ann up to 3.
    until(async || bob.describe(room).await.read == 5 && eve.describe(room).await.read == 4).await;
    until(async || ann.describe(room).await.read == 3).await;
    assert_eq!(
        unread(&ann, counts(room, 1, 5)).await.0,
        [0, 0, 0, 1, 2],
        "neither the sender nor who came later"
    );
    eve.done(mark(room, 5, 0)).await;
    assert_eq!(unread(&ann, counts(room, 5, 5)).await, (vec![2], vec![1]));
    eve.done(mark(room, 0, 5)).await;
    bob.done(mark(room, 0, 2)).await;
    assert_eq!(unread(&ann, counts(room, 1, 99)).await, (vec![0, 0, 0, 1, 1], vec![0, 0, 0, 1, 1]));
    assert_eq!(unread(&eve, counts(room, 1, 5)).await.0.len(), 2, "from her horizon on");
    assert_eq!(ann.code_of(counts(room, 5, 4)).await, Code::BadField);
    assert_eq!(ann.code_of(counts(room, 1, 2000)).await, Code::BadField);
    let sam = world.enrol("sam").await;
    assert_eq!(sam.code_of(counts(room, 1, 5)).await, Code::NotAMember);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_marks_at_once_end_at_the_furthest() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    for n in 0..100 {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    let marks = (1..=100u64).map(|n| {
        let bob = bob.clone();
        tokio::spawn(async move {
            bob.done(mark(room, n, n / 2)).await;
            let info = bob.describe(room).await;
            assert!(info.delivered >= n && info.read >= n / 2, "an acknowledged mark is seen");
        })
    });
    for mark in marks.collect::<Vec<_>>() {
        mark.await.unwrap();
    }
    let info = bob.describe(room).await;
    assert_eq!((info.delivered, info.read), (100, 50));
    world.stop().await;
}
