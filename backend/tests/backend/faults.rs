//! Trouble: a slow disk, a full disk, a failed fsync, a crash between two writes, clients that go away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, request::Op};
use futures_util::future::join_all;

use crate::support::*;

#[tokio::test]
async fn no_receipt_and_no_delivery_before_the_commit() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let mut manager = world.link("sm").await;
    manager.open(&[&bob]).await;
    engine.hold();
    let sending = tokio::spawn({
        let ann = ann.clone();
        async move { ann.send(room, "x").await }
    });
    until(async || engine.appends.load(Ordering::SeqCst) == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished());
    assert!(manager.down.try_recv().is_err());
    assert_eq!(bob.sync(room, 0, 0).await.unwrap().head, 0, "nobody reads what is not durable");
    engine.release();
    assert_eq!(sending.await.unwrap().unwrap().seq, 1);
    assert_eq!(manager.next_message().await.0.seq, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_send_waits_for_the_commit_of_the_first() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    engine.hold();
    let id = fresh_id();
    let sends = (0..5).map(|_| {
        let ann = ann.clone();
        tokio::spawn(async move { ann.send_as(room, id, "once").await })
    });
    let sends: Vec<_> = sends.collect();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert!(sends.iter().all(|s| !s.is_finished()), "a receipt came before the commit");
    engine.release();
    let receipts: Vec<_> = join_all(sends).await.into_iter().map(|r| r.unwrap().unwrap()).collect();
    assert!(receipts.iter().all(|r| r.seq == 1));
    assert_eq!(receipts.iter().filter(|r| !r.duplicate).count(), 1);
    assert_eq!(engine.appends.load(Ordering::SeqCst), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_changes_nothing() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let mut manager = world.link("sm").await;
    manager.open(&[&bob]).await;
    engine.hold();
    let id = fresh_id();
    let sending = tokio::spawn({
        let ann = ann.clone();
        async move { ann.send_as(room, id, "x").await }
    });
    until(async || engine.appends.load(Ordering::SeqCst) == 1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    let late =
        ann.ask_within(send_op(room, fresh_id(), "late"), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!((late.code(), late.0.maybe_applied), (Code::Deadline, true));
    engine.release();
    assert_eq!(manager.next_message().await.0.seq, 1, "it is delivered all the same");
    assert_eq!(manager.next_message().await.0.seq, 2);
    assert!(ann.send_as(room, id, "x").await.unwrap().duplicate);
    world.stop().await;
}

#[tokio::test]
async fn when_one_of_many_appends_fails_the_room_goes_on_dense_and_each_is_there_once() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "first").await.unwrap();
    for failing in [1, 3, 10] {
        engine.hold();
        engine.fail_append(failing);
        let ids: Vec<_> = (0..10).map(|_| fresh_id()).collect();
        let before = engine.appends.load(Ordering::SeqCst);
        let sends: Vec<_> = ids
            .iter()
            .map(|id| {
                let (ann, id) = (ann.clone(), *id);
                tokio::spawn(async move { ann.send_as(room, id, "x").await })
            })
            .collect();
        until(async || engine.appends.load(Ordering::SeqCst) == before + 10).await;
        engine.release();
        let results: Vec<_> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
        let failed: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert_eq!(failed.len() as u64, 10 - (failing - 1), "those behind the failed one do not fit");
        for refused in failed {
            assert_eq!(refused.code(), Code::DiskFull, "they hear of the cause, not of its consequence");
            assert!(refused.0.retryable && !refused.0.maybe_applied);
        }
        for (id, result) in ids.iter().zip(&results) {
            let again = ann.send_as(room, *id, "x").await.unwrap();
            assert_eq!(again.duplicate, result.is_ok());
            assert!(result.as_ref().is_ok_and(|r| r.seq == again.seq) || result.is_err());
        }
    }
    let all = bob.all(room).await;
    assert_eq!(all.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=31).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test]
async fn a_full_disk_heals_and_reading_goes_on_meanwhile() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "before").await.unwrap();
    engine.fill_disk();
    let id = fresh_id();
    let refused = ann.send_as(room, id, "x").await.unwrap_err();
    assert_eq!((refused.code(), refused.0.maybe_applied), (Code::DiskFull, false));
    assert!(refused.0.retry_after_ms > 0);
    assert_eq!(ann.code_of(mark(room, 1, 1)).await, Code::DiskFull);
    let create = wire::CreateRoom { client_id: id.to_wire(), title: "t".into(), members: vec![] };
    assert_eq!(ann.code_of(Op::CreateRoom(create)).await, Code::DiskFull);
    assert_eq!(bob.all(room).await.len(), 1);
    engine.free_disk();
    assert_eq!(ann.send_as(room, id, "x").await.unwrap().seq, 2);
    world.stop().await;
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_acknowledged_and_a_restart_knows_the_truth() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let (room, other) = (ann.direct(&bob).await, ann.group(&[&bob]).await);
    ann.send(room, "safe").await.unwrap();
    engine.fail_next_sync();
    let id = fresh_id();
    let refused = ann.send_as(room, id, "unsure").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.0.maybe_applied, refused.0.retryable),
        (Code::StoreStopped, true, true)
    );
    assert_eq!(ann.send(room, "x").await.unwrap_err().code(), Code::StoreStopped);
    assert_eq!(bob.send(other, "x").await.unwrap_err().code(), Code::StoreStopped);
    assert_eq!(bob.code_of(mark(room, 1, 1)).await, Code::StoreStopped);
    assert!(world.service.trouble().is_some());
    let world = world.restart_on(engine.reopen().unwrap()).await;
    let (ann, bob) = (ann.at(&world), bob.at(&world));
    let kept = ann.send_as(room, id, "unsure").await.unwrap();
    assert_eq!(kept.seq, 2);
    assert_eq!(bob.all(room).await.iter().map(text).collect::<Vec<_>>(), ["safe", "unsure"]);
    world.stop().await;
}

#[tokio::test]
async fn a_change_whose_index_was_written_and_whose_record_was_not_is_harmless() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.group(&[]).await;
    engine.fail_append(1);
    assert_eq!(ann.code_of(invite(room, &[&bob])).await, Code::DiskFull);
    assert!(bob.rooms().await.is_empty(), "an entry of the list alone is nothing");
    assert_eq!(bob.code_of(join(room)).await, Code::NotInvited);
    let world = world.restart_on(Faulty::over(engine.inner.reopen().unwrap())).await;
    let (ann, bob) = (ann.at(&world), bob.at(&world));
    assert!(bob.rooms().await.is_empty());
    ann.done(invite(room, &[&bob])).await;
    assert_eq!(bob.rooms().await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_change_that_was_written_and_not_noted_elsewhere_is_in_the_log() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.group(&[&bob]).await;
    engine.fail_writes(true);
    bob.done(leave(room)).await;
    let engine = Faulty::over(engine.inner.reopen().unwrap());
    let world = world.restart_on(engine).await;
    let (ann, bob) = (ann.at(&world), bob.at(&world));
    assert!(bob.rooms().await.is_empty());
    assert_eq!(bob.sync(room, 0, 0).await.unwrap_err().code(), Code::NotAMember);
    assert_eq!(ann.members(room).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_group_whose_first_record_failed_does_not_exist_and_is_made_by_the_retry() {
    let (world, engine) = World::faulty().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let id = fresh_id();
    let create = wire::CreateRoom { client_id: id.to_wire(), title: "t".into(), members: vec!["bob".into()] };
    engine.fail_append(1);
    assert_eq!(ann.code_of(Op::CreateRoom(create.clone())).await, Code::DiskFull);
    assert!(ann.rooms().await.is_empty() && bob.rooms().await.is_empty());
    let room = ann.room(Op::CreateRoom(create)).await;
    assert_eq!((room.head, room.members), (1, 2));
    assert_eq!(bob.rooms().await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_store_taken_over_by_another_owner_is_left_alone() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    ann.send(room, "x").await.unwrap();
    let other = World::on(engine.clone(), world.keys.clone(), config()).await;
    let id = fresh_id();
    let refused = ann.send_as(room, id, "y").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.0.retryable, refused.0.maybe_applied),
        (Code::Unavailable, true, false)
    );
    assert_eq!(
        ann.send(room, "z").await.unwrap_err().code(),
        Code::Unavailable,
        "it does not take the shard back"
    );
    assert_eq!(ann.at(&other).send_as(room, id, "y").await.unwrap().seq, 2);
    assert_eq!(bob.at(&other).all(room).await.len(), 2);
    other.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_data_folder_with_another_key_file_does_not_start() {
    let (world, engine) = World::memory().await;
    world.stop().await;
    let engine = engine.reopen().unwrap();
    let keys = std::sync::Arc::new(buslane_store::keywrap::MemoryKeyWrap::new().unwrap());
    let sealer = buslane_store::sealing::Sealer::new(engine.clone(), keys);
    let shutdown = buslane_chassis::shutdown::Shutdown::new();
    let started = buslane_backend::Service::start(config(), engine, sealer, &shutdown).await;
    let error = started.err().expect("it must not start").to_string();
    assert!(error.contains("key file"), "{error}");
}
