//! What an operator sees of a node, and what he does to it: traffic, a user's sessions, refusals, ending a session, draining.

use std::time::Duration;

use buslane_chassis::clock::{random, unix_ms};
use buslane_chassis::oversee::{DrainWish, TrafficRow};
use buslane_shared::class::Class;
use buslane_shared::mark::Mark;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{
    self, AppState, Posture, answer::Result as Outcome, client_frame, hello::Token, request::Op, server_frame,
};
use quinn::ConnectionError;
use tokio::time::Instant;

use crate::phone::{Line, Live, Phone, closed, send};
use crate::stand::{NODE, Stand, config, unmoved, until};

fn row(stand: &Stand, protocol: &str, class: &str) -> Option<TrafficRow> {
    stand.overseer.traffic().rows.into_iter().find(|row| (row.protocol, row.class) == (protocol, class))
}

fn counts(stand: &Stand, protocol: &str, class: &str) -> (u64, u64, u64, u64) {
    row(stand, protocol, class).map_or((0, 0, 0, 0), |r| (r.offered, r.served, r.deferred, r.refused))
}

fn answered(stand: &Stand, class: &str) -> u64 {
    let latency = stand.overseer.traffic().latency;
    latency.iter().find(|row| row.class == class).map_or(0, |row| row.counts.iter().sum())
}

/// A login at the wake port, and the first word of the answer.
async fn wake(stand: &Stand, phone: &Phone) -> (quinn::Connection, Line, server_frame::Kind) {
    let connection = phone.connect_to(stand.wake, random()).await;
    let mut line = Line::new(connection.open_bi().await.unwrap());
    let hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    let app_state = AppState::Background.into();
    line.say(client_frame::Kind::Hello(wire::Hello { app_state, ..hello })).await;
    let answer = line.hear().await.expect("an answer");
    (connection, line, answer)
}

#[tokio::test]
async fn everything_that_is_asked_for_is_counted_with_what_became_of_it() {
    let stand = Stand::with(unmoved()).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    for id in 1..=3 {
        assert!(matches!(live.request(id, send(b"hello")).await, Outcome::Receipt(_)));
    }
    // That the request is wrong is an answer too.
    assert!(matches!(
        live.request(4, Op::CreateRoom(wire::CreateRoom::default())).await,
        Outcome::Refusal(_)
    ));
    live.ping().await;
    // Nobody wants this one any more, and that one takes too long.
    live.line.ask(5, Op::ListDevices(wire::ListDevices {})).await;
    live.line.say(client_frame::Kind::Cancel(5)).await;
    live.line.answer().await;
    live.line.ask_within(6, 50, Op::Sync(wire::Sync::default())).await;
    live.line.answer().await;
    assert_eq!(counts(&stand, "login", "C2"), (1, 1, 0, 0));
    assert_eq!(counts(&stand, "message.send", "C1"), (3, 3, 0, 0));
    assert_eq!(counts(&stand, "room.change", "C2"), (1, 1, 0, 0));
    assert_eq!(counts(&stand, "ping", "C6"), (1, 1, 0, 0));
    assert_eq!(counts(&stand, "account", "C2"), (1, 0, 0, 0));
    let late = row(&stand, "message.sync", "C2").unwrap();
    assert_eq!((late.refused, &late.reasons[..]), (1, &[("deadline", 1)][..]));
    assert_eq!((answered(&stand, "C1"), answered(&stand, "C2"), answered(&stand, "C6")), (3, 1, 1));
    stand.script.deliver("alice", None, 1).await;
    until("it is delivered", || counts(&stand, "delivery", "C1") == (1, 1, 0, 0)).await;
    // It continues its session: a login as well.
    live.lose();
    until("it waits", || !stand.overseer.sessions("alice")[0].connected).await;
    stand.stop().await;
}

#[tokio::test]
async fn who_is_put_off_is_counted_and_it_is_remembered_why() {
    let mut config = unmoved();
    config.overload.background.logins_per_s_max = 1;
    let stand = Stand::with(config).await;
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;
    let (_, _, answer) = wake(&stand, &Phone::new(&stand, "alice", 1)).await;
    let server_frame::Kind::Refusal(refusal) = answer else { panic!("let in: {answer:?}") };
    until("it is counted", || counts(&stand, "login", "C5") == (1, 0, 1, 0)).await;
    let told = stand.overseer.refusals("alice");
    let [why] = &told[..] else { panic!("one refusal: {told:?}") };
    assert_eq!((why.what, why.code, why.class, why.posture), ("hello", "busy", Some("C5"), "emergency"));
    assert_eq!(why.level, Some(refusal.level as u16));
    assert_eq!(why.retry_at_ms, Some(why.at_ms + u64::from(refusal.retry_after_ms)));
    assert_eq!(why.slot_at_ms, why.retry_at_ms);
    assert!(why.sentence.contains("A slot was kept for it"), "{}", why.sentence);
    assert!(stand.overseer.refusals("bob").is_empty());

    // Those who are put off before they have said who they are: one a second has its turn, the others do not.
    let before = row(&stand, "login", "C5").unwrap().deferred;
    let phone = Phone::new(&stand, "bob", 2);
    for n in 0..50 {
        if row(&stand, "login", "C5").unwrap().deferred > before {
            break;
        }
        let pass = stand.mark(&Mark::pass(Class::Wake, unix_ms(), n));
        // Nothing is said in the connections that come to be.
        let _ = phone.attempt(stand.wake, pass).await;
    }
    assert!(row(&stand, "login", "C5").unwrap().deferred > before, "nobody was put off");
    stand.stop().await;
}

#[tokio::test]
async fn who_has_lost_his_right_is_told_and_remembered() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let live = phone.login(&stand).await;
    stand.script.revoke("alice", phone.device, unix_ms() + 1_000);
    assert_eq!(closed(&live.connection).await, Code::Revoked);
    let (_, mut line) = phone.greet(&stand, Token::Ticket(phone.ticket.clone()), 0).await;
    assert!(matches!(line.hear().await, Some(server_frame::Kind::Refusal(r)) if r.code() == Code::Revoked));
    until("it is remembered", || stand.overseer.refusals("alice").iter().any(|why| why.code == "revoked"))
        .await;
    stand.stop().await;
}

#[tokio::test]
async fn the_sessions_of_a_user_are_shown_with_what_they_asked_for_last() {
    let stand = Stand::with(unmoved()).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let (connection, mut line, welcome) = wake(&stand, &Phone::new(&stand, "alice", 2)).await;
    assert!(matches!(welcome, server_frame::Kind::Welcome(_)));
    line.ask(1, send(b"by itself")).await;
    line.answer().await;
    for id in 1..=5 {
        live.request(id, send(b"hello")).await;
    }
    live.ping().await;
    live.request(6, Op::CreateRoom(wire::CreateRoom::default())).await;
    let mut sessions = stand.overseer.sessions("alice");
    sessions.sort_by_key(|session| session.port);
    let [front, background] = &sessions[..] else { panic!("two sessions: {sessions:?}") };
    assert_eq!(front.device, "01010101-0101-0101-0101-010101010101");
    assert_eq!((front.port, front.app_state, front.connected), ("front", "foreground", true));
    assert!(unix_ms().abs_diff(front.since_ms) < 60_000);
    let last: Vec<_> = front.last.iter().map(|r| (r.protocol, r.class, r.outcome)).collect();
    let message = ("message.send", "C1", "admitted");
    assert_eq!(last, [("room.change", "C2", "admitted"), message, message, message]);
    assert!(unix_ms().abs_diff(front.last[0].at_ms) < 60_000);
    assert_eq!((background.port, background.app_state), ("wake", "background"));
    let last: Vec<_> = background.last.iter().map(|r| (r.protocol, r.class, r.outcome)).collect();
    assert_eq!(last, [("message.send", "C5", "admitted")]);
    let node = stand.overseer.node();
    assert_eq!((node.name.as_str(), node.sessions_front, node.sessions_wake), (NODE, 1, 1));
    assert!(node.started_ms <= front.since_ms);

    live.lose();
    until("it waits for its client", || stand.overseer.node().sessions_front == 0).await;
    let waits =
        |device: &str| stand.overseer.sessions("alice").iter().any(|s| s.device == device && !s.connected);
    assert!(waits("01010101-0101-0101-0101-010101010101"));
    drop(connection);
    assert!(stand.overseer.sessions("nobody").is_empty());
    stand.stop().await;
}

#[tokio::test]
async fn an_operator_ends_a_session_and_its_client_may_come_back() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let mut live = phone.login(&stand).await;
    let mut other = Phone::new(&stand, "alice", 2).login(&stand).await;
    live.ping().await;
    for (user, device) in [("alice", "nonsense"), ("bob", &phone.device.to_string()), ("", "")] {
        assert!(!stand.overseer.disconnect(user, device), "{user} {device}");
    }
    assert!(stand.overseer.disconnect("alice", &"01".repeat(16)));
    let go_away = live.line.go_away().await;
    assert_eq!((go_away.code(), go_away.reconnect, go_away.within_ms), (Code::Disconnected, true, 0));
    assert!((5_000..=10_000).contains(&go_away.retry_after_ms), "{go_away:?}");
    assert_eq!(closed(&live.connection).await, Code::Disconnected);
    assert_eq!(stand.overseer.sessions("alice").len(), 1, "it does not wait for its client");
    assert!(!stand.overseer.disconnect("alice", &phone.device.to_string()), "it is gone");
    other.ping().await;
    let back = phone.resume(&stand, live.welcome.resume.clone(), 0).await;
    assert!(!back.welcome.resumed, "this is a new session");
    stand.stop().await;
}

async fn crowd(stand: &Stand, count: u8) -> Vec<Live> {
    let mut all = Vec::new();
    for n in 1..=count {
        let mut live = Phone::new(stand, &format!("user-{n}"), n).login(stand).await;
        live.ping().await;
        all.push(live);
    }
    all
}

fn announced_draining(stand: &Stand) -> bool {
    stand.script.announced.lock().last().is_some_and(|node| node.draining)
}

#[tokio::test]
async fn a_node_drains_at_a_rate_and_is_taken_back() {
    let mut config = config();
    config.times.drain_ms = 200;
    let stand = Stand::with(config).await;
    let mut all = crowd(&stand, 5).await;
    for per_s in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = stand.overseer.drain(DrainWish::Begin { per_s: Some(per_s) }).unwrap_err();
        assert!(error.contains("a second"), "{error}");
    }
    assert!(!stand.overseer.drain_state().draining);

    let began = Instant::now();
    stand.overseer.drain(DrainWish::Begin { per_s: Some(10.0) }).unwrap();
    let state = stand.overseer.drain_state();
    assert!(state.draining);
    assert_eq!((state.from_sessions, state.per_s), (5, Some(10.0)));
    until("the system knows", || announced_draining(&stand)).await;
    let newcomer = Phone::new(&stand, "late", 99);
    for addr in [stand.front, stand.wake] {
        let turned = newcomer.attempt(addr, if addr == stand.front { stand.pass() } else { random() }).await;
        assert!(matches!(turned, Err(ConnectionError::ConnectionClosed(_))), "{turned:?}");
    }
    for live in &mut all {
        let go_away = live.line.go_away().await;
        assert_eq!((go_away.code(), go_away.reconnect), (Code::Draining, true));
    }
    assert!(began.elapsed() >= Duration::from_millis(350), "five at ten a second: {:?}", began.elapsed());
    until("all have left", || stand.overseer.drain_state().sessions == 0).await;
    assert_eq!(stand.overseer.drain_state().asked, 5);
    assert!(row(&stand, "login", "C5").unwrap().reasons.contains(&("draining", 1)));

    stand.overseer.drain(DrainWish::End).unwrap();
    assert!(!stand.overseer.drain_state().draining);
    until("the system knows", || !announced_draining(&stand)).await;
    newcomer.login(&stand).await.ping().await;
    // Once more, and all of them at once.
    stand.overseer.drain(DrainWish::Begin { per_s: None }).unwrap();
    until("it has left", || stand.overseer.drain_state().sessions == 0).await;
    assert_eq!(stand.overseer.drain_state().from_sessions, 1);
    stand.stop().await;
}

#[tokio::test]
async fn who_was_not_asked_to_leave_when_it_is_taken_back_stays() {
    let stand = Stand::start().await;
    let mut all = crowd(&stand, 3).await;
    stand.overseer.drain(DrainWish::Begin { per_s: Some(0.1) }).unwrap();
    until("the system knows", || announced_draining(&stand)).await;
    stand.overseer.drain(DrainWish::End).unwrap();
    until("the system knows", || !announced_draining(&stand)).await;
    assert_eq!(stand.overseer.drain_state().asked, 0);
    for live in &mut all {
        live.ping().await;
    }
    // A node that is being stopped is not taken back.
    stand.begin_shutdown();
    until("it stops", || stand.overseer.drain_state().draining).await;
    for wish in [DrainWish::End, DrainWish::Begin { per_s: None }] {
        assert!(stand.overseer.drain(wish).unwrap_err().contains("being stopped"));
    }
    assert!(stand.overseer.drain_state().draining);
    drop(all);
    stand.stop().await;
}
