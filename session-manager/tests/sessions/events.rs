//! Deliveries: order, numbers, who gets what, and what happens to those who are too slow.

use std::sync::atomic::Ordering;
use std::time::Duration;

use buslane_shared::wire::{self, client_frame, event::Kind, request::Op, server_frame, to_manager};
use bytes::Bytes;

use crate::phone::{Live, Phone, quiet};
use crate::stand::{Stand, until};

/// The number and the sequence of the next delivery.
async fn delivery(live: &mut Live) -> (u64, u64, bool) {
    let event = live.line.event().await;
    match event.kind {
        Some(Kind::Delivery(delivery)) => (event.no, delivery.message.unwrap().seq, delivery.notify),
        other => panic!("not a delivery: {other:?}"),
    }
}

#[tokio::test]
async fn deliveries_come_in_order_with_dense_numbers_and_the_users_own_notify() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.ping().await;
    for seq in 1..=100 {
        stand.script.deliver("alice", None, seq).await;
    }
    for seq in 1..=100 {
        assert_eq!(delivery(&mut live).await, (seq, seq, seq % 2 == 1));
    }
    stand.stop().await;
}

#[tokio::test]
async fn every_device_of_the_user_gets_it_but_the_one_that_made_it() {
    let stand = Stand::start().await;
    let (one, two) = (Phone::new(&stand, "alice", 1), Phone::new(&stand, "alice", 2));
    let (mut first, mut second) = (one.login(&stand).await, two.login(&stand).await);
    let mut other = Phone::new(&stand, "bob", 3).login(&stand).await;
    for live in [&mut first, &mut second, &mut other] {
        live.ping().await;
    }
    stand.script.deliver("alice", Some(one.device), 1).await;
    stand.script.deliver("alice", None, 2).await;
    stand.script.deliver("nobody", None, 3).await;
    assert_eq!(delivery(&mut second).await, (1, 1, true));
    assert_eq!(delivery(&mut second).await, (2, 2, false));
    assert_eq!(delivery(&mut first).await, (1, 2, false));
    quiet(&mut other.line, Duration::from_millis(50)).await;
    stand.stop().await;
}

#[tokio::test]
async fn a_reader_keeps_up_whether_or_not_it_says_what_it_has_seen() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.ping().await;
    for seq in 1..=2_000 {
        stand.script.deliver("alice", None, seq).await;
        assert_eq!(delivery(&mut live).await.1, seq);
        if seq % 500 == 0 {
            live.line.say(client_frame::Kind::Seen(seq)).await;
        }
    }
    stand.stop().await;
}

#[tokio::test]
async fn who_does_not_read_is_told_that_it_is_behind_and_goes_on() {
    let stand = Stand::start().await;
    // Little may be on its way to this phone, so what it does not read waits in its mailbox.
    let mut live = Phone::tuned(&stand, "alice", 1, Some(16 * 1024)).login(&stand).await;
    let mut other = Phone::new(&stand, "bob", 2).login(&stand).await;
    live.ping().await;
    other.ping().await;
    let body = Bytes::from(vec![1; 2_000]);
    for seq in 1..=2_000 {
        stand.script.deliver_body("alice", None, seq, body.clone()).await;
    }
    stand.script.deliver("bob", None, 1).await;
    assert_eq!(delivery(&mut other).await.0, 1);
    let (mut no, mut seq, mut behind) = (0, 0, 0);
    while seq < 2_000 {
        let event = live.line.event().await;
        no += 1;
        assert_eq!(event.no, no, "numbers are dense whatever was dropped");
        match event.kind {
            Some(Kind::Delivery(delivery)) => {
                let next = delivery.message.unwrap().seq;
                assert!(next == seq + 1 || behind > 0, "{next} after {seq} without a word");
                seq = next;
            }
            Some(Kind::Behind(_)) => behind += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(behind >= 1);
    assert!(no < 2_000);
    stand.stop().await;
}

#[tokio::test]
async fn what_the_link_lost_is_told() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.ping().await;
    stand.script.down(to_manager::Kind::AllBehind(true)).await;
    assert_eq!(live.line.event().await.kind, Some(Kind::Behind(wire::Behind {})));
    let resets = stand.script.resets.load(Ordering::SeqCst);
    stand.script.cut_link();
    until("the link is back", || stand.script.resets.load(Ordering::SeqCst) > resets).await;
    // The whole list was reported again, and what may have been missed is told.
    assert_eq!(live.line.event().await.kind, Some(Kind::Behind(wire::Behind {})));
    assert_eq!(stand.script.knows("alice"), 1);
    stand.script.deliver("alice", None, 7).await;
    assert_eq!(delivery(&mut live).await.1, 7);
    stand.stop().await;
}

#[tokio::test]
async fn a_request_of_a_new_session_waits_until_deliveries_reach_it() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    // The answer to the first request can only come after the session was registered.
    live.request(1, crate::phone::send(b"x")).await;
    assert_eq!(stand.script.knows("alice"), 1);
    stand.stop().await;
}

#[tokio::test]
async fn without_a_confirmation_requests_wait_only_briefly_and_the_session_is_told() {
    let stand = Stand::start().await;
    stand.script.confirms.store(false, Ordering::SeqCst);
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.request(1, crate::phone::send(b"x")).await;
    stand.script.confirms.store(true, Ordering::SeqCst);
    // The next confirmation covers the earlier ones.
    let mut other = Phone::new(&stand, "bob", 2).login(&stand).await;
    other.ping().await;
    assert_eq!(live.line.event().await.kind, Some(Kind::Behind(wire::Behind {})));
    quiet(&mut other.line, Duration::from_millis(50)).await;
    stand.stop().await;
}

#[tokio::test]
async fn events_keep_their_order_whether_somebody_looks_or_not() {
    let mut stand = Stand::start().await;
    let mut at_front = Phone::new(&stand, "alice", 1).login(&stand).await;
    stand.front = stand.wake;
    let mut at_wake = Phone::new(&stand, "alice", 2).login(&stand).await;
    until("both are known", || stand.script.knows("alice") == 2).await;
    // Now somebody looks, now nobody does, while messages come.
    for seq in 1..=120 {
        if seq % 30 == 0 {
            let looks = if seq % 60 == 0 { wire::AppState::Foreground } else { wire::AppState::Background };
            let state = Op::SetAppState(wire::SetAppState { state: looks.into() });
            for live in [&mut at_front, &mut at_wake] {
                live.line.ask(seq, state.clone()).await;
            }
        }
        stand.script.deliver("alice", None, seq).await;
    }
    for live in [&mut at_front, &mut at_wake] {
        let mut seqs = Vec::new();
        while seqs.len() < 120 {
            let Some(frame) = live.line.hear().await else { panic!("the end came without a word") };
            if let server_frame::Kind::Event(event) = frame {
                let Some(Kind::Delivery(delivery)) = event.kind else { panic!("{event:?}") };
                seqs.push(delivery.message.unwrap().seq);
            }
        }
        assert_eq!(seqs, (1..=120).collect::<Vec<_>>());
    }
    stand.stop().await;
}
