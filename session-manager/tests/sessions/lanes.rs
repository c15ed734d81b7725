//! Requests when there is more to do than seats: who waits, who is refused, who goes first.

use std::sync::atomic::Ordering;
use std::time::Duration;

use buslane_session_manager::Config;
use buslane_shared::class::{ByAppState, Class};
use buslane_shared::overload::settings::{Claims, Policy};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, AppState, answer::Result as Outcome, client_frame, request::Op};
use bytes::Bytes;
use tokio::time::Instant;

use crate::phone::{Line, Live, Phone, closed, refused, send};
use crate::stand::{Stand, unmoved, until};

const SEATS: usize = 16;

/// Longer than any test.
const LONG_MS: u32 = 60_000;

fn few_seats() -> Config {
    let mut config = unmoved();
    config.overload.lanes.seats = SEATS as u32;
    config.overload.claims = Claims { burst: 10_000, per_s: 10_000 };
    config
}

fn gated() -> Op {
    Op::Sync(wire::Sync::default())
}

fn numbered(number: u64) -> Op {
    let body = Bytes::copy_from_slice(&number.to_be_bytes());
    Op::Send(wire::Send { body, ..Default::default() })
}

fn relayed(stand: &Stand) -> usize {
    stand.script.relayed.load(Ordering::SeqCst)
}

/// The order in which numbered messages have come to the backend.
fn sent(stand: &Stand) -> Vec<u64> {
    let sent = stand.script.sent.lock();
    sent.iter().map(|(_, s)| u64::from_be_bytes(s.body[..].try_into().unwrap())).collect()
}

/// A session that has taken every seat and will give none back before the gate is opened.
async fn fill_seats(stand: &Stand, state: AppState) -> Live {
    let mut live = Phone::new(stand, "greedy", 99).login(stand).await;
    live.app_state(state).await;
    for id in 0..SEATS as u64 {
        live.line.ask_within(id, LONG_MS, gated()).await;
        // Each is begun before the next comes, so that none of them waits.
        until("it has its seat", || relayed(stand) > id as usize).await;
    }
    live
}

/// Sessions of background of which each waits for a seat, as many as the queue holds; and what the last of them was told.
async fn fill_queue(stand: &Stand) -> (Vec<Live>, wire::Refusal) {
    let mut phones = Vec::new();
    loop {
        let mut live = Phone::new(stand, "crowd", 10 + phones.len() as u8).login(stand).await;
        live.app_state(AppState::Background).await;
        live.line.ask_within(1, LONG_MS, gated()).await;
        live.line.ask(2, Op::Ping(wire::Ping {})).await;
        let answer = live.line.answer().await;
        phones.push(live);
        if answer.id == 1 {
            return (phones, refused(answer.result.unwrap()));
        }
        assert!(phones.len() <= SEATS, "nobody is refused");
    }
}

#[tokio::test]
async fn foreground_is_served_while_background_is_refused() {
    let stand = Stand::with(few_seats()).await;
    let mut talker = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut filler = fill_seats(&stand, AppState::Background).await;
    let mut background = Phone::new(&stand, "bob", 2).login(&stand).await;
    background.app_state(AppState::Background).await;
    let (phones, refusal) = fill_queue(&stand).await;
    assert_eq!((refusal.code(), refusal.class), (Code::Busy, Class::Wake as u32));
    assert!((640..768).contains(&refusal.level), "{refusal:?}");
    assert!(refusal.retryable && refusal.retry_after_ms > 0 && refusal.slot.is_empty(), "{refusal:?}");
    assert_eq!(refusal.posture(), wire::Posture::Normal);

    // Somebody who is looked at waits for the next seat, and gets it before everybody who waits longer.
    talker.line.ask_within(7, LONG_MS, send(b"hello")).await;
    until("it waits", || stand.overseer.lanes().lanes[Class::Talk.index()].waiting == 1).await;
    stand.script.gate.add_permits(1);
    assert!(matches!(talker.line.answer().await, wire::Answer { id: 7, result: Some(Outcome::Receipt(_)) }));
    assert!(matches!(filler.line.answer().await.result, Some(Outcome::Batch(_))));
    until("what it leaves is lent again", || {
        stand.overseer.lanes().lanes[Class::Wake.index()].in_use == SEATS as u32
    })
    .await;
    drop((phones, background));
    stand.stop().await;
}

#[tokio::test]
async fn messages_of_one_sender_keep_their_order_however_they_have_to_wait() {
    let mut config = few_seats();
    // Most of them are taken for background, and then some are believed again.
    config.overload.claims = Claims { burst: 20, per_s: 50 };
    // Two hundred at once are a surge where the machine is slow, and then the hour decides whether this user is let in. They are.
    config.overload.dry_run = vec![Class::Talk, Class::Wake];
    let stand = Stand::with(config).await;
    let mut filler = fill_seats(&stand, AppState::Background).await;
    let mut talker = Phone::new(&stand, "alice", 1).login(&stand).await;
    for id in 0..200 {
        talker.line.ask_within(id, LONG_MS, numbered(id)).await;
        if id % 20 == 0 {
            talker.ping().await;
        }
    }
    stand.script.gate.add_permits(1_000);
    let mut done = Vec::new();
    while done.len() < 200 {
        let answer = talker.line.answer().await;
        match answer.result.unwrap() {
            Outcome::Receipt(_) => done.push(answer.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent(&stand), (0..200).collect::<Vec<_>>());
    let classes: Vec<Class> = stand.script.sent.lock().iter().map(|(call, _)| call.class).collect();
    assert!(classes.contains(&Class::Talk) && classes.contains(&Class::Wake), "{classes:?}");
    filler.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn who_claims_too_much_is_background() {
    let mut config = unmoved();
    config.overload.claims = Claims { burst: 5, per_s: 1 };
    let stand = Stand::with(config).await;
    let phone = Phone::new(&stand, "mallory", 1);
    let mut live = phone.login(&stand).await;
    for id in 0..10 {
        live.request(id, numbered(id)).await;
    }
    // A new session of the device is no new right.
    let mut again = phone.login(&stand).await;
    again.request(1, numbered(10)).await;
    let classes: Vec<Class> = stand.script.sent.lock().iter().map(|(call, _)| call.class).collect();
    assert!(classes[..5].iter().all(|c| *c == Class::Talk), "{classes:?}");
    assert!(classes[7..].contains(&Class::Wake) && classes.len() == 11, "{classes:?}");
    assert_eq!(classes[10], Class::Wake);
    // Nobody else pays for it.
    let mut honest = Phone::new(&stand, "alice", 2).login(&stand).await;
    honest.request(1, numbered(11)).await;
    assert_eq!(stand.script.sent.lock()[11].0.class, Class::Talk);
    stand.stop().await;
}

#[tokio::test]
async fn a_protocol_uses_no_more_than_its_cap() {
    let mut config = few_seats();
    config.overload.caps.insert("message.sync".into(), 25);
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    for id in 0..10 {
        live.line.ask_within(id, LONG_MS, gated()).await;
    }
    live.ping().await;
    assert!(matches!(live.request(100, send(b"beside it")).await, Outcome::Receipt(_)));
    let syncs = relayed(&stand) - 1;
    assert_eq!(syncs, SEATS / 4, "four of sixteen seats");
    let lanes = stand.overseer.lanes();
    let sync = lanes.protocols.iter().find(|p| p.protocol == "message.sync").unwrap();
    assert_eq!((sync.in_use, sync.cap), (4, 4));
    stand.script.gate.add_permits(10);
    for _ in 0..10 {
        assert!(matches!(live.line.answer().await.result, Some(Outcome::Batch(_))));
    }
    stand.stop().await;
}

#[tokio::test]
async fn who_waits_can_give_up_and_has_certainly_done_nothing() {
    let stand = Stand::with(few_seats()).await;
    let _filler = fill_seats(&stand, AppState::Foreground).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.ask_within(1, LONG_MS, send(b"on a stream of its own")).await;
    live.line.ask_within(1, LONG_MS, send(b"first")).await;
    live.line.ask_within(2, LONG_MS, send(b"second")).await;
    live.line.ask_within(3, 30, send(b"late")).await;
    let late = live.line.answer().await;
    let refusal = refused(late.result.unwrap());
    assert_eq!((late.id, refusal.code(), refusal.maybe_applied), (3, Code::Deadline, false));
    for id in [1, 2] {
        live.line.say(client_frame::Kind::Cancel(id)).await;
        let answer = live.line.answer().await;
        let refusal = refused(answer.result.unwrap());
        assert_eq!((answer.id, refusal.code(), refusal.maybe_applied), (id, Code::Cancelled, false));
    }
    until("only the bulk stream waits", || {
        let lanes = stand.overseer.lanes();
        lanes.lanes.iter().map(|lane| lane.waiting).sum::<u32>() == 1
    })
    .await;
    bulk.send.reset(0u8.into()).unwrap();
    drop(bulk);
    live.lose();
    until("nobody waits", || stand.overseer.lanes().lanes.iter().all(|lane| lane.waiting == 0)).await;
    assert!(stand.script.sent.lock().is_empty());
    stand.stop().await;
}

#[tokio::test]
async fn a_seat_comes_back_whatever_becomes_of_the_request() {
    let stand = Stand::with(few_seats()).await;
    let in_use = || stand.overseer.lanes().lanes.iter().map(|lane| lane.in_use).sum::<u32>();
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.ask_within(1, LONG_MS, gated()).await;
    live.line.ask_within(2, 30, gated()).await;
    assert_eq!(live.line.answer().await.id, 2, "over its deadline");
    until("one seat is back", || in_use() == 1).await;
    live.line.say(client_frame::Kind::Cancel(1)).await;
    assert_eq!(live.line.answer().await.id, 1);
    until("the other too", || in_use() == 0).await;
    live.line.ask_within(3, LONG_MS, Op::MakeCode(wire::MakeCode {})).await;
    until("after a panic too", || relayed(&stand) == 3 && in_use() == 0).await;
    stand.stop().await;
}

#[tokio::test]
async fn requests_of_the_wake_port_run_at_the_desk_and_keep_their_order() {
    let mut stand = Stand::with(unmoved()).await;
    stand.front = stand.wake;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let count = 2_000;
    for first in (0..count).step_by(200) {
        for id in first..first + 200 {
            live.line.ask_within(id, LONG_MS, numbered(id)).await;
        }
        for _ in 0..200 {
            let answer = live.line.answer().await;
            assert!(matches!(answer.result, Some(Outcome::Receipt(_))), "{answer:?}");
        }
    }
    assert_eq!(sent(&stand), (0..count).collect::<Vec<_>>());
    // Given up by the client, by time, and by the id that is in flight already.
    live.line.ask_within(1, LONG_MS, Op::Kick(wire::Kick::default())).await;
    let before = relayed(&stand);
    live.line.ask_within(1, LONG_MS, send(b"again")).await;
    let twice = refused(live.line.answer().await.result.unwrap());
    assert_eq!((twice.code(), twice.field.as_str()), (Code::BadField, "id"));
    live.line.ask_within(2, 30, Op::Kick(wire::Kick::default())).await;
    let late = live.line.answer().await;
    assert_eq!((late.id, refused(late.result.unwrap()).code()), (2, Code::Deadline));
    assert!(relayed(&stand) >= before);
    live.line.say(client_frame::Kind::Cancel(1)).await;
    let given_up = live.line.answer().await;
    let refusal = refused(given_up.result.unwrap());
    assert_eq!((given_up.id, refusal.code(), refusal.maybe_applied), (1, Code::Cancelled, true));
    until("both are dropped", || stand.script.given_up.load(Ordering::SeqCst) == 2).await;
    // And a stream of its own.
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.ask(1, send(b"bulk")).await;
    assert!(matches!(bulk.answer().await.result, Some(Outcome::Receipt(_))));
    live.ping().await;
    // A defect ends the session that it came from.
    live.line.ask(3, Op::MakeCode(wire::MakeCode {})).await;
    assert_eq!(closed(&live.connection).await, Code::Internal);
    stand.stop().await;
}

#[tokio::test]
async fn who_is_left_unread_for_a_while_is_not_taken_for_idle() {
    let mut config = few_seats();
    config.times.idle_limit_ms = 300;
    config.times.ping_interval_ms = 100;
    let mut stand = Stand::with(config).await;
    let _filler = fill_seats(&stand, AppState::Background).await;
    let _crowd = fill_queue(&stand).await;
    stand.front = stand.wake;
    let mut live = Phone::new(&stand, "bob", 2).login(&stand).await;
    live.app_state(AppState::Background).await;
    let count = 100;
    for id in 0..count {
        live.line.ask_within(id, LONG_MS, gated()).await;
    }
    // It comes after all of them, and what it says is not read at once.
    live.line.ask(count, Op::Ping(wire::Ping {})).await;
    for _ in 0..=count {
        match live.line.answer().await.result.unwrap() {
            Outcome::Refusal(refusal) => assert_eq!(refusal.code(), Code::Busy),
            Outcome::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_stream_of_its_own_is_no_way_to_be_refused_more_often() {
    let mut config = unmoved();
    let spare = ByAppState { foreground: Class::Spare, background: Class::Spare };
    config.overload.classes.insert("message.history".into(), spare);
    let stand = Stand::with(config).await;
    stand.order_emergency();
    stand.until_posture(wire::Posture::Emergency).await;
    let live = Phone::new(&stand, "mallory", 1).login(&stand).await;
    let began = Instant::now();
    // Forty at once, and then twenty a second, on however many streams.
    for _ in 0..2 {
        let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
        for id in 0..30 {
            bulk.ask(id, Op::History(wire::History::default())).await;
        }
        for _ in 0..30 {
            assert_eq!(refused(bulk.answer().await.result.unwrap()).code(), Code::Busy);
        }
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?} for 60 refusals", began.elapsed());
    stand.stop().await;
}

#[tokio::test]
async fn who_claims_far_too_much_in_an_emergency_is_left_unread_and_loses_nothing() {
    let mut config = unmoved();
    // The forty that are believed are as much foreground as people make.
    config.overload.claims = Claims { burst: 40, per_s: 1 };
    let stand = Stand::with(config).await;
    stand.order_emergency();
    stand.until_posture(wire::Posture::Emergency).await;
    let mut live = Phone::new(&stand, "mallory", 1).login(&stand).await;
    let began = Instant::now();
    let mut id = 0;
    loop {
        let round = Instant::now();
        for _ in 0..60 {
            live.line.ask_within(id, LONG_MS, numbered(id)).await;
            id += 1;
        }
        for _ in 0..60 {
            let answer = live.line.answer().await;
            assert!(matches!(answer.result, Some(Outcome::Receipt(_))), "{answer:?}");
        }
        if round.elapsed() >= Duration::from_millis(900) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{id} claims, and it was always heard");
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_class_that_is_only_tried_out_is_never_refused() {
    let mut config = few_seats();
    config.overload.dry_run = vec![Class::Wake];
    let stand = Stand::with(config).await;
    let _filler = fill_seats(&stand, AppState::Background).await;
    let mut crowd = Vec::new();
    for device in 1..=SEATS as u8 {
        let mut live = Phone::new(&stand, "crowd", device).login(&stand).await;
        live.app_state(AppState::Background).await;
        live.line.ask_within(1, LONG_MS, gated()).await;
        live.ping().await;
        crowd.push(live);
    }
    until("those beyond the queue run without a seat", || relayed(&stand) > SEATS).await;
    stand.stop().await;
}

#[tokio::test]
async fn other_settings_hold_at_once() {
    let stand = Stand::with(few_seats()).await;
    let _filler = fill_seats(&stand, AppState::Background).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.ask_within(1, LONG_MS, send(b"it waits")).await;
    live.ping().await;
    let mut settings = stand.tuner.overload();
    settings.lanes.talk.guarantee = 90;
    let complaint = stand.tuner.set_overload(settings.clone()).unwrap_err().to_string();
    assert!(complaint.contains("131 %"), "{complaint}");
    settings.lanes.talk.guarantee = 30;
    settings.lanes.seats = 32;
    stand.tuner.set_overload(settings.clone()).unwrap();
    assert!(matches!(live.line.answer().await.result, Some(Outcome::Receipt(_))), "there are seats now");
    settings.policy = Policy::None;
    stand.tuner.set_overload(settings).unwrap();
    assert_eq!(stand.overseer.lanes().policy, "none");
    stand.stop().await;
}
