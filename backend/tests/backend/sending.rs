//! Sending and reading: dense, once, in order, and only for who may.

use std::collections::BTreeSet;

use buslane_backend::{Config, Limits};
use buslane_shared::id::{ClientId, RoomId};
use buslane_shared::limits::{BATCH_BYTES_MAX, BODY_BYTES_MAX};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, request::Op};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::support::*;

#[tokio::test]
async fn a_message_gets_the_next_sequence_and_is_read_by_both() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    assert_eq!(bob.direct(&ann).await, room, "the pair has one room");
    for n in 1..=3 {
        let receipt = ann.send(room, &format!("m{n}")).await.unwrap();
        assert_eq!((receipt.seq, receipt.duplicate), (n, false));
        assert!(receipt.sent_at_ms > 0);
    }
    let batch = bob.sync(room, 1, 0).await.unwrap();
    assert_eq!(batch.messages.iter().map(text).collect::<Vec<_>>(), ["m2", "m3"]);
    assert_eq!((batch.head, batch.first, batch.more), (3, 1, false));
    let back = bob.history(room, 0, 2).await.unwrap();
    assert_eq!(back.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [3, 2]);
    assert!(back.more);
    assert!(!bob.history(room, 2, 2).await.unwrap().more);
    assert!(bob.sync(room, 99, 0).await.unwrap().messages.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn the_same_client_id_never_makes_a_second_message() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let id = fresh_id();
    let first = ann.send_as(room, id, "once").await.unwrap();
    let again = ann.send_as(room, id, "once").await.unwrap();
    assert_eq!((again.seq, again.sent_at_ms, again.duplicate), (first.seq, first.sent_at_ms, true));
    assert!(
        !bob.send_as(room, id, "mine").await.unwrap().duplicate,
        "another sender's id is another message"
    );
    for n in 0..600 {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    let late = ann.send_as(room, id, "once").await.unwrap();
    assert_eq!(
        (late.seq, late.sent_at_ms, late.duplicate),
        (first.seq, first.sent_at_ms, true),
        "long forgotten"
    );
    assert_eq!(ann.all(room).await.len(), 602);
    world.stop().await;
}

#[tokio::test]
async fn a_message_that_is_to_follow_another_is_taken_only_after_it() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let ids: Vec<_> = (0..600).map(|_| fresh_id()).collect();
    let following = |id: ClientId, after: Bytes| {
        let Op::Send(send) = send_op(room, id, "x") else { unreachable!() };
        Op::Send(wire::Send { after, ..send })
    };
    let refused = ann.ask(following(ids[1], ids[0].to_wire())).await.unwrap_err();
    assert_eq!((refused.code(), refused.0.maybe_applied), (Code::OutOfOrder, false));
    assert!(refused.0.retryable);
    bob.send_as(room, ids[0], "x").await.unwrap();
    assert_eq!(
        ann.code_of(following(ids[1], ids[0].to_wire())).await,
        Code::OutOfOrder,
        "another's id is another message"
    );
    // All at once: each finds the one in front of it on its way to the disk.
    let sends = ids.windows(2).map(|pair| ann.ask(following(pair[1], pair[0].to_wire())));
    let (first, rest) = tokio::join!(ann.send_as(room, ids[0], "x"), join_all(sends));
    assert_eq!(first.unwrap().seq, 2);
    let seqs = rest.into_iter().map(|answer| match answer {
        Ok(wire::answer::Result::Receipt(receipt)) => receipt.seq,
        other => panic!("not a receipt: {other:?}"),
    });
    assert_eq!(seqs.collect::<Vec<_>>(), (3..=601).collect::<Vec<_>>());
    // What is there already has its receipt whatever it names; what was long ago is looked for in the log, by a new process too.
    assert!(ann.ask(following(ids[1], fresh_id().to_wire())).await.is_ok());
    assert!(ann.ask(following(fresh_id(), ids[0].to_wire())).await.is_ok());
    let world = world.restart_on(engine.reopen().unwrap()).await;
    let ann = ann.at(&world);
    assert!(ann.ask(following(fresh_id(), ids[599].to_wire())).await.is_ok());
    assert_eq!(ann.code_of(following(fresh_id(), fresh_id().to_wire())).await, Code::OutOfOrder);
    let short = ann.ask(following(fresh_id(), Bytes::from_static(b"short"))).await.unwrap_err();
    assert_eq!((short.code(), short.0.field.as_str()), (Code::BadField, "after"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_sends_are_dense_and_each_is_there_once() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let ids: Vec<_> = (0..500).map(|_| fresh_id()).collect();
    let tasks = (0..8).map(|worker| {
        let (phone, ids) = (if worker % 2 == 0 { ann.clone() } else { bob.clone() }, ids.clone());
        tokio::spawn(async move {
            let mut seqs = vec![];
            for id in ids {
                seqs.push((phone.user.clone(), id, phone.send_as(room, id, "x").await.unwrap().seq));
            }
            seqs
        })
    });
    let receipts: BTreeSet<_> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(receipts.len(), 1000, "500 ids of two senders, four times each");
    let all = ann.all(room).await;
    assert_eq!(all.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=1000).collect::<Vec<_>>());
    for message in all {
        let id = ClientId::try_from(&message.client_id).unwrap();
        assert!(receipts.contains(&(user(&message.sender), id, message.seq)));
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_a_send_is_refused_with_its_reason() {
    let (world, _) = World::memory().await;
    let (ann, bob, sam) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("sam").await);
    let direct = ann.direct(&bob).await;
    let group = ann.group(&[&bob]).await;
    let nowhere = RoomId::from_bytes([9; 16]);
    assert_eq!(ann.send(nowhere, "x").await.unwrap_err().code(), Code::UnknownRoom);
    assert_eq!(sam.send(direct, "x").await.unwrap_err().code(), Code::UnknownRoom, "strangers learn nothing");
    assert_eq!(sam.send(group, "x").await.unwrap_err().code(), Code::NotAMember);
    assert_eq!(sam.sync(direct, 0, 0).await.unwrap_err().code(), Code::UnknownRoom);
    assert_eq!(sam.sync(group, 0, 0).await.unwrap_err().code(), Code::NotAMember);
    assert_eq!(sam.history(group, 0, 0).await.unwrap_err().code(), Code::NotAMember);
    let long = "x".repeat(BODY_BYTES_MAX + 1);
    assert_eq!(ann.send(direct, &long).await.unwrap_err().code(), Code::TooLong);
    assert!(ann.send(direct, &long[1..]).await.is_ok());

    let send = |room: Bytes, client_id: Bytes, mentions: Vec<String>| {
        Op::Send(wire::Send {
            room,
            client_id,
            body: Bytes::from_static(b"x"),
            mentions,
            ..Default::default()
        })
    };
    let bad = [
        (send(Bytes::from_static(b"short"), fresh_id().to_wire(), vec![]), "room"),
        (send(group.to_wire(), Bytes::new(), vec![]), "client_id"),
        (send(group.to_wire(), fresh_id().to_wire(), vec!["sam".into()]), "mentions"),
        (send(group.to_wire(), fresh_id().to_wire(), vec!["No Name".into()]), "mentions"),
        (send(group.to_wire(), fresh_id().to_wire(), vec!["bob".into(); 101]), "mentions"),
    ];
    for (op, field) in bad {
        let refused = ann.ask(op).await.unwrap_err();
        assert_eq!((refused.code(), refused.0.field.as_str()), (Code::BadField, field));
        assert!(!refused.0.maybe_applied);
    }
    assert_eq!(ann.code_of(Op::Ping(wire::Ping {})).await, Code::Unsupported);
    assert_eq!(ann.all(group).await.len(), 1, "nothing was written but the group's beginning");
    world.stop().await;
}

#[tokio::test]
async fn a_pair_is_two_people_who_exist() {
    let (world, _) = World::memory().await;
    let ann = world.enrol("ann").await;
    assert_eq!(ann.code_of(open_direct("nobody")).await, Code::UnknownUser);
    assert_eq!(ann.code_of(open_direct("ann")).await, Code::BadField);
    assert_eq!(ann.code_of(open_direct("No Name")).await, Code::BadField);
    world.stop().await;
}

#[tokio::test]
async fn who_is_blocked_does_not_get_through() {
    let (world, _) = World::memory().await;
    let (ann, bob, sam) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("sam").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "before").await.unwrap();
    bob.done(block(&ann, true)).await;
    assert_eq!(ann.send(room, "x").await.unwrap_err().code(), Code::Blocked);
    assert!(bob.send(room, "still speaking").await.is_ok());
    assert_eq!(ann.sync(room, 0, 0).await.unwrap().messages.len(), 2, "what is there stays readable");
    bob.done(block(&sam, true)).await;
    assert_eq!(sam.code_of(open_direct("bob")).await, Code::Blocked);
    let group = sam.group(&[&ann]).await;
    assert_eq!(sam.code_of(invite(group, &[&bob])).await, Code::Blocked);
    bob.done(block(&ann, false)).await;
    assert!(ann.send(room, "again").await.is_ok());
    let listed = bob.ask(Op::ListBlocked(wire::ListBlocked {})).await.unwrap();
    assert_eq!(listed, wire::answer::Result::Users(wire::UserList { users: vec!["sam".into()] }));
    assert_eq!(bob.code_of(block(&bob, true)).await, Code::BadField);
    world.stop().await;
}

#[tokio::test]
async fn a_block_outlives_a_restart() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    bob.done(block(&ann, true)).await;
    let world = world.restart_on(engine.reopen().unwrap()).await;
    assert_eq!(ann.at(&world).send(room, "x").await.unwrap_err().code(), Code::Blocked);
    world.stop().await;
}

#[tokio::test]
async fn a_long_room_is_read_in_batches_of_bounded_bytes() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let body = "x".repeat(BODY_BYTES_MAX);
    for _ in 0..40 {
        ann.send(room, &body).await.unwrap();
    }
    let batch = bob.sync(room, 0, 1000).await.unwrap();
    assert!(batch.more && batch.messages.len() < 40);
    let bytes: usize = batch.messages.iter().map(|m| text(m).len()).sum();
    assert!(bytes <= BATCH_BYTES_MAX + BODY_BYTES_MAX, "{bytes}");
    assert_eq!(bob.all(room).await.len(), 40);
    world.stop().await;
}

#[tokio::test]
async fn limits_say_when_to_come_back() {
    let limits = Limits {
        user_sends_per_s: 1,
        user_sends_burst: 2,
        user_changes_per_s: 1,
        user_changes_burst: 1,
        ..Limits::off()
    };
    let (world, _) = World::memory_with(Config { limits, ..config() }).await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let mut refused = None;
    for n in 0..50 {
        refused = refused.or(ann.send(room, &n.to_string()).await.err());
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Code::RateLimited);
    assert!(refused.0.retryable && refused.0.retry_after_ms > 0);
    assert!(bob.send(room, "1").await.is_ok(), "another user has a limit of his own");
    let mut changes = vec![];
    for n in 0..50 {
        changes.extend(ann.ask(block(&bob, n % 2 == 0)).await.err());
    }
    assert!(!changes.is_empty() && changes.iter().all(|r| r.code() == Code::RateLimited));
    world.stop().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let (room, group) = (ann.direct(&bob).await, ann.group(&[&bob]).await);
    let id = fresh_id();
    let first = ann.send_as(room, id, "kept").await.unwrap();
    bob.send(group, "in the group").await.unwrap();
    let world = world.restart_on(engine.reopen().unwrap()).await;
    let (ann, bob) = (ann.at(&world), bob.at(&world));
    assert_eq!(ann.rooms().await.len(), 2);
    let again = ann.send_as(room, id, "kept").await.unwrap();
    assert_eq!((again.seq, again.sent_at_ms, again.duplicate), (first.seq, first.sent_at_ms, true));
    assert_eq!(bob.send(group, "on").await.unwrap().seq, 3);
    assert_eq!(bob.all(group).await.iter().map(text).collect::<Vec<_>>(), ["", "in the group", "on"]);
    world.stop().await;
}

#[tokio::test]
async fn the_list_of_rooms_is_read_page_by_page() {
    let (world, _) = World::memory().await;
    let ann = world.enrol("ann").await;
    let mut made = BTreeSet::new();
    for _ in 0..7 {
        made.insert(ann.group(&[]).await.to_wire());
    }
    let gone = ann.group(&[]).await;
    ann.done(leave(gone)).await;
    let (mut found, mut after) = (BTreeSet::new(), Bytes::new());
    loop {
        let page = ann.ask(Op::ListRooms(wire::ListRooms { after, limit: 3 })).await.unwrap();
        let wire::answer::Result::Rooms(page) = page else { panic!("not a list") };
        after = page.rooms.last().unwrap().room.clone();
        found.extend(page.rooms.into_iter().map(|r| r.room));
        if !page.more {
            break;
        }
    }
    assert_eq!(found, made);
    world.stop().await;
}

#[tokio::test]
async fn a_damaged_record_is_reported_and_never_skipped() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    for n in 1..=3 {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    engine.damage(room, 2);
    let refused = bob.sync(room, 0, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert!(refused.0.detail.contains("damaged"), "{}", refused.0.detail);
    assert_eq!(bob.sync(room, 0, 1).await.unwrap().messages.len(), 1, "what is whole is read");
    assert_eq!(bob.sync(room, 2, 1).await.unwrap().messages.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn rooms_in_memory_are_bounded_and_come_back() {
    let (world, _) = World::memory_with(Config { rooms_active_max: 16, ..config() }).await;
    let ann = world.enrol("ann").await;
    let mut rooms = vec![];
    for n in 0..100 {
        let room = ann.group(&[]).await;
        ann.send(room, &n.to_string()).await.unwrap();
        rooms.push(room);
    }
    for (n, room) in rooms.into_iter().enumerate() {
        assert_eq!(text(&ann.all(room).await[1]), n.to_string());
        assert_eq!(ann.send(room, "more").await.unwrap().seq, 3);
    }
    for n in 0..1000u64 {
        let unknown = RoomId::from_bytes(u128::from(n).to_be_bytes());
        assert_eq!(ann.sync(unknown, 0, 0).await.unwrap_err().code(), Code::UnknownRoom);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_sync_beyond_every_sequence_is_an_empty_batch() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "one").await.unwrap();
    let batch = ann.sync(room, u64::MAX, 0).await.unwrap();
    assert_eq!((batch.messages.len(), batch.head, batch.more), (0, 1, false));
    world.stop().await;
}
