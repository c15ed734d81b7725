//! The door under pressure: strangers who never finish, wrong protocols, and closing time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use buslane_chassis::api::Backend;
use buslane_chassis::tls::{Authority, Identity};
use buslane_gateway::config::{Door, Enrolment};
use buslane_gateway::{BindError, Config, Gateway};
use buslane_shared::frame::frame;
use buslane_shared::limits::ALPN_SESSION;
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::stand::{Device, LIMIT, Stand, answer, refusal};

/// Longest time in which a handshake beside half-open ones must end. They live for three seconds: whoever had to wait for
/// one of them would take longer.
const PROMPT: Duration = Duration::from_secs(2);

async fn stand(door: Door) -> Stand {
    Stand::with(Config { enrolment: Enrolment::Open, door, ..Config::default() }).await
}

/// First packets of clients that will never send a second one.
async fn first_packets(stand: &Stand, count: usize) -> Vec<Vec<u8>> {
    let nowhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = stand.endpoint(Ipv4Addr::LOCALHOST);
    let mut packets = Vec::new();
    let mut buffer = [0; 2_048];
    for _ in 0..count {
        let connecting = endpoint.connect(nowhere.local_addr().unwrap(), "localhost").unwrap();
        let (len, _) = timeout(LIMIT, nowhere.recv_from(&mut buffer)).await.unwrap().unwrap();
        packets.push(buffer[..len].to_vec());
        drop(connecting);
        // The client says goodbye; that is not a first packet.
        let _ = timeout(Duration::from_millis(20), nowhere.recv_from(&mut buffer)).await;
    }
    packets
}

/// Sends `packet` from `from`, and keeps the socket, silent.
async fn knock(stand: &Stand, from: Ipv4Addr, packet: &[u8]) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((from, 0))).await.unwrap();
    socket.send_to(packet, stand.address).await.unwrap();
    socket
}

/// Whether the answer to a first packet is a Retry packet (RFC 9000, 17.2.5: long header, type 3).
async fn is_asked_again(socket: &UdpSocket) -> bool {
    let mut buffer = [0; 2_048];
    let len = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(len > 0);
    buffer[0] & 0xf0 == 0xf0
}

#[tokio::test]
async fn half_open_handshakes_of_many_addresses_leave_room_for_those_who_are_there() {
    let stand = stand(Door { handshakes_max: 8, ..Door::default() }).await;
    let alice = stand.enrol("alice").await;
    let packets = first_packets(&stand, 12).await;
    let began = Instant::now();
    let mut sockets = Vec::new();
    for (n, packet) in packets.iter().enumerate() {
        sockets.push(knock(&stand, Ipv4Addr::new(127, 0, 2, n as u8), packet).await);
    }
    // Four go ahead; from then on strangers are asked to show that they are there.
    for (n, socket) in sockets.iter().enumerate() {
        assert_eq!(is_asked_again(socket).await, n >= 4, "{n}");
    }
    for _ in 0..5 {
        assert!(stand.connect().await.enter(&alice).await.is_ok());
    }
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    stand.finish().await;
}

#[tokio::test]
async fn half_open_handshakes_of_one_address_lock_out_nobody_not_even_its_owner() {
    let stand = stand(Door { handshakes_per_address_max: 3, ..Door::default() }).await;
    let alice = stand.enrol("alice").await;
    let packets = first_packets(&stand, 10).await;
    let victim = Ipv4Addr::new(127, 0, 3, 1);
    let began = Instant::now();
    let mut sockets = Vec::new();
    for packet in &packets {
        sockets.push(knock(&stand, victim, packet).await);
    }
    for (n, socket) in sockets.iter().enumerate() {
        assert_eq!(is_asked_again(socket).await, n >= 3, "{n}");
    }
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    assert!(stand.connect_from(victim).await.enter(&alice).await.is_ok());
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    stand.finish().await;
}

#[tokio::test]
async fn a_full_house_is_silent_and_opens_again() {
    let stand = stand(Door { connections_max: 2, ..Door::default() }).await;
    let (first, second) = (stand.connect().await, stand.connect().await);
    // The gateway counts a connection when its own side of the handshake has ended, a moment after ours.
    let device = Device::new("alice");
    for client in [&first, &second] {
        assert!(client.enter(&device).await.is_err());
    }
    let endpoint = stand.endpoint(Ipv4Addr::LOCALHOST);
    let ignored = endpoint.connect(stand.address, "localhost").unwrap();
    assert!(timeout(Duration::from_millis(300), ignored).await.is_err());
    first.connection.close(0u32.into(), b"");
    stand.connect().await;
    drop(second);
    stand.finish().await;
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_is_told_to_go() {
    let stand = Stand::open().await;
    let client = stand.connect().await;
    assert_eq!(client.closed_with().await, Code::Idle);
    stand.finish().await;
}

#[tokio::test]
async fn another_protocol_is_refused_in_the_handshake() {
    let stand = Stand::open().await;
    for alpn in [ALPN_SESSION, b"h3".as_slice(), b"buslane-gate/2"] {
        let endpoint = stand.endpoint_with(Ipv4Addr::LOCALHOST, alpn, Default::default());
        let outcome = timeout(LIMIT, endpoint.connect(stand.address, "localhost").unwrap()).await.unwrap();
        match outcome.unwrap_err() {
            // RFC 9001, 4.8: 0x100 and the TLS alert no_application_protocol (120).
            quinn::ConnectionError::ConnectionClosed(close) => {
                assert_eq!(u64::from(close.error_code), 0x178, "{close}");
            }
            other => panic!("{other}"),
        }
    }
    stand.finish().await;
}

#[tokio::test]
async fn closing_time_does_not_wait_for_half_open_handshakes() {
    let stand = Stand::open().await;
    let packets = first_packets(&stand, 3).await;
    for packet in &packets {
        let socket = knock(&stand, Ipv4Addr::LOCALHOST, packet).await;
        assert!(!is_asked_again(&socket).await);
    }
    let began = Instant::now();
    stand.finish().await;
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn at_closing_time_requests_are_finished_and_connections_are_told() {
    let stand = Stand::open().await;
    let idle = stand.connect().await;
    let busy = stand.connect().await;
    *stand.backend.stall.lock() = true;
    let enrol = busy.enrolment(&Device::new("alice"), wire::enrol::Right::Open(true));
    let request =
        wire::GateRequest { version: 1, deadline_ms: 500, op: Some(wire::gate_request::Op::Enrol(enrol)) };
    let (mut send, recv) = busy.connection.open_bi().await.unwrap();
    send.write_all(&frame(&request)).await.unwrap();
    send.finish().unwrap();
    timeout(LIMIT, async {
        while stand.backend.asked.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    stand.shutdown.begin();
    assert_eq!(idle.closed_with().await, Code::Draining);
    assert_eq!(refusal(answer(recv).await).code(), Code::Deadline, "it has its answer");
    assert_eq!(busy.closed_with().await, Code::Draining);
    stand.finish().await;
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_key_set_that_is_not_there_are_named() {
    let stand = Stand::open().await;
    let authority = Authority::generate().unwrap();
    let pem = authority.issue("localhost", &[]).unwrap();
    let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
    let bind = |config: Config| {
        let backend: Backend = stand.backend.clone();
        Gateway::bind(config, &identity, backend, stand.feed.clone(), &stand.shutdown).err().unwrap()
    };
    let taken = SocketAddr::from((Ipv4Addr::UNSPECIFIED, stand.address.port()));
    let error = bind(Config { listen: taken, ..Config::default() });
    assert!(matches!(&error, BindError::Endpoint(e) if e.is_port_taken()), "{error}");
    assert!(error.to_string().contains(&taken.to_string()));

    let jwt = serde_json::json!({ "issuer": "i", "audience": ["a"], "jwks_file": "/nowhere/keys.json" });
    let jwt = serde_json::from_value(jwt).unwrap();
    let error = bind(Config { jwt: Some(jwt), listen: (Ipv4Addr::LOCALHOST, 0).into(), ..Config::default() });
    assert!(error.to_string().contains("/nowhere/keys.json"), "{error}");
    stand.finish().await;
}
