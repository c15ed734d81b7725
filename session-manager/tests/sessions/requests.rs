//! Requests and their answers on both kinds of streams.

use std::sync::atomic::Ordering;
use std::time::Duration;

use buslane_shared::class::Class;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer::Result as Outcome, client_frame, request::Op};
use bytes::Bytes;

use crate::phone::{Line, Phone, closed, quiet, refused, send};
use crate::stand::{Stand, until};

fn never() -> Op {
    Op::ListDevices(wire::ListDevices {})
}

fn never_write() -> Op {
    Op::Kick(wire::Kick::default())
}

fn gated() -> Op {
    Op::Sync(wire::Sync::default())
}

#[tokio::test]
async fn a_request_is_relayed_for_whom_the_ticket_names_in_the_class_of_the_app_state() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let receipt = live.request(7, send(b"one")).await;
    assert!(matches!(receipt, Outcome::Receipt(wire::Receipt { seq: 1, .. })), "{receipt:?}");
    let background = Op::SetAppState(wire::SetAppState { state: wire::AppState::Background.into() });
    assert!(matches!(live.request(8, background).await, Outcome::Done(_)));
    live.request(9, send(b"two")).await;
    {
        let sent = stand.script.sent.lock();
        let (call, message) = &sent[0];
        assert_eq!((call.user.as_str(), call.class), ("alice", Class::Talk));
        assert_eq!(call.device.to_wire(), Bytes::from_static(&[1; 16]));
        assert_eq!(call.session.to_wire(), live.welcome.session);
        assert_eq!(message.body, Bytes::from_static(b"one"));
        assert_eq!(sent[1].0.class, Class::Wake);
        assert_ne!(sent[0].0.trace, sent[1].0.trace);
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_burst_is_begun_in_its_order_and_answered_whole() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let count = 5_000u64;
    let mut answered = 0;
    for first in (0..count).step_by(250) {
        for id in first..first + 250 {
            let body = Bytes::copy_from_slice(&id.to_be_bytes());
            live.line.ask(id, Op::Send(wire::Send { body, ..Default::default() })).await;
        }
        for _ in 0..250 {
            let answer = live.line.answer().await;
            assert!(matches!(answer.result, Some(Outcome::Receipt(_))), "{answer:?}");
            answered += 1;
        }
    }
    assert_eq!(answered, count);
    {
        let sent = stand.script.sent.lock();
        let order: Vec<u64> =
            sent.iter().map(|(_, s)| u64::from_be_bytes(s.body[..].try_into().unwrap())).collect();
        assert_eq!(order, (0..count).collect::<Vec<_>>());
    }
    stand.stop().await;
}

#[tokio::test]
async fn what_the_server_does_not_know_is_unsupported_or_skipped() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.say(client_frame::Kind::Request(wire::Request { id: 3, ..Default::default() })).await;
    let answer = live.line.answer().await;
    assert_eq!(answer.id, 3);
    assert_eq!(refused(answer.result.unwrap()).code(), Code::Unsupported);
    // A frame of a kind that does not exist yet: field 99, and an empty one.
    live.line.send.write_all(&[0, 0, 0, 3, 0x9a, 0x06, 0x00, 0, 0, 0, 0]).await.unwrap();
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_refusal_of_the_backend_goes_through() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let refusal = refused(live.request(1, Op::CreateRoom(wire::CreateRoom::default())).await);
    assert_eq!(refusal.code(), Code::RoomFull);
    stand.stop().await;
}

#[tokio::test]
async fn one_more_than_may_be_in_flight_is_refused_and_nothing_else_happens() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    for id in 0..256 {
        live.line.ask_within(id, 60_000, never()).await;
    }
    live.line.ask(256, send(b"too much")).await;
    let answer = live.line.answer().await;
    assert_eq!(answer.id, 256);
    assert_eq!(refused(answer.result.unwrap()).code(), Code::TooManyInFlight);
    live.ping().await;
    live.line.say(client_frame::Kind::Cancel(5)).await;
    assert_eq!(live.line.answer().await.id, 5);
    assert!(matches!(live.request(256, send(b"fits")).await, Outcome::Receipt(_)));
    assert_eq!(stand.script.sent.lock().len(), 1);
    live.lose();
    until("all are dropped with the connection", || stand.script.given_up.load(Ordering::SeqCst) == 256)
        .await;
    stand.stop().await;
}

#[tokio::test]
async fn an_id_in_flight_is_not_used_twice() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.ask(1, gated()).await;
    live.line.ask(1, send(b"again")).await;
    let refusal = refused(live.line.answer().await.result.unwrap());
    assert_eq!((refusal.code(), refusal.field.as_str()), (Code::BadField, "id"));
    stand.script.gate.add_permits(1);
    assert!(matches!(live.line.answer().await.result, Some(Outcome::Batch(_))));
    assert!(matches!(live.request(1, send(b"free again")).await, Outcome::Receipt(_)));
    stand.stop().await;
}

#[tokio::test]
async fn a_cancelled_request_is_dropped_and_says_whether_it_may_have_been_done() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    for (id, op, maybe_applied) in [(1, never(), false), (2, never_write(), true)] {
        let before = stand.script.relayed.load(Ordering::SeqCst);
        live.line.ask(id, op).await;
        until("it runs", || stand.script.relayed.load(Ordering::SeqCst) > before).await;
        live.line.say(client_frame::Kind::Cancel(id)).await;
        let answer = live.line.answer().await;
        let refusal = refused(answer.result.unwrap());
        assert_eq!((answer.id, refusal.code(), refusal.maybe_applied), (id, Code::Cancelled, maybe_applied));
    }
    until("both are dropped", || stand.script.given_up.load(Ordering::SeqCst) == 2).await;
    // Too late, or never there: without an effect.
    live.line.say(client_frame::Kind::Cancel(2)).await;
    live.line.say(client_frame::Kind::Cancel(77)).await;
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_deadline_is_kept_and_others_go_on() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.ask_within(1, 60_000, never()).await;
    live.line.ask_within(2, 50, never_write()).await;
    live.line.ask_within(3, 20, never()).await;
    let mut late = [live.line.answer().await, live.line.answer().await];
    late.sort_by_key(|a| a.id);
    for (answer, (id, maybe_applied)) in late.into_iter().zip([(2, true), (3, false)]) {
        let refusal = refused(answer.result.unwrap());
        assert_eq!((answer.id, refusal.code(), refusal.maybe_applied), (id, Code::Deadline, maybe_applied));
    }
    until("the late ones are dropped", || stand.script.given_up.load(Ordering::SeqCst) == 2).await;
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn bulk_streams_serve_one_after_another_beside_the_talk() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.ask(1, gated()).await;
    bulk.ask(2, send(b"bulk")).await;
    live.ping().await;
    until("the first runs", || stand.script.relayed.load(Ordering::SeqCst) == 1).await;
    quiet(&mut bulk, Duration::from_millis(50)).await;
    stand.script.gate.add_permits(1);
    assert!(matches!(bulk.answer().await, wire::Answer { id: 1, result: Some(Outcome::Batch(_)) }));
    assert!(matches!(bulk.answer().await, wire::Answer { id: 2, result: Some(Outcome::Receipt(_)) }));
    bulk.ask(3, Op::Ping(wire::Ping {})).await;
    bulk.send.finish().unwrap();
    assert_eq!(bulk.answer().await.id, 3);
    assert!(bulk.hear().await.is_none(), "the server finishes after the last answer");
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn bulk_streams_are_few_and_come_back() {
    let stand = Stand::start().await;
    let live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut bulks = Vec::new();
    for id in 0..3 {
        let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
        bulk.ask(id, never()).await;
        bulks.push(bulk);
    }
    let fourth = tokio::time::timeout(Duration::from_millis(200), live.connection.open_bi()).await;
    assert!(fourth.is_err(), "a fourth stream was allowed");
    until("all three run", || stand.script.relayed.load(Ordering::SeqCst) == 3).await;
    // The client wants nothing more from one of them.
    let mut given_back = bulks.pop().unwrap();
    let code = quinn::VarInt::from_u32(Code::Cancelled as u32);
    given_back.send.reset(code).unwrap();
    given_back.recv.stop(code).unwrap();
    until("its request is dropped", || stand.script.given_up.load(Ordering::SeqCst) == 1).await;
    let mut again = Line::new(live.connection.open_bi().await.unwrap());
    again.ask(9, Op::Ping(wire::Ping {})).await;
    assert_eq!(again.answer().await.id, 9);
    stand.stop().await;
}

#[tokio::test]
async fn a_request_on_a_bulk_stream_can_be_cancelled_and_has_a_deadline() {
    let stand = Stand::start().await;
    let live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.ask(1, never()).await;
    bulk.ask(2, send(b"never begun")).await;
    bulk.say(client_frame::Kind::Cancel(2)).await;
    bulk.say(client_frame::Kind::Cancel(1)).await;
    for id in [1, 2] {
        let answer = bulk.answer().await;
        assert_eq!(answer.id, id);
        assert_eq!(refused(answer.result.unwrap()).code(), Code::Cancelled);
    }
    bulk.ask_within(3, 30, never_write()).await;
    let refusal = refused(bulk.answer().await.result.unwrap());
    assert_eq!((refusal.code(), refusal.maybe_applied), (Code::Deadline, true));
    assert!(stand.script.sent.lock().is_empty());
    stand.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection_on_every_stream() {
    let stand = Stand::start().await;
    let table: [(&str, Vec<u8>, bool, Code); 3] = [
        ("no protobuf", vec![0, 0, 0, 2, 0xff, 0xff], false, Code::Malformed),
        ("over the cap", 70_000u32.to_be_bytes().to_vec(), false, Code::TooLarge),
        ("half a frame", vec![0, 0, 0, 9, 1], true, Code::Malformed),
    ];
    for (what, bytes, finish, code) in table {
        for on_talk in [true, false] {
            let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
            let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
            let line = if on_talk { &mut live.line } else { &mut bulk };
            line.send.write_all(&bytes).await.unwrap();
            if finish {
                line.send.finish().unwrap();
            }
            let go_away = live.line.go_away().await;
            assert_eq!((go_away.code(), go_away.reconnect), (code, false), "{what}");
            assert_eq!(closed(&live.connection).await, code, "{what}");
        }
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_panic_ends_its_session_only() {
    let stand = Stand::start().await;
    let mut other = Phone::new(&stand, "bob", 2).login(&stand).await;
    let mut bulk_other = Phone::new(&stand, "carol", 3).login(&stand).await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.line.ask(1, Op::MakeCode(wire::MakeCode {})).await;
    assert_eq!(closed(&live.connection).await, Code::Internal);
    let mut bulk = Line::new(bulk_other.connection.open_bi().await.unwrap());
    bulk_other.ping().await;
    bulk.ask(1, Op::MakeCode(wire::MakeCode {})).await;
    assert_eq!(closed(&bulk_other.connection).await, Code::Internal);
    other.ping().await;
    phone.login(&stand).await.ping().await;
    stand.stop().await;
}
