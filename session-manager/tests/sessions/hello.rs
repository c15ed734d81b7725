//! Who gets a session and who does not, and what each of them is told.

use std::time::Duration;

use buslane_chassis::clock::unix_ms;
use buslane_shared::frame::frame;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, client_frame, hello::Token, request::Op, server_frame};
use bytes::{Bytes, BytesMut};
use quinn::{ConnectionError, Endpoint};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::phone::{Line, Phone, client_config, closed, showing};
use crate::stand::{NODE, PATIENCE, Stand, config, until};

/// What a hello is answered with, and the code of the close.
async fn verdict(phone: &Phone, stand: &Stand, change: impl FnOnce(&mut wire::Hello)) -> (Code, Code) {
    let connection = phone.connect(stand).await;
    let mut hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    change(&mut hello);
    let mut line = Line::new(connection.open_bi().await.unwrap());
    line.say(client_frame::Kind::Hello(hello)).await;
    let told = told(&mut line).await;
    (told, closed(&connection).await)
}

async fn told(line: &mut Line) -> Code {
    match line.hear().await {
        Some(server_frame::Kind::Refusal(refusal)) => refusal.code(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_ticket_opens_a_session_at_both_ports() {
    let mut stand = Stand::start().await;
    let mut front = Phone::new(&stand, "alice", 1).login(&stand).await;
    assert_eq!((front.welcome.user.as_str(), front.welcome.resumed), ("alice", false));
    assert_eq!(front.welcome.device, Bytes::from_static(&[1; 16]));
    assert_eq!(front.welcome.limits.as_ref().unwrap().in_flight, 256);
    assert!(front.welcome.resume_valid_ms > 50_000 && front.welcome.resume_valid_ms <= 60_000);
    front.ping().await;
    stand.front = stand.wake;
    let mut wake = Phone::new(&stand, "alice", 2).login(&stand).await;
    wake.ping().await;
    front.ping().await;
    until("both are announced", || stand.script.knows("alice") == 2).await;
    stand.stop().await;
}

/// What makes a good hello a bad one.
type Change = Box<dyn FnOnce(&mut wire::Hello)>;

#[tokio::test]
async fn every_bad_hello_is_told_why_and_closed_with_the_same_code() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let body = wire::TicketBody {
        user: "alice".into(),
        device: Bytes::from_static(&[1; 16]),
        proof_key: phone.proof_key.clone(),
        issued_at_ms: unix_ms(),
        expires_ms: unix_ms() + 60_000,
        nodes: vec![NODE.into()],
        choice_version: 1,
        ..Default::default()
    };
    let ticket = |body: wire::TicketBody| Some(Token::Ticket(stand.seal(&body)));
    let expired = ticket(wire::TicketBody { expires_ms: unix_ms() - 1, ..body.clone() });
    let foreign = ticket(wire::TicketBody { nodes: vec!["elsewhere".into()], ..body.clone() });
    let (others, _) = stand.ticket("bob", 2);
    let table: [(Code, Change); 6] = [
        (Code::BadTicket, Box::new(|h| h.token = Some(Token::Ticket(Bytes::from_static(b"nonsense"))))),
        (Code::TicketExpired, Box::new(move |h| h.token = expired)),
        (Code::BadTicket, Box::new(move |h| h.token = foreign)),
        (Code::BadProof, Box::new(move |h| h.token = Some(Token::Ticket(others)))),
        (Code::BadProof, Box::new(|h| h.proof = Bytes::from_static(&[0; 32]))),
        (Code::BadVersion, Box::new(|h| h.version = 0)),
    ];
    for (code, change) in table {
        assert_eq!(verdict(&phone, &stand, change).await, (code, code));
    }
    phone.login(&stand).await.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_hello_that_was_overheard_is_worth_nothing_on_another_connection() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let connection = phone.connect(&stand).await;
    let overheard = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    let codes = verdict(&phone, &stand, |hello| *hello = overheard).await;
    assert_eq!(codes, (Code::BadProof, Code::BadProof));
    stand.stop().await;
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_is_refused() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let ping = wire::Request { id: 1, deadline_ms: 0, op: Some(Op::Ping(wire::Ping {})) };
    let another = frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(ping)) }).to_vec();
    let table: [(&str, Vec<u8>, bool, Code); 6] = [
        ("another frame", another, false, Code::HelloRequired),
        ("a frame of a later version", vec![0, 0, 0, 2, 0x78, 0], false, Code::HelloRequired),
        ("no protobuf", vec![0, 0, 0, 2, 0xff, 0xff], false, Code::Malformed),
        ("over the cap", 5_000u32.to_be_bytes().to_vec(), false, Code::TooLarge),
        ("half a frame", vec![0, 0, 0, 9, 1], true, Code::Malformed),
        ("nothing", vec![], true, Code::HelloRequired),
    ];
    for (what, bytes, finish, code) in table {
        let connection = phone.connect(&stand).await;
        let mut line = Line::new(connection.open_bi().await.unwrap());
        line.send.write_all(&bytes).await.unwrap();
        if finish {
            line.send.finish().unwrap();
        }
        assert_eq!(told(&mut line).await, code, "{what}");
        assert_eq!(closed(&connection).await, code, "{what}");
    }
    stand.stop().await;
}

#[tokio::test]
async fn another_alpn_is_no_session() {
    let stand = Stand::start().await;
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = showing(client_config(&stand.ca, b"buslane-gate/1", None), stand.pass());
    let connecting = endpoint.connect_with(config, stand.front, "localhost").unwrap();
    let error = timeout(PATIENCE, connecting).await.unwrap().unwrap_err();
    let ConnectionError::ConnectionClosed(close) = &error else { panic!("{error:?}") };
    assert_eq!(u64::from(close.error_code), 0x178, "no_application_protocol");
    stand.stop().await;
}

#[tokio::test]
async fn who_says_no_hello_in_time_is_cut_off() {
    let mut config = config();
    config.times.hello_limit_ms = 300;
    let stand = Stand::with(config).await;
    let phone = Phone::new(&stand, "alice", 1);

    let silent = phone.connect(&stand).await;
    assert_eq!(closed(&silent).await, Code::Timeout);

    // One byte at a time does not help either: the limit is for the whole hello.
    let connection = phone.connect(&stand).await;
    let hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    let bytes = frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) });
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write_all(&bytes[..1]).await.unwrap();
    let drip = tokio::spawn(async move {
        for byte in bytes.iter().skip(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if send.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(closed(&connection).await, Code::Timeout);
    drip.await.unwrap();
    drop(recv);
    stand.stop().await;
}

/// A handshake of which the server hears the first packet only, and whose answers nobody hears.
async fn half_open(stand: &Stand, endpoint: &Endpoint) -> UdpSocket {
    let ear = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = showing(client_config(&stand.ca, b"buslane/1", None), stand.pass());
    let connecting = endpoint.connect_with(config, ear.local_addr().unwrap(), "localhost").unwrap();
    let mut packet = [0; 2_000];
    let (len, _) = timeout(PATIENCE, ear.recv_from(&mut packet)).await.unwrap().unwrap();
    ear.send_to(&packet[..len], stand.front).await.unwrap();
    drop(connecting);
    ear
}

#[tokio::test]
async fn half_open_handshakes_disturb_nobody_and_are_cut_off() {
    let mut config = config();
    config.times.hello_limit_ms = 2_000;
    config.bounds.handshakes_max = 4;
    config.bounds.handshakes_per_address_max = 2;
    let stand = Stand::with(config).await;
    let mut live = Phone::new(&stand, "alice", 1).login(&stand).await;
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut ears = Vec::new();
    for _ in 0..20 {
        ears.push(half_open(&stand, &endpoint).await);
    }
    // The address has used up its share of those that are not validated; who can be reached there still gets in.
    let began = Instant::now();
    let retried = Phone::new(&stand, "bob", 2).login(&stand).await;
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waited for the strangers");
    live.ping().await;
    // Strangers that shook hands and say nothing.
    let silent = Phone::new(&stand, "mallory", 9).connect(&stand).await;
    assert_eq!(closed(&silent).await, Code::Timeout);
    drop((retried, ears));
    Phone::new(&stand, "carol", 3).login(&stand).await.ping().await;
    live.ping().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_stranger_has_one_stream_and_a_session_has_more() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let connection = phone.connect(&stand).await;
    let mut line = Line::new(connection.open_bi().await.unwrap());
    let second = timeout(Duration::from_millis(200), connection.open_bi()).await;
    assert!(second.is_err(), "a stranger opened a second stream");
    line.say(client_frame::Kind::Hello(phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0)))
        .await;
    assert!(matches!(line.hear().await, Some(server_frame::Kind::Welcome(_))));
    timeout(PATIENCE, connection.open_bi()).await.expect("the limit is raised live").unwrap();
    stand.stop().await;
}

#[tokio::test]
async fn requests_may_follow_the_hello_in_the_same_flight() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let connection = phone.connect(&stand).await;
    let mut bytes = BytesMut::new();
    let hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    bytes.extend(frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) }));
    for id in 1..=3 {
        let request = wire::Request { id, deadline_ms: 0, op: Some(crate::phone::send(b"early")) };
        bytes.extend(frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(request)) }));
    }
    let mut line = Line::new(connection.open_bi().await.unwrap());
    line.send.write_all(&bytes).await.unwrap();
    assert!(matches!(line.hear().await, Some(server_frame::Kind::Welcome(_))));
    for id in 1..=3 {
        assert_eq!(line.answer().await.id, id);
    }
    stand.stop().await;
}

#[tokio::test]
async fn requests_behind_a_refused_hello_are_never_run() {
    let stand = Stand::start().await;
    let phone = Phone::new(&stand, "alice", 1);
    let connection = phone.connect(&stand).await;
    let mut hello = phone.hello(&connection, Token::Ticket(phone.ticket.clone()), 0);
    hello.proof = Bytes::from_static(&[1; 32]);
    let mut bytes = frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) }).to_vec();
    let request = wire::Request { id: 1, deadline_ms: 0, op: Some(crate::phone::send(b"early")) };
    bytes.extend(frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(request)) }));
    let mut line = Line::new(connection.open_bi().await.unwrap());
    line.send.write_all(&bytes).await.unwrap();
    assert_eq!(told(&mut line).await, Code::BadProof);
    assert_eq!(closed(&connection).await, Code::BadProof);
    assert!(stand.script.sent.lock().is_empty());
    stand.stop().await;
}

#[tokio::test]
async fn a_full_node_says_when_to_come_back() {
    let mut config = config();
    config.bounds.sessions_max = 1;
    let stand = Stand::with(config).await;
    let mut first = Phone::new(&stand, "alice", 1).login(&stand).await;
    let second = Phone::new(&stand, "bob", 2);
    let (connection, mut line) = second.greet(&stand, Token::Ticket(second.ticket.clone()), 0).await;
    let Some(server_frame::Kind::Refusal(refusal)) = line.hear().await else { panic!("not refused") };
    assert_eq!((refusal.code(), refusal.retryable), (Code::Busy, true));
    assert!(refusal.retry_after_ms > 0);
    assert_eq!(closed(&connection).await, Code::Busy);
    first.ping().await;
    stand.stop().await;
}
