//! The client against a server and a network that misbehave on command.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_client::{
    AppState, Client, CloseReason, EnrolRight, Error, Event, FirstLogin, Options, SendState, State,
    TokenProvider,
};
use buslane_shared::id::RoomId;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, event, request::Op, server_frame};
use futures_util::future::BoxFuture;
use support::relay::Weather;
use support::server::SendFault;
use support::*;

fn room() -> RoomId {
    RoomId::direct(&"alice".parse().unwrap(), &"bob".parse().unwrap())
}

fn go_away(code: Code, within_ms: u32, reconnect: bool) -> server_frame::Kind {
    let go_away = wire::GoAway { code: code.into(), within_ms, reconnect, ..Default::default() };
    server_frame::Kind::GoAway(go_away)
}

#[tokio::test]
async fn a_conversation() {
    let server = Server::start();
    let (alice, bob) = (connected(options(&server, "alice")).await, connected(options(&server, "bob")).await);
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    let (mut heard, mut own) = (bob.events(), alice.events());
    for n in 1..=3 {
        let receipt = alice.send(room, format!("{n}")).await.unwrap().receipt().await.unwrap();
        assert_eq!((receipt.room, receipt.seq, receipt.duplicate), (room, n, false));
    }
    let messages_of_bob = messages(&mut heard, 3).await;
    assert_eq!(texts(&messages_of_bob), ["1", "2", "3"]);
    assert!(messages_of_bob.iter().all(|m| m.sender == *alice.user() && m.notify));
    bob.send(room, "4").await.unwrap();
    assert_eq!(texts(&messages(&mut own, 4).await), ["1", "2", "3", "4"], "one's own are part of the room");
    server.tell(event::Kind::Cursor(wire::CursorMoved {
        room: room.to_wire(),
        user: "bob".into(),
        delivered: 3,
        read: 2,
    }));
    let reached = event(&mut own, |e| match e {
        Event::Outbox { state: SendState::Read, .. } => Some("read"),
        _ => None,
    });
    assert_eq!(reached.await, "read");
    alice.close().await;
    bob.close().await;
    assert_eq!(*alice.state().borrow(), State::Closed { reason: CloseReason::ByApp });
    alice.close().await;
    assert_eq!(alice.send(room, "late").await.unwrap_err(), Error::Closed);
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_and_never_doubled() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    for n in 0..5 {
        server.world.lock().send_faults.push_back(SendFault::StoreAndBreak);
        let receipt = alice.send(room(), format!("{n}")).await.unwrap().receipt().await.unwrap();
        assert_eq!((receipt.seq, receipt.duplicate), (n + 1, true));
    }
    assert_eq!(server.log(room()), ["0", "1", "2", "3", "4"]);
    assert!(alice.outbox().is_empty());
}

#[tokio::test]
async fn a_lost_connection_is_resumed_without_loss() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut events = alice.events();
    server.say(room(), "bob", "1", false);
    messages(&mut events, 1).await;
    server.break_connections();
    server.say(room(), "bob", "2", false);
    let state = until(&alice, |s| matches!(s, State::Connected { resumed: true, .. })).await;
    assert!(state.is_up());
    server.say(room(), "bob", "3", false);
    let rest = messages(&mut events, 2).await;
    assert_eq!(texts(&rest), ["2", "3"]);
    let world = server.world.lock();
    assert_eq!(world.enters, 1, "a resume needs no gateway");
    assert!(matches!(world.hellos[1].token, Some(wire::hello::Token::Resume(_))));
    assert_eq!(world.hellos[1].reason(), wire::Reason::Reconnecting);
}

#[tokio::test]
async fn a_lost_session_is_suspended_and_catches_up() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut events = alice.events();
    server.say(room(), "bob", "1", false);
    messages(&mut events, 1).await;
    {
        let mut world = server.world.lock();
        world.forgetful = true;
        world.syncs_refused = 2;
    }
    for n in 2..=300 {
        server.say(room(), "bob", &n.to_string(), true);
    }
    let mut states = alice.state();
    server.break_connections();
    let suspended = tokio::time::timeout(LIMIT, states.wait_for(|s| matches!(s, State::Suspended { .. })));
    assert!(suspended.await.is_ok());
    let rest = messages(&mut events, 299).await;
    let expected: Vec<String> = (2..=300).map(|n| n.to_string()).collect();
    assert_eq!(texts(&rest), expected);
    until(&alice, |s| matches!(s, State::Connected { resumed: false, .. })).await;
    event(&mut events, |e| (e == Event::CaughtUp).then_some(())).await;
}

#[tokio::test]
async fn holes_and_behind_are_healed_from_the_log() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut events = alice.events();
    server.say(room(), "bob", "1", true);
    server.say(room(), "bob", "2", false);
    assert_eq!(texts(&messages(&mut events, 2).await), ["1", "2"]);
    server.say(room(), "bob", "3", true);
    server.tell(event::Kind::Behind(wire::Behind {}));
    assert_eq!(texts(&messages(&mut events, 1).await), ["3"]);
}

#[tokio::test]
async fn a_device_that_was_away_too_long_is_told_what_is_gone() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let alice = connected(options_in(&server, "alice", folder.path())).await;
    let mut events = alice.events();
    server.say(room(), "bob", "1", false);
    messages(&mut events, 1).await;
    server.say(room(), "bob", "2", false);
    messages(&mut events, 1).await;
    alice.close().await;
    drop((alice, events));
    for n in 3..=9 {
        server.say(room(), "bob", &n.to_string(), false);
    }
    server.world.lock().first.insert(room(), 6);
    let alice = connected(options_in(&server, "alice", folder.path())).await;
    let mut events = alice.events();
    // The last one in hand was not finished: an app that dies gets it again.
    let skipped = event(&mut events, |e| match e {
        Event::Skipped { from, to, .. } => Some((from, to)),
        _ => None,
    });
    assert_eq!(skipped.await, (2, 5));
    assert_eq!(texts(&messages(&mut events, 4).await), ["6", "7", "8", "9"]);
    assert_eq!(server.world.lock().enrols, 1);
}

#[tokio::test]
async fn the_outbox_survives_a_restart() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let alice = connected(options_in(&server, "alice", folder.path())).await;
    server.stop();
    until(&alice, |s| !s.is_up()).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(alice.send(room(), format!("{n}")).await.unwrap().client_id());
    }
    let listed: Vec<_> = alice.outbox().list().into_iter().map(|i| i.client_id).collect();
    assert_eq!(listed, ids);
    alice.outbox().cancel(ids[3]).unwrap();
    assert_eq!(alice.outbox().cancel(ids[3]), Err(Error::NotInOutbox));
    alice.close().await;
    drop(alice);

    let alice = Client::open(options_in(&server, "alice", folder.path())).await.unwrap();
    assert_eq!(alice.outbox().len(), 19);
    let other = Client::open(options_in(&server, "alice", folder.path())).await;
    assert_eq!(other.unwrap_err().name(), "state_in_use");
    server.start_again();
    eventually("everything sent", || alice.outbox().is_empty()).await;
    let expected: Vec<String> = (0..20).filter(|n| *n != 3).map(|n| n.to_string()).collect();
    assert_eq!(server.log(room()), expected);
}

#[tokio::test]
async fn a_server_that_restarts_loses_nothing() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut outgoing = Vec::new();
    for round in 0..3 {
        for n in 0..20 {
            outgoing.push(alice.send(room(), format!("{round}.{n}")).await.unwrap());
        }
        server.stop();
        until(&alice, |s| !s.is_up()).await;
        server.start_again();
        until(&alice, State::is_up).await;
    }
    for (n, outgoing) in outgoing.into_iter().enumerate() {
        assert_eq!(outgoing.receipt().await.unwrap().seq, n as u64 + 1);
    }
    assert_eq!(server.log(room()).len(), 60);
}

#[tokio::test]
async fn a_refusal_for_a_time_is_obeyed_and_nothing_overtakes() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let busy = Refusal::of(Code::Busy).retry_after_ms(150);
    server.world.lock().send_faults.push_back(SendFault::Refuse(busy));
    let began = Instant::now();
    let first = alice.send(room(), "first").await.unwrap();
    let second = alice.send(room(), "second").await.unwrap();
    assert_eq!(second.receipt().await.unwrap().seq, 2);
    assert_eq!(first.receipt().await.unwrap().seq, 1);
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_refusal_for_good_is_the_apps_business() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut events = alice.events();
    let refusal = Refusal::of(Code::NotAMember);
    server.world.lock().send_faults.push_back(SendFault::Refuse(refusal));
    let first = alice.send(room(), "first").await.unwrap();
    let id = first.client_id();
    let error = first.receipt().await.unwrap_err();
    assert_eq!((error.name(), error.retryable()), ("not_a_member", false));
    assert_eq!(alice.send(room(), "second").await.unwrap().receipt().await.unwrap().seq, 1);
    let failed = event(&mut events, |e| match e {
        Event::Outbox { client_id, state: SendState::Failed { reason }, .. } => {
            Some((client_id, reason.code))
        }
        _ => None,
    });
    assert_eq!(failed.await, (id, Code::NotAMember));
    assert_eq!(alice.outbox().len(), 1);
    alice.outbox().retry(id).unwrap();
    eventually("the retry succeeds", || alice.outbox().is_empty()).await;
    assert_eq!(server.log(room()), ["second", "first"]);
    let long = alice.send(room(), vec![b'x'; 16 * 1024 + 1]).await.unwrap_err();
    assert_eq!(long.name(), "too_long");
}

#[tokio::test]
async fn replaced_and_revoked_end_the_client_and_nothing_is_tried_again() {
    // By a word, or by the close code alone.
    for (code, is_told) in
        [(Code::Replaced, true), (Code::Revoked, true), (Code::Replaced, false), (Code::Revoked, false)]
    {
        let server = Server::start();
        let alice = connected(options(&server, "alice")).await;
        server.world.lock().send_faults.push_back(SendFault::Ignore);
        let waits = alice.send(room(), "waits").await.unwrap();
        if is_told {
            server.frame("alice", &go_away(code, 0, false));
        } else {
            server.close("alice", code);
        }
        let state = until(&alice, |s| matches!(s, State::Closed { .. })).await;
        let State::Closed { reason: CloseReason::Refused(refused) } = state else { panic!("{state:?}") };
        assert_eq!(refused.code, code);
        assert_eq!(waits.receipt().await.unwrap_err().code(), code as u32);
        assert_eq!(alice.ping().await.unwrap_err().code(), code as u32);
        assert!(alice.events().next().await.is_none_or(|e| !matches!(e, Event::Message(_))));
        assert_eq!(server.world.lock().hellos.len(), 1);
    }
}

#[tokio::test]
async fn a_draining_server_is_left_in_peace() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    server.frame("alice", &go_away(Code::Draining, 5_000, true));
    until(
        &alice,
        |s| matches!(s, State::Reconnecting { cause: Error::Refused(r), .. } if r.code == Code::Draining),
    )
    .await;
    until(&alice, State::is_up).await;
    alice.ping().await.unwrap();
}

#[tokio::test]
async fn what_the_gateway_and_the_manager_say_is_obeyed() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.gate_refusals.push_back(Refusal::of(Code::Busy).retry_after_ms(200));
        world.hello_refusals.push_back(Refusal::of(Code::BadTicket));
    }
    let began = Instant::now();
    let alice = connected(options(&server, "alice")).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    {
        let mut world = server.world.lock();
        assert_eq!(
            (world.enrols, world.enters, world.hellos.len()),
            (1, 2, 2),
            "a bad ticket needs a new one"
        );
        // The credential is not known any more, and an open door serves once.
        world.known.clear();
        world.hello_refusals.extend([Refusal::of(Code::BadTicket), Refusal::of(Code::TicketExpired)]);
    }
    server.break_connections();
    let state = until(&alice, |s| matches!(s, State::Closed { .. })).await;
    assert!(
        matches!(state, State::Closed { reason: CloseReason::Refused(r) } if r.code == Code::BadCredential)
    );
}

#[tokio::test]
async fn a_token_provider_is_asked_again_when_the_credential_is_worth_nothing() {
    struct Provider;
    impl TokenProvider for Provider {
        fn token(&self) -> BoxFuture<'_, Result<String, String>> {
            Box::pin(async { Ok("a.b.c".to_owned()) })
        }
    }
    let server = Server::start();
    let right = EnrolRight::Token(Arc::new(Provider));
    let alice = connected(Options { enrol: right, ..options(&server, "alice") }).await;
    {
        let mut world = server.world.lock();
        world.known.clear();
        world.hello_refusals.extend([Refusal::of(Code::BadTicket), Refusal::of(Code::BadTicket)]);
    }
    server.break_connections();
    until(&alice, |s| !s.is_up()).await;
    until(&alice, State::is_up).await;
    assert_eq!(server.world.lock().enrols, 2);
}

#[tokio::test]
async fn no_right_no_entry() {
    let server = Server::start();
    let alice =
        Client::open(Options { enrol: EnrolRight::Enrolled, ..options(&server, "alice") }).await.unwrap();
    assert_eq!(alice.connected(LIMIT).await, Err(Error::NotEnrolled));
    let server = Server::start();
    server.world.lock().gate_refusals.push_back(Refusal::of(Code::NameTaken));
    let alice = Client::open(options(&server, "alice")).await.unwrap();
    assert_eq!(alice.connected(LIMIT).await.unwrap_err().name(), "name_taken");
}

#[tokio::test]
async fn another_address_of_the_ticket_is_tried() {
    let server = Server::start();
    // Nobody listens there; the first handshake runs into its limit.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = nobody.local_addr().unwrap();
    server.world.lock().addresses.insert(0, dead);
    let alice = connected(options(&server, "alice")).await;
    alice.ping().await.unwrap();
}

#[tokio::test]
async fn a_name_with_an_address_that_is_dead_is_still_reached_at_once() {
    let server = Server::start();
    // On most machines "localhost" is ::1 as well, where nobody listens.
    let gate = format!("localhost:{}", server.socket_address().port());
    let began = Instant::now();
    connected(Options { gates: vec![gate], ..options(&server, "alice") }).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_and_a_dropped_receipt_is_not() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    server.world.lock().mute = true;
    let asked = tokio::spawn({
        let alice = alice.clone();
        async move { alice.make_code().await }
    });
    let there = || server.world.lock().requests.iter().any(|o| matches!(o, Op::MakeCode(_)));
    eventually("the request is there", there).await;
    asked.abort();
    eventually("it is cancelled", || server.world.lock().cancels.len() == 1).await;
    server.world.lock().send_faults.push_back(SendFault::StoreAndBreak);
    drop(alice.send(room(), "sent all the same").await.unwrap());
    eventually("the outbox is empty", || alice.outbox().is_empty()).await;
    assert_eq!(server.log(room()), ["sent all the same"]);
    alice.ping().await.unwrap();
}

#[tokio::test]
async fn a_request_without_an_answer_times_out_and_one_over_a_broken_connection_is_repeated() {
    let server = Server::start();
    let quick = Options { request_timeout: Duration::from_millis(300), ..options(&server, "alice") };
    let alice = connected(quick).await;
    server.world.lock().mute = true;
    assert_eq!(alice.history(room(), 0, 10).await.unwrap_err().name(), "no_answer");
    let bob = connected(options(&server, "bob")).await;
    let asked = tokio::spawn({
        let bob = bob.clone();
        async move { bob.history(room(), 0, 10).await }
    });
    eventually("the request is there", || {
        server.world.lock().requests.iter().filter(|o| matches!(o, Op::History(_))).count() == 2
    })
    .await;
    server.world.lock().mute = false;
    server.break_connections();
    assert!(asked.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_app_that_does_not_listen_loses_no_message_and_can_still_send() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    for n in 1..=4000 {
        server.say(room(), "bob", &n.to_string(), false);
    }
    let other = RoomId::from_bytes([9; 16]);
    for _ in 0..50 {
        alice.send(other, "hello").await.unwrap().receipt().await.unwrap();
    }
    let mut events = alice.events();
    let mut heard = Vec::new();
    while heard.len() < 4000 {
        let message = messages(&mut events, 1).await.remove(0);
        if message.room == room() {
            heard.push(message.seq);
        }
    }
    assert_eq!(heard, (1..=4000).collect::<Vec<_>>());
}

#[tokio::test]
async fn received_and_read_are_told_together() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut events = alice.events();
    for n in 1..=5 {
        server.say(room(), "bob", &n.to_string(), false);
    }
    messages(&mut events, 5).await;
    alice.mark_read(room(), 5);
    // Asking for more finishes the fifth.
    let _ = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    let told = || {
        let world = server.world.lock();
        let marks = world.requests.iter().filter_map(|o| match o {
            Op::Mark(mark) => Some(mark.cursors.clone()),
            _ => None,
        });
        marks.collect::<Vec<_>>()
    };
    eventually("the mark is told", || told().iter().flatten().any(|c| c.read == 5 && c.delivered == 5)).await;
    assert!(told().len() <= 2, "{:?}", told());
    // A last mark is told on the way out.
    alice.mark_read(room(), 7);
    alice.close().await;
    assert!(told().iter().flatten().any(|c| c.read == 7));
}

#[tokio::test]
async fn a_room_that_may_not_be_marked_does_not_hold_up_the_others() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let rooms: Vec<_> = (0..10).map(|n| RoomId::from_bytes([n; 16])).collect();
    server.world.lock().closed_room = Some(rooms[3]);
    for room in &rooms {
        alice.mark_read(*room, 1);
    }
    let taken = || {
        let world = server.world.lock();
        let marks = world.requests.iter().filter_map(|o| match o {
            Op::Mark(m) if m.cursors.iter().all(|c| c.room != rooms[3].to_wire()) => Some(m.cursors.len()),
            _ => None,
        });
        marks.sum::<usize>()
    };
    eventually("the other nine are marked", || taken() == 9).await;
}

#[tokio::test]
async fn foreground_and_background_are_told() {
    let server = Server::start();
    let alice = connected(Options { app_state: AppState::Background, ..options(&server, "alice") }).await;
    assert_eq!(server.world.lock().hellos[0].app_state(), wire::AppState::Background);
    assert_eq!(server.world.lock().hellos[0].reason(), wire::Reason::Woken);
    alice.enter_foreground();
    eventually("foreground is told", || {
        let world = server.world.lock();
        world
            .requests
            .iter()
            .any(|o| matches!(o, Op::SetAppState(s) if s.state() == wire::AppState::Foreground))
    })
    .await;
}

#[tokio::test]
async fn a_woken_app_fetches_what_it_missed_in_time() {
    let server = Server::start();
    for n in 1..=250 {
        server.say(room(), "bob", &n.to_string(), false);
    }
    let alice = Client::open(options(&server, "alice")).await.unwrap();
    let mut events = alice.events();
    let (fetched, heard) = tokio::join!(alice.fetch_pending(LIMIT), messages(&mut events, 250));
    assert!(fetched);
    assert_eq!(heard.len(), 250);
    let fresh = Options { first_login: FirstLogin::FromNow, ..options(&server, "alice") };
    let newer = Client::open(fresh).await.unwrap();
    let mut events = newer.events();
    assert!(newer.fetch_pending(LIMIT).await);
    server.say(room(), "bob", "now", false);
    assert_eq!(messages(&mut events, 1).await[0].seq, 251);
}

#[tokio::test]
async fn a_path_that_goes_dead_is_left_and_nothing_is_lost() {
    let server = Server::start();
    let relay = Relay::to(server.socket_address(), 1).await;
    server.world.lock().addresses = vec![relay.address()];
    let watchful = Options { silence_limit: Duration::from_millis(600), ..options(&server, "alice") };
    let alice = connected(watchful).await;
    let mut events = alice.events();
    relay.set(Weather { blackhole: true, ..Weather::default() });
    let outgoing = alice.send(room(), "over a dead path").await.unwrap();
    server.say(room(), "bob", "meanwhile", false);
    let state = until(&alice, |s| !s.is_up()).await;
    assert!(matches!(state, State::Reconnecting { cause: Error::Unreachable { .. }, .. }), "{state:?}");
    relay.set(Weather::default());
    assert_eq!(outgoing.receipt().await.unwrap().seq, 2);
    assert_eq!(texts(&messages(&mut events, 2).await), ["meanwhile", "over a dead path"]);
}

#[tokio::test]
async fn a_bad_network_changes_nothing_but_the_time() {
    let server = Server::start();
    let relay = Relay::to(server.socket_address(), 7).await;
    server.world.lock().addresses = vec![relay.address()];
    let (alice, bob) = (connected(options(&server, "alice")).await, connected(options(&server, "bob")).await);
    let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
    relay.set(Weather { loss: 0.05, jitter: Duration::from_millis(20), blackhole: false });
    let (count, mut receipts) = (60, Vec::new());
    for n in 0..count {
        receipts.push(alice.send(room(), format!("a{n}")).await.unwrap());
        receipts.push(bob.send(room(), format!("b{n}")).await.unwrap());
        if n == count / 2 {
            relay.rebind();
        }
    }
    for receipt in receipts {
        receipt.receipt().await.unwrap();
    }
    let (heard_by_alice, heard_by_bob) =
        tokio::join!(messages(&mut of_alice, 2 * count), messages(&mut of_bob, 2 * count));
    assert_eq!(texts(&heard_by_alice), server.log(room()));
    assert_eq!(texts(&heard_by_bob), server.log(room()));
    let of_one: Vec<_> = server.log(room()).into_iter().filter(|t| t.starts_with('a')).collect();
    assert_eq!(of_one, (0..count).map(|n| format!("a{n}")).collect::<Vec<_>>(), "the order of the sends");
}

#[tokio::test]
async fn a_change_of_network_keeps_the_session() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let mut states = alice.state();
    states.mark_unchanged();
    for _ in 0..3 {
        alice.network_changed();
        alice.ping().await.unwrap();
    }
    assert!(!states.has_changed().unwrap());
}

#[tokio::test]
async fn a_stream_of_events_that_is_asked_for_anew_takes_over() {
    let server = Server::start();
    let alice = connected(options(&server, "alice")).await;
    let (mut old, mut new) = (alice.events(), alice.events());
    server.say(room(), "bob", "1", false);
    assert_eq!(messages(&mut new, 1).await.len(), 1);
    assert_eq!(old.next().await, None);
}
