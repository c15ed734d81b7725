//! The client and the bus lane: which port it takes, what it shows there, and what it makes of a server under pressure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use buslane_client::{AppState, Class, Client, Error, Event, Options, Posture, State};
use buslane_shared::id::RoomId;
use buslane_shared::refusal::{Busy, Refusal};
use buslane_shared::wire::{self, event};
use bytes::Bytes;
use support::server::{Door, SendFault};
use support::{Server, connected, event as wait_for, eventually, options, until};

const ROOM: RoomId = RoomId::from_bytes([5; 16]);

/// A mark for a port: the upper two bits say which.
fn mark(door: Door, n: u8) -> Bytes {
    let mut mark = vec![n; 20];
    mark[0] = match door {
        Door::Front => 0x05,
        Door::Wake => 0x45,
    };
    mark.into()
}

fn batch(door: Door, numbers: std::ops::Range<u8>) -> wire::Passes {
    wire::Passes { marks: numbers.map(|n| mark(door, n)).collect(), valid_ms: 60_000 }
}

fn put_off(retry_after_ms: u32, slot: &[u8]) -> Refusal {
    let busy = Busy {
        class: Class::Wake,
        level: 700,
        posture: Posture::Emergency,
        slot: Bytes::copy_from_slice(slot),
    };
    Refusal::busy(busy, retry_after_ms)
}

fn server(passes: Vec<wire::Passes>) -> Server {
    let server = Server::start();
    server.world.lock().passes = Some(passes.into());
    server
}

fn woken(server: &Server) -> Options {
    Options { app_state: AppState::Background, ..options(server, "alice") }
}

fn arrivals(server: &Server) -> Vec<(Door, Bytes)> {
    server.world.lock().arrivals.clone()
}

#[tokio::test]
async fn a_person_comes_by_the_front_with_a_fresh_pass_each_time() {
    let server = server(vec![batch(Door::Front, 1..4)]);
    let alice = connected(options(&server, "alice")).await;
    for n in 2..4 {
        server.break_connections();
        eventually("it is back", || arrivals(&server).len() == n).await;
        until(&alice, State::is_up).await;
    }
    assert_eq!(arrivals(&server), [3, 2, 1].map(|n| (Door::Front, mark(Door::Front, n))));
    assert_eq!(server.world.lock().enters, 1, "what is at hand suffices");
    alice.close().await;
}

#[tokio::test]
async fn without_a_pass_the_gateway_is_asked_and_then_the_other_port_taken() {
    let server = server(vec![wire::Passes::default(), batch(Door::Front, 1..2)]);
    let alice = connected(options(&server, "alice")).await;
    // Asked just now, and it gave none: it is not asked at once again.
    assert_eq!(arrivals(&server)[0].0, Door::Wake);
    assert_eq!(server.world.lock().enters, 1);
    alice.close().await;
}

#[tokio::test]
async fn what_a_session_is_given_opens_the_next_one() {
    let server = server(vec![batch(Door::Front, 1..2)]);
    server.world.lock().welcome_passes = [batch(Door::Front, 7..8)].into();
    let alice = connected(options(&server, "alice")).await;
    server.break_connections();
    eventually("it is back", || arrivals(&server).len() == 2).await;
    assert_eq!(arrivals(&server)[1], (Door::Front, mark(Door::Front, 7)));
    assert_eq!(server.world.lock().enters, 1);
    alice.close().await;
}

#[tokio::test]
async fn a_pass_that_meets_silence_is_followed_by_the_other_port() {
    let server = server(vec![batch(Door::Front, 1..3)]);
    server.world.lock().front_is_silent = true;
    let alice = connected(options(&server, "alice")).await;
    let doors: Vec<Door> = arrivals(&server).into_iter().map(|(door, _)| door).collect();
    assert_eq!(doors[..2], [Door::Front, Door::Wake]);
    alice.close().await;
}

#[tokio::test]
async fn a_phone_that_is_put_off_returns_in_its_slot_and_shows_it() {
    let server = server(vec![batch(Door::Wake, 1..3)]);
    let slot = mark(Door::Wake, 99);
    server.world.lock().hello_refusals.push_back(put_off(700, &slot));
    let began = Instant::now();
    let alice = connected(woken(&server)).await;
    let waited = began.elapsed();
    assert!((700..1_700).contains(&waited.as_millis()), "{waited:?}");
    {
        let world = server.world.lock();
        assert_eq!(world.arrivals.len(), 2, "nothing in between");
        assert_eq!(world.arrivals[1], (Door::Wake, slot.clone()));
        assert_eq!(world.hellos[1].slot, slot);
        assert_eq!(world.enters, 1);
    }
    alice.close().await;
}

#[tokio::test]
async fn a_slot_of_the_gateway_is_shown_at_both_doors() {
    let server = server(vec![wire::Passes::default()]);
    let slot = mark(Door::Wake, 99);
    let alice = Client::open(woken(&server)).await.unwrap();
    until(&alice, State::is_up).await;
    alice.close().await;
    // The next start has neither session nor ticket.
    let folder = tempfile::tempdir().unwrap();
    let home =
        Options { app_state: AppState::Background, ..support::options_in(&server, "bob", folder.path()) };
    connected(home.clone()).await.close().await;
    server.world.lock().gate_refusals.push_back(put_off(300, &slot));
    server.world.lock().arrivals.clear();
    let bob = connected(home).await;
    {
        let world = server.world.lock();
        assert_eq!(world.gate_arrivals.last(), Some(&slot));
        assert_eq!(world.entries.last().unwrap().slot, slot);
        assert_eq!(world.arrivals, [(Door::Wake, slot.clone())]);
        assert_eq!(world.hellos.last().unwrap().slot, slot);
    }
    bob.close().await;
}

#[tokio::test]
async fn a_slot_that_is_worth_nothing_is_let_go_of() {
    let server = server(vec![wire::Passes::default()]);
    let bad = Refusal::of(buslane_shared::refusal::Code::BadSlot);
    server.world.lock().hello_refusals = [put_off(100, &mark(Door::Wake, 99)), bad].into();
    let alice = connected(woken(&server)).await;
    {
        let world = server.world.lock();
        let slots: Vec<usize> = world.hellos.iter().map(|hello| hello.slot.len()).collect();
        assert_eq!(slots, [0, 20, 0]);
    }
    alice.close().await;
}

#[tokio::test]
async fn a_person_who_opens_the_app_does_not_wait_for_the_slot_of_the_phone() {
    let server = server(vec![wire::Passes::default(), batch(Door::Front, 1..3)]);
    server.world.lock().hello_refusals.push_back(put_off(3_600_000, &mark(Door::Wake, 99)));
    let alice = Client::open(woken(&server)).await.unwrap();
    let state = until(&alice, |s| matches!(s, State::Connecting { attempt: 2, .. })).await;
    let State::Connecting { cause: Some(cause), .. } = state else { panic!("{state:?}") };
    let overloaded = cause.overloaded().expect("the truth");
    assert_eq!((overloaded.class, overloaded.posture), (Class::Wake, Posture::Emergency));
    assert_eq!(overloaded.retry_after, Some(Duration::from_secs(3_600)));
    // A new network is no reason to come earlier.
    alice.network_changed();
    alice.enter_foreground();
    until(&alice, State::is_up).await;
    {
        let world = server.world.lock();
        // One of the two went to the gateway.
        assert_eq!(world.arrivals.last(), Some(&(Door::Front, mark(Door::Front, 2))));
        assert!(world.hellos.last().unwrap().slot.is_empty());
        assert_eq!(world.hellos.last().unwrap().app_state(), wire::AppState::Foreground);
    }
    alice.close().await;
}

#[tokio::test]
async fn a_session_whose_app_is_opened_moves_to_the_front_and_nothing_is_lost() {
    let server = server(vec![batch(Door::Wake, 1..2), batch(Door::Front, 3..5)]);
    let alice = connected(woken(&server)).await;
    alice.room_direct(&"bob".parse().unwrap()).await.unwrap();
    let mut events = alice.events();
    server.say(ROOM, "bob", "0", false);
    let mut states = alice.state();
    alice.enter_foreground();
    let mut said = 1;
    let moved = async {
        while !arrivals(&server).iter().any(|(door, _)| *door == Door::Front) {
            server.say(ROOM, "bob", &said.to_string(), false);
            said += 1;
            alice.send(ROOM, format!("mine {said}")).await.unwrap().receipt().await.unwrap();
        }
    };
    tokio::time::timeout(support::LIMIT, moved).await.expect("it moves");
    let resumed = |s: &State| matches!(s, State::Connected { resumed: true, .. });
    tokio::time::timeout(support::LIMIT, states.wait_for(resumed)).await.unwrap().unwrap();
    server.say(ROOM, "bob", "last", false);
    let mut heard = Vec::new();
    while heard.last().map(String::as_str) != Some("last") {
        let message = support::messages(&mut events, 1).await.remove(0);
        heard.push(message.text().unwrap().to_owned());
    }
    assert_eq!(heard, server.log(ROOM));
    {
        let world = server.world.lock();
        let last = world.hellos.last().unwrap();
        assert!(matches!(last.token, Some(wire::hello::Token::Resume(_))) && last.seen > 0);
        assert_eq!(world.arrivals.last().unwrap().0, Door::Front);
    }
    alice.close().await;
}

#[tokio::test]
async fn advice_is_obeyed_and_told_to_the_app() {
    let server = server(vec![batch(Door::Front, 1..3)]);
    let advice = wire::Advice {
        posture: Posture::Emergency.into(),
        ping_interval_ms: 120_000,
        idle_limit_ms: 360_000,
        receipt_batch_ms: 1_500,
        off: vec!["receipt.counts".into()],
    };
    let alice = connected(options(&server, "alice")).await;
    let mut events = alice.events();
    server.tell(event::Kind::Posture(wire::PostureChanged {
        posture: advice.posture,
        ping_interval_ms: advice.ping_interval_ms,
        advice: Some(advice.clone()),
    }));
    let told = wait_for(&mut events, |event| match event {
        Event::Posture(conditions) => Some(conditions),
        _ => None,
    });
    let told = told.await;
    assert_eq!(told.posture, Posture::Emergency);
    assert!(told.is_off("receipt.counts"));
    assert_eq!(told.receipt_batch, Duration::from_millis(1_500));
    assert_eq!(told.ping_interval, Some(Duration::from_secs(120)));
    assert_eq!(*alice.conditions().borrow(), told);
    let marked = Instant::now();
    alice.mark_read(ROOM, 1);
    let told_mark = || server.world.lock().requests.iter().any(|op| matches!(op, wire::request::Op::Mark(_)));
    eventually("the mark is told", told_mark).await;
    assert!(marked.elapsed() >= Duration::from_millis(1_500), "{:?}", marked.elapsed());
    // A later session begins with what its welcome says.
    server.world.lock().advice = Some(wire::Advice { ping_interval_ms: 30_000, ..Default::default() });
    server.break_connections();
    let normal = |conditions: &buslane_client::Conditions| conditions.posture == Posture::Normal;
    let mut conditions = alice.conditions();
    tokio::time::timeout(support::LIMIT, conditions.wait_for(normal)).await.unwrap().unwrap();
    alice.close().await;
}

#[tokio::test]
async fn a_message_that_is_put_off_goes_again_in_its_place_and_an_app_hears_the_truth() {
    let server = server(vec![batch(Door::Front, 1..3)]);
    let alice = connected(options(&server, "alice")).await;
    server.world.lock().send_faults = (0..25).map(|_| SendFault::Refuse(put_off(20, b""))).collect();
    let mut waits = Vec::new();
    for n in 0..3 {
        waits.push(alice.send(ROOM, n.to_string()).await.unwrap());
    }
    for wait in waits {
        wait.receipt().await.unwrap();
    }
    assert_eq!(server.log(ROOM), ["0", "1", "2"]);
    server.world.lock().syncs_refused = 1;
    let error: Error = alice.sync(ROOM, 0, 10).await.unwrap_err();
    assert_eq!(error.name(), "busy");
    alice.close().await;
}
