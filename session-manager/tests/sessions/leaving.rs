//! A node that is stopped: everybody is told, nobody is cut off in the middle, and nothing is left behind.

use std::time::Duration;

use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer::Result as Outcome, request::Op, server_frame};
use tokio::time::Instant;

use crate::phone::{Phone, closed, send};
use crate::stand::{PATIENCE, Stand, config, until};

#[tokio::test]
async fn a_drain_asks_every_client_to_leave_and_serves_it_meanwhile() {
    let mut config = config();
    config.times.drain_ms = 1_000;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.ask_within(1, 60_000, Op::Sync(wire::Sync::default())).await;
    live.ping().await;
    stand.begin_shutdown();
    let go_away = live.line.go_away().await;
    assert_eq!((go_away.code(), go_away.reconnect), (Code::Draining, true));
    assert!((500..=1_000).contains(&go_away.within_ms), "{}", go_away.within_ms);
    assert!(go_away.retry_after_ms <= 2_000);
    // What is in flight is finished, and more may be asked.
    assert!(matches!(live.request(2, send(b"while leaving")).await, Outcome::Receipt(_)));
    stand.script.gate.add_permits(1);
    assert!(matches!(live.line.answer().await, wire::Answer { id: 1, result: Some(Outcome::Batch(_)) }));
    until("the system knows", || stand.script.announced.lock().last().is_some_and(|n| n.draining)).await;
    // Whoever does not go is closed.
    assert_eq!(closed(&live.connection).await, Code::Draining);
    let began = Instant::now();
    stand.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_client_that_leaves_is_not_waited_for() {
    let mut config = config();
    config.times.drain_ms = 60_000;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.ping().await;
    stand.begin_shutdown();
    live.line.go_away().await;
    live.lose();
    tokio::time::timeout(PATIENCE, stand.stop()).await.expect("long before the drain is over");
}

#[tokio::test]
async fn newcomers_are_turned_away_while_it_drains() {
    let mut config = config();
    config.times.drain_ms = 2_000;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    // One that has shaken hands already and says hello only now.
    let late = Phone::new(&stand, "bob", 2);
    let connection = late.connect(&stand).await;
    live.ping().await;
    stand.begin_shutdown();
    live.line.go_away().await;
    let mut line = crate::phone::Line::new(connection.open_bi().await.unwrap());
    let token = wire::hello::Token::Ticket(late.ticket.clone());
    line.say(wire::client_frame::Kind::Hello(late.hello(&connection, token, 0))).await;
    let Some(server_frame::Kind::Refusal(refusal)) = line.hear().await else { panic!("not refused") };
    assert_eq!(refusal.code(), Code::Draining);
    live.lose();
    stand.stop().await;
}

#[tokio::test]
async fn a_storm_of_sessions_leaves_nothing_behind() {
    let mut config = config();
    config.times.resume_window_ms = 100;
    let stand = Stand::with(config).await;
    for round in 0..3 {
        let mut all = Vec::new();
        for n in 0..60u8 {
            let user = format!("user-{round}-{n}");
            let mut live = Phone::new(&stand, &user, n).login(&stand).await;
            live.line.ask_within(1, 60_000, Op::ListDevices(wire::ListDevices {})).await;
            live.ping().await;
            all.push(live);
        }
        assert_eq!(stand.script.sessions.lock().len(), 60);
        all.into_iter().for_each(crate::phone::Live::lose);
        let dropped = || stand.script.given_up.load(std::sync::atomic::Ordering::SeqCst);
        until("sessions and requests are released", || {
            stand.script.sessions.lock().is_empty() && dropped() == (round + 1) * 60
        })
        .await;
    }
    stand.stop().await;
}
