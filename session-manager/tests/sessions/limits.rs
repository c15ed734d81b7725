//! Limits: what cuts a client off, and that it disturbs nobody else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buslane_shared::frame::frame;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, client_frame, request::Op};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::phone::{Line, Phone, closed};
use crate::stand::{PATIENCE, Stand, config, until};

#[tokio::test]
async fn who_says_nothing_is_told_that_it_was_idle_and_may_come_back() {
    let mut config = config();
    config.times.idle_limit_ms = 1_500;
    config.times.ping_interval_ms = 100;
    let stand = Stand::with(config).await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut idle = phone.login(&stand).await;
    assert_eq!(idle.welcome.idle_limit_ms, 1_500);
    let mut busy = Phone::new(&stand, "bob", 2).login(&stand).await;
    let pinging = tokio::spawn(async move {
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            busy.ping().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let go_away = idle.line.go_away().await;
    assert_eq!((go_away.code(), go_away.reconnect), (Code::Idle, true));
    assert_eq!(closed(&idle.connection).await, Code::Idle);
    assert!(phone.resume(&stand, idle.welcome.resume.clone(), 0).await.welcome.resumed);
    pinging.await.expect("who pings stays");
    stand.stop().await;
}

#[tokio::test]
async fn who_waits_for_an_answer_is_not_idle() {
    let mut config = config();
    config.times.idle_limit_ms = 200;
    config.times.ping_interval_ms = 100;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.ask_within(1, 700, Op::ListDevices(wire::ListDevices {})).await;
    assert_eq!(live.line.answer().await.id, 1);
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.ask_within(2, 700, Op::ListDevices(wire::ListDevices {})).await;
    assert_eq!(bulk.answer().await.id, 2);
    stand.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_while_others_go_on() {
    let mut config = config();
    config.times.slow_reader_limit_ms = 500;
    let stand = Stand::with(config).await;
    let mut other = Phone::new(&stand, "bob", 2).login(&stand).await;
    let mut live = Phone::tuned(&stand, "alice", 1, Some(16 * 1024)).login(&stand).await;
    for id in 0..20 {
        live.line.ask(id, Op::History(wire::History::default())).await;
    }
    let reason = loop {
        other.ping().await;
        if let Some(reason) = live.connection.close_reason() {
            break reason;
        }
    };
    drop(reason);
    assert_eq!(closed(&live.connection).await, Code::SlowReader);
    other.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_reader_that_is_slow_but_reads_gets_everything() {
    let mut config = config();
    config.times.slow_reader_limit_ms = 400;
    let stand = Stand::with(config).await;
    let mut live = Phone::tuned(&stand, "alice", 1, Some(64 * 1024)).login(&stand).await;
    for id in 0..8 {
        live.line.ask(id, Op::History(wire::History::default())).await;
    }
    let mut ids = Vec::new();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ids.push(live.line.answer().await.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
    stand.stop().await;
}

#[tokio::test]
async fn a_frame_that_has_begun_must_end() {
    let mut config = config();
    config.times.frame_limit_ms = 300;
    let stand = Stand::with(config).await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    live.line.send.write_all(&[0, 0, 0, 200, 1]).await.unwrap();
    let go_away = live.line.go_away().await;
    assert_eq!(go_away.code(), Code::Timeout);
    assert_eq!(closed(&live.connection).await, Code::Timeout);
    stand.stop().await;
}

#[tokio::test]
async fn a_frame_that_waits_because_the_server_does_not_read_is_not_late() {
    let mut config = config();
    config.times.frame_limit_ms = 200;
    let stand = Stand::with(config).await;
    let mut live = Phone::tuned(&stand, "alice", 1, Some(16 * 1024)).login(&stand).await;
    live.ping().await;
    live.line.send.write_all(&[0, 0, 0, 2]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // More than the client takes and than may wait for it, so nothing more is read.
    for seq in 1..=3 {
        stand.script.deliver_body("alice", None, seq, Bytes::from(vec![7; 60_000])).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    // A field that the server does not know.
    live.line.send.write_all(&[0x78, 0]).await.unwrap();
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn requests_of_a_client_that_does_not_read_go_on() {
    let stand = Stand::start().await;
    let mut live = Phone::tuned(&stand, "alice", 1, Some(16 * 1024)).login(&stand).await;
    live.line.ask_within(1, 60_000, Op::Sync(wire::Sync::default())).await;
    live.line.ask_within(2, 60_000, Op::History(wire::History::default())).await;
    until("both run", || stand.script.relayed.load(Ordering::SeqCst) == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stand.script.gate.add_permits(1);
    // The semaphore gives its permit to who waits first; it is used up only when that one goes on.
    until("the first has its turn", || stand.script.answered() == 2).await;
    let ids = [live.line.answer().await.id, live.line.answer().await.id];
    assert_eq!(ids, [2, 1]);
    stand.stop().await;
}

#[tokio::test]
async fn one_byte_at_a_time_is_cut_off_too() {
    let mut config = config();
    config.times.frame_limit_ms = 300;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut other = Phone::new(&stand, "bob", 2).login(&stand).await;
    live.line.send.write_all(&[0, 0, 4, 0]).await.unwrap();
    let began = Instant::now();
    while live.line.send.write_all(&[0]).await.is_ok() {
        other.ping().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(began.elapsed() < Duration::from_secs(10), "never cut off");
    }
    assert_eq!(closed(&live.connection).await, Code::Timeout);
    other.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_bulk_stream_that_does_not_end_its_frame_is_given_up_alone() {
    let mut config = config();
    config.times.frame_limit_ms = 200;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.send.write_all(&[0, 0, 0, 9]).await.unwrap();
    assert!(bulk.hear().await.is_none());
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn what_weighs_too_much_waits_and_is_not_lost() {
    let stand = Stand::start().await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    // 100 pages are far over what one session may have under way at a time.
    for id in 0..100 {
        live.line.ask_within(id, 60_000, Op::Sync(wire::Sync::default())).await;
    }
    live.line
        .ask_within(100, 60_000, Op::Send(wire::Send { body: Bytes::new(), ..Default::default() }))
        .await;
    let relayed = || stand.script.relayed.load(Ordering::SeqCst);
    until("some run", || relayed() > 10).await;
    assert!(relayed() < 60, "{}", relayed());
    stand.script.gate.add_permits(100);
    let mut ids = Vec::new();
    for _ in 0..=100 {
        ids.push(live.line.answer().await.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..=100).collect::<Vec<_>>());
    stand.stop().await;
}

#[tokio::test]
async fn what_waits_on_a_bulk_stream_is_bounded_by_what_it_occupies() {
    let stand = Stand::start().await;
    let live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let mut bulk = Line::new(live.connection.open_bi().await.unwrap());
    bulk.ask_within(1, 60_000, Op::Sync(wire::Sync::default())).await;
    until("the first runs", || stand.script.relayed.load(Ordering::SeqCst) == 1).await;
    // Small on the wire, a megabyte each in memory. Of the rest, no more leaves than fits the window of the stream.
    let heavy = |id| {
        let send = wire::Send { mentions: vec![String::new(); 20_000], ..Default::default() };
        let request = wire::Request { id, deadline_ms: 60_000, op: Some(Op::Send(send)) };
        frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(request)) })
    };
    let sent = AtomicUsize::new(0);
    let write = async {
        for id in 2..=12 {
            bulk.send.write_all(&heavy(id)).await.unwrap();
            sent.fetch_add(1, Ordering::SeqCst);
        }
    };
    {
        tokio::pin!(write);
        assert!(timeout(Duration::from_millis(500), &mut write).await.is_err(), "all of it was taken");
        assert!(sent.load(Ordering::SeqCst) < 8, "{sent:?}");
        stand.script.gate.add_permits(1);
        timeout(PATIENCE, write).await.unwrap();
    }
    for _ in 1..=12 {
        bulk.answer().await;
    }
    stand.stop().await;
}
