//! What a posture does: advice for those who are here, slots for those who come by themselves, and nobody is sent away.

use std::time::Duration;

use buslane_chassis::clock::{random, unix_ms};
use buslane_shared::class::Class;
use buslane_shared::mark::{MARK_BYTES, Mark, NodeTag};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{
    self, AppState, Posture, answer::Result as Outcome, client_frame, event, hello::Token, request::Op,
    server_frame,
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::phone::{Line, Live, Phone, closed};
use crate::stand::{NODE, Stand, unmoved, until};

async fn told(live: &mut Live) -> wire::PostureChanged {
    loop {
        match live.line.hear().await {
            Some(server_frame::Kind::Event(wire::Event {
                kind: Some(event::Kind::Posture(changed)),
                ..
            })) => {
                return changed;
            }
            Some(_) => {}
            None => panic!("not told: {:?}", live.connection.close_reason()),
        }
    }
}

/// Says nothing for this long, in real time: the idle limit is kept with the clock that packets come by.
async fn stays_open(live: &Live, silent: Duration) {
    let closed = tokio::time::timeout(silent, live.connection.closed()).await;
    assert!(closed.is_err(), "closed after less than {silent:?}: {closed:?}");
}

#[tokio::test]
async fn a_live_session_hears_of_an_emergency_and_of_its_end_and_is_not_closed() {
    let mut config = unmoved();
    config.times.ping_interval_ms = 200;
    config.times.idle_limit_ms = 400;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let usual = live.welcome.advice.clone().unwrap();
    assert_eq!((usual.posture(), usual.ping_interval_ms, usual.idle_limit_ms), (Posture::Normal, 200, 400));
    assert_eq!((usual.receipt_batch_ms, usual.off.len()), (0, 0));
    let mut phone = Phone::new(&stand, "bob", 2).login(&stand).await;
    phone.app_state(AppState::Background).await;

    let ordered = Instant::now();
    stand.order_emergency();
    for session in [&mut live, &mut phone] {
        let in_background = session.welcome.user == "bob";
        if in_background {
            // Nobody looks at it: it hears when it says something, and had it heard before, it would not now.
            session.ping().await;
        }
        let changed = told(session).await;
        let advice = changed.advice.clone().unwrap();
        assert_eq!((changed.posture(), changed.ping_interval_ms), (Posture::Emergency, 800));
        assert_eq!(
            (advice.posture(), advice.idle_limit_ms, advice.receipt_batch_ms),
            (Posture::Emergency, 1_600, 2_000)
        );
    }
    let view = stand.overseer.posture();
    assert_eq!((view.posture, view.measured), (Posture::Emergency, Posture::Normal));
    assert!(view.order.is_some() && ordered.elapsed() < Duration::from_secs(5));

    // Silent for longer than usual, as they were told, also if others would be told less now.
    let mut settings = stand.tuner.overload();
    settings.posture.ping_factor = 1;
    stand.tuner.set_overload(settings).unwrap();
    stays_open(&live, Duration::from_millis(900)).await;
    let Outcome::Pong(pong) = live.request(1, Op::Ping(wire::Ping {})).await else { panic!("no pong") };
    assert_eq!(pong.posture(), Posture::Emergency);
    // The order ends; who was told to be silent is not taken for dead before he has heard it.
    stand.end_orders();
    stand.until_posture(Posture::Normal).await;
    assert_eq!(told(&mut live).await.posture(), Posture::Normal);
    phone.ping().await;
    assert_eq!(told(&mut phone).await.posture(), Posture::Normal);
    stays_open(&live, Duration::from_millis(600)).await;
    live.ping().await;
    phone.ping().await;
    stand.stop().await;
}

/// Whoever has much to say never pings.
#[tokio::test]
async fn in_the_background_whatever_is_said_is_answered_with_what_holds() {
    let mut config = unmoved();
    config.times.ping_interval_ms = 200;
    config.times.idle_limit_ms = 60_000;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.app_state(AppState::Background).await;
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;
    // Who only takes over what others write is told a ping later.
    let ordered = Instant::now();
    let changed = loop {
        live.line.say(client_frame::Kind::Seen(0)).await;
        if let Ok(changed) = tokio::time::timeout(Duration::from_millis(20), told(&mut live)).await {
            break changed;
        }
        assert!(ordered.elapsed() < Duration::from_secs(20), "not told");
    };
    assert_eq!(changed.posture(), Posture::Emergency);
    stand.end_orders();
    stand.until_posture(Posture::Normal).await;
    live.line.ask(7, Op::ListRooms(wire::ListRooms::default())).await;
    assert_eq!(told(&mut live).await.posture(), Posture::Normal);
    // Who is opened is told, though the change was long ago.
    let mut other = Phone::new(&stand, "bob", 2).login(&stand).await;
    other.app_state(AppState::Background).await;
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;
    other.app_state(AppState::Foreground).await;
    assert_eq!(told(&mut other).await.posture(), Posture::Emergency);
    stand.stop().await;
}

#[tokio::test]
async fn the_last_word_is_the_newest_also_after_a_connection_was_lost() {
    let stand = Stand::with(unmoved()).await;
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;
    let phone = Phone::new(&stand, "alice", 1);
    // The welcome has said it.
    let mut live = phone.login(&stand).await;
    let set = Op::SetAppState(wire::SetAppState { state: AppState::Background.into() });
    live.line.ask(1, set).await;
    assert_eq!(live.line.answer().await.id, 1);
    stand.end_orders();
    stand.until_posture(Posture::Normal).await;
    live.line.ask(2, Op::Ping(wire::Ping {})).await;
    assert_eq!(told(&mut live).await.posture(), Posture::Normal, "the first that it is told");
    // What is not seen is handed out again behind the welcome, which knows better.
    let token = live.welcome.resume.clone();
    live.lose();
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;
    let mut again = phone.resume(&stand, token, 0).await;
    assert!(again.welcome.resumed);
    assert_eq!(again.welcome.advice.clone().unwrap().posture(), Posture::Emergency);
    assert_eq!(told(&mut again).await.posture(), Posture::Normal);
    again.line.ask(1, Op::Ping(wire::Ping {})).await;
    assert_eq!(told(&mut again).await.posture(), Posture::Emergency);
    stand.stop().await;
}

#[tokio::test]
async fn in_an_emergency_who_comes_by_himself_gets_a_slot_and_returns_in_it() {
    let stand = Stand::with(unmoved()).await;
    let phone = Phone::new(&stand, "alice", 1);
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;

    // The hello says more than the first packet did: this is a new login.
    let (connection, refusal) = turned_away(&stand, &phone, Bytes::new()).await;
    assert_eq!((refusal.code(), refusal.class, refusal.posture()), (Code::Busy, 5, Posture::Emergency));
    assert!(refusal.retry_after_ms > 0 && refusal.retryable, "{refusal:?}");
    assert_eq!(refusal.slot.len(), MARK_BYTES);
    assert_eq!(closed(&connection).await, Code::Busy);

    // Slots as the node makes them, at times that do not depend on how busy this machine is.
    let (here, now_ms) = (NodeTag::of(NODE), unix_ms());
    // Each of another asker.
    let slot = |node, at_ms, n: u32| stand.mark(&Mark::slot(Class::Wake, node, at_ms, 100_000, n << 8));
    // Too early: it keeps its slot, and waits for the rest.
    let early = Bytes::copy_from_slice(&slot(here, now_ms + 250_000, 1));
    let (_, refusal) = turned_away(&stand, &phone, early.clone()).await;
    assert_eq!((refusal.code(), &refusal.slot), (Code::Busy, &early));
    assert!((1..=150_000).contains(&refusal.retry_after_ms), "{refusal:?}");
    // Too late: it gets another.
    let late = Bytes::copy_from_slice(&slot(here, now_ms - 110_000, 2));
    let (_, refusal) = turned_away(&stand, &phone, late.clone()).await;
    assert_eq!((refusal.code(), refusal.slot.len()), (Code::Busy, MARK_BYTES));
    assert_ne!(refusal.slot, late);
    let mine = slot(here, now_ms, 3);
    let mut forged = mine;
    forged[19] ^= 1;
    for (what, slot) in [
        ("of another node", slot(NodeTag::of("elsewhere"), now_ms, 4)),
        ("a pass", stand.mark(&Mark::pass(Class::Wake, now_ms, 5))),
        ("altered", forged),
    ] {
        let (_, bad) = turned_away(&stand, &phone, Bytes::copy_from_slice(&slot)).await;
        assert_eq!(bad.code(), Code::BadSlot, "{what}");
    }

    let connection = phone.connect_to(stand.wake, mine).await;
    let mut line = Line::new(connection.open_bi().await.unwrap());
    let mine = Bytes::copy_from_slice(&mine);
    let hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    line.say(client_frame::Kind::Hello(wire::Hello { slot: mine.clone(), ..hello })).await;
    let Some(server_frame::Kind::Welcome(welcome)) = line.hear().await else { panic!("not welcome") };
    assert_eq!(welcome.advice.unwrap().posture(), Posture::Emergency);
    let (_, again) = turned_away(&stand, &Phone::new(&stand, "bob", 2), mine).await;
    assert_eq!(again.code(), Code::BadSlot, "it was used in a first packet");
    // And one whose client cannot choose its connection ids.
    let other = Bytes::copy_from_slice(&slot(here, unix_ms(), 6));
    let connection = phone.connect_to(stand.wake, random()).await;
    let mut line = Line::new(connection.open_bi().await.unwrap());
    let hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    line.say(client_frame::Kind::Hello(wire::Hello { slot: other, ..hello })).await;
    assert!(matches!(line.hear().await, Some(server_frame::Kind::Welcome(_))));
    stand.stop().await;
}

/// A login at the wake port, without a mark, that comes to nothing.
async fn turned_away(stand: &Stand, phone: &Phone, slot: Bytes) -> (quinn::Connection, wire::Refusal) {
    let connection = phone.connect_to(stand.wake, random()).await;
    let mut line = Line::new(connection.open_bi().await.unwrap());
    let hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    let app_state = AppState::Background.into();
    line.say(client_frame::Kind::Hello(wire::Hello { slot, app_state, ..hello })).await;
    match line.hear().await {
        Some(server_frame::Kind::Refusal(refusal)) => (connection, refusal),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn in_an_emergency_sessions_go_on_and_people_come_in() {
    let mut stand = Stand::with(unmoved()).await;
    let front = stand.front;
    stand.front = stand.wake;
    let phone = Phone::new(&stand, "alice", 1);
    let live = phone.login(&stand).await;
    let token = live.welcome.resume.clone();
    let pass: [u8; MARK_BYTES] = live.welcome.passes.clone().unwrap().marks[0][..].try_into().unwrap();
    live.lose();
    stand.order_emergency();
    stand.until_posture(Posture::Emergency).await;
    let connection = phone.connect_to(stand.wake, pass).await;
    let mut line = Line::new(connection.open_bi().await.unwrap());
    line.say(client_frame::Kind::Hello(phone.hello(&connection, Token::Resume(token), 0))).await;
    let Some(server_frame::Kind::Welcome(welcome)) = line.hear().await else { panic!("not welcome") };
    assert!(welcome.resumed);
    stand.front = front;
    let mut person = Phone::new(&stand, "bob", 2).login(&stand).await;
    let passes = person.welcome.passes.clone().unwrap();
    assert!(!passes.marks.is_empty() && passes.valid_ms > 0);
    for mark in &passes.marks {
        let mark = stand.ring.marks().read_at(mark, NodeTag::of(NODE), unix_ms()).unwrap();
        assert_eq!((mark.class, mark.node), (Class::Look, Some(NodeTag::of(NODE))));
    }
    // The welcome's passes are fresh: an answer to a ping brings none.
    let Outcome::Pong(pong) = person.request(1, Op::Ping(wire::Ping {})).await else { panic!("no pong") };
    assert_eq!(pong.passes, None);
    stand.stop().await;
}

#[tokio::test]
async fn what_an_order_would_refuse_is_known_before_it_is_given() {
    let stand = Stand::with(unmoved()).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    live.line.say(client_frame::Kind::Request(wire::Request { id: 1, ..Default::default() })).await;
    live.line.answer().await;
    let mut id = 1;
    loop {
        id += 1;
        live.request(id, Op::DescribeRoom(wire::DescribeRoom::default())).await;
        live.ping().await;
        let rows = stand.overseer.would_refuse(Posture::Emergency);
        if let Some(open) = rows.iter().find(|row| row.protocol == "room.open" && row.offered > 0) {
            assert_eq!((open.class, open.refused_now, open.refused_then), ("C2", 0, 0));
            let ping = rows.iter().find(|row| row.protocol == "ping").unwrap();
            assert_eq!(ping.refused_then, 0, "pings are always answered");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("the lanes are shown", || stand.overseer.lanes().lanes.len() == 8).await;
    stand.stop().await;
}
