//! A lost connection, a newer one, and a device that lost its right.

use std::time::Duration;

use buslane_chassis::clock::unix_ms;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{
    self, client_frame, event::Kind, hello::Token, request::Op, server_frame, to_manager,
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::phone::{Phone, closed};
use crate::stand::{Stand, config, unmoved, until};

async fn seq(live: &mut crate::phone::Live) -> (u64, u64) {
    let event = live.line.event().await;
    let Some(Kind::Delivery(delivery)) = event.kind else { panic!("{event:?}") };
    (event.no, delivery.message.unwrap().seq)
}

#[tokio::test]
async fn a_lost_connection_is_continued_without_a_loss() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.ping().await;
    for n in 1..=3 {
        stand.script.deliver("alice", None, n).await;
        assert_eq!(seq(&mut live).await, (n, n));
    }
    live.line.say(client_frame::Kind::Seen(1)).await;
    live.ping().await;
    let (session, token) = (live.welcome.session.clone(), live.welcome.resume.clone());
    live.lose();
    // What comes while nobody is connected waits.
    stand.script.deliver("alice", None, 4).await;
    let mut again = phone.resume(&stand, token.clone(), 2).await;
    assert!(again.welcome.resumed);
    assert_eq!(again.welcome.session, session);
    assert_eq!(seq(&mut again).await, (3, 3));
    assert_eq!(seq(&mut again).await, (4, 4));
    // A token may be used again, and another comes with each welcome.
    let token = again.welcome.resume.clone();
    again.lose();
    let mut third = phone.resume(&stand, token, 4).await;
    assert!(third.welcome.resumed);
    stand.script.deliver("alice", None, 5).await;
    assert_eq!(seq(&mut third).await, (5, 5));
    assert_eq!(stand.script.knows("alice"), 1);
    stand.stop().await;
}

#[tokio::test]
async fn a_new_connection_continues_also_while_the_old_one_seems_alive() {
    let stand = Stand::with(unmoved()).await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut old = phone.login(&stand).await;
    old.ping().await;
    let mut new = phone.resume(&stand, old.welcome.resume.clone(), 0).await;
    assert!(new.welcome.resumed);
    // Who has left it needs no word.
    let last = old.line.hear().await;
    assert!(last.is_none(), "{last:?}");
    assert_eq!(closed(&old.connection).await, Code::Replaced);
    stand.script.deliver("alice", None, 1).await;
    assert_eq!(seq(&mut new).await, (1, 1));
    assert_eq!(stand.script.knows("alice"), 1);
    stand.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_never_hidden() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.ping().await;
    for n in 1..=2 {
        stand.script.deliver("alice", None, n).await;
        seq(&mut live).await;
    }
    live.line.say(client_frame::Kind::Seen(2)).await;
    live.ping().await;
    let (session, token) = (live.welcome.session.clone(), live.welcome.resume.clone());
    live.lose();
    // Event 2 is gone, so a client that has only event 1 gets a new session, by the same hello.
    let fresh = phone.resume(&stand, token.clone(), 1).await;
    assert!(!fresh.welcome.resumed);
    assert_ne!(fresh.welcome.session, session);
    // And the older session cannot be continued any more.
    let other = phone.resume(&stand, token, 2).await;
    assert!(!other.welcome.resumed);
    assert_eq!(closed(&fresh.connection).await, Code::Replaced);
    // Nobody has seen what was never sent.
    let liar = phone.resume(&stand, other.welcome.resume.clone(), 99).await;
    assert!(!liar.welcome.resumed);
    stand.stop().await;
}

#[tokio::test]
async fn a_mailbox_that_overflowed_meanwhile_says_so() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.line.ask_within(1, 60_000, Op::ListDevices(wire::ListDevices {})).await;
    live.ping().await;
    let token = live.welcome.resume.clone();
    live.lose();
    let dropped = || stand.script.given_up.load(std::sync::atomic::Ordering::SeqCst) == 1;
    until("the loss is noticed", dropped).await;
    for n in 1..=1_000 {
        stand.script.deliver("alice", None, n).await;
    }
    let mut again = phone.resume(&stand, token, 0).await;
    assert!(again.welcome.resumed);
    let first = again.line.event().await;
    assert_eq!((first.no, first.kind), (1, Some(Kind::Behind(wire::Behind {}))));
    stand.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let mut config = config();
    config.times.resume_window_ms = 200;
    let stand = Stand::with(config).await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.ping().await;
    let token = live.welcome.resume.clone();
    live.lose();
    until("it is released", || stand.script.knows("alice") == 0).await;
    assert!(!phone.resume(&stand, token, 0).await.welcome.resumed);
    stand.stop().await;
}

#[tokio::test]
async fn too_many_that_wait_make_room_oldest_first() {
    let mut config = config();
    config.bounds.waiting_max = 1;
    let stand = Stand::with(config).await;
    for (device, user) in [(1, "alice"), (2, "bob")] {
        let mut live = Phone::new(&stand, user, device).login(&stand).await;
        live.ping().await;
        live.lose();
        // The order of the two losses.
        until("it waits", || stand.script.knows(user) == 1).await;
    }
    until("the older is released", || stand.script.knows("alice") == 0 || stand.script.knows("bob") == 0)
        .await;
    stand.stop().await;
}

#[tokio::test]
async fn a_newer_session_of_the_device_replaces_the_older_and_other_devices_stay() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut other = Phone::new(&stand, "alice", 2).login(&stand).await;
    let mut old = phone.login(&stand).await;
    old.ping().await;
    let mut new = phone.login(&stand).await;
    let go_away = old.line.go_away().await;
    assert_eq!((go_away.code(), go_away.reconnect), (Code::Replaced, false));
    assert_eq!(closed(&old.connection).await, Code::Replaced);
    new.ping().await;
    other.ping().await;
    until("two are known", || stand.script.knows("alice") == 2).await;
    let known = stand.script.sessions.lock().contains_key(new.welcome.session.as_ref());
    assert!(known);
    stand.stop().await;
}

#[tokio::test]
async fn a_session_replaced_at_another_node_is_told() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.ping().await;
    let reference =
        |session: Bytes| wire::SessionRef { user: "alice".into(), device: phone.device.to_wire(), session };
    // An older one of the device is none of our business.
    stand.script.down(to_manager::Kind::Replaced(reference(Bytes::from_static(&[8; 16])))).await;
    live.ping().await;
    stand.script.down(to_manager::Kind::Replaced(reference(live.welcome.session.clone()))).await;
    assert_eq!(live.line.go_away().await.code(), Code::Replaced);
    assert_eq!(closed(&live.connection).await, Code::Replaced);
    stand.stop().await;
}

#[tokio::test]
async fn a_revoked_device_is_silent_within_a_second_and_stays_out() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut other = Phone::new(&stand, "alice", 2).login(&stand).await;
    let mut live = phone.login(&stand).await;
    live.line.ask_within(1, 60_000, Op::ListDevices(wire::ListDevices {})).await;
    live.ping().await;
    let began = Instant::now();
    stand.script.revoke("alice", phone.device, unix_ms());
    let go_away = live.line.go_away().await;
    assert_eq!((go_away.code(), go_away.reconnect), (Code::Revoked, false));
    assert_eq!(closed(&live.connection).await, Code::Revoked);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for token in [Token::Ticket(phone.ticket.clone()), Token::Resume(live.welcome.resume.clone())] {
        let (connection, mut line) = phone.greet(&stand, token, 0).await;
        let Some(server_frame::Kind::Refusal(refusal)) = line.hear().await else { panic!("not refused") };
        assert_eq!(refusal.code(), Code::Revoked);
        assert_eq!(closed(&connection).await, Code::Revoked);
    }
    other.ping().await;
    until("it is announced", || stand.script.knows("alice") == 1).await;
    stand.stop().await;
}

#[tokio::test]
async fn a_session_that_waits_is_revoked_too() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.ping().await;
    live.lose();
    stand.script.revoke("alice", phone.device, unix_ms());
    until("it is gone", || stand.script.knows("alice") == 0).await;
    stand.stop().await;
}

#[tokio::test]
async fn a_client_that_ends_its_session_is_forgotten_at_once() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.ping().await;
    live.connection.close(quinn::VarInt::from_u32(Code::ClosedByClient as u32), b"");
    until("a close with the code ends it", || stand.script.knows("alice") == 0).await;

    let mut live = phone.login(&stand).await;
    live.line.ask(1, crate::phone::send(b"last words")).await;
    live.line.send.finish().unwrap();
    assert_eq!(live.line.answer().await.id, 1, "what was asked is answered first");
    assert_eq!(closed(&live.connection).await, Code::ClosedByClient);
    until("a finished stream ends it", || stand.script.knows("alice") == 0).await;
    stand.stop().await;
}
