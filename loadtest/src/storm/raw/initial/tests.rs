//! Packets as a real QUIC server takes them.

use super::*;
use crate::storm::raw::answer::{self, Kind};
use crate::storm::raw::test_server::TestServer;
use tokio::net::UdpSocket;
use tokio::time::{Duration, timeout};

const LIMIT: Duration = Duration::from_secs(10);

async fn answer_to(socket: &UdpSocket, own_id: [u8; OWN_ID_BYTES]) -> Kind {
    let mut buffer = [0; 2_048];
    loop {
        let length = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
        let datagram = &buffer[..length];
        if answer::recipient(datagram) == Some(own_id) {
            return answer::kind(datagram);
        }
    }
}

#[tokio::test]
async fn a_server_answers_as_it_would_answer_any_client() {
    let server = TestServer::start(Duration::from_secs(30));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.addr).await.unwrap();
    let beginner = Beginner::new(Speaks::Session, "localhost").unwrap();
    let mut random = Random::new(7, 0);
    let mut n = 0;
    for kind in [Kind::Handshake, Kind::Retry, Kind::Close] {
        for length in [8, 13, 20] {
            n += 1;
            let own_id = [n; OWN_ID_BYTES];
            let id = random_bytes(&mut random, length);
            socket.send(&beginner.begin(own_id).unwrap().packet(&id).unwrap()).await.unwrap();
            let incoming = server.endpoint.accept().await.unwrap();
            assert_eq!(incoming.orig_dst_cid().as_ref(), id);
            // Held until the answer is here.
            let _connecting = match kind {
                Kind::Retry => incoming.retry().map(|()| None).unwrap(),
                Kind::Close => {
                    incoming.refuse();
                    None
                }
                _ => Some(incoming.accept().unwrap()),
            };
            assert_eq!(answer_to(&socket, own_id).await, kind);
        }
    }
}

#[tokio::test]
async fn one_hello_serves_many_packets_and_the_wrong_protocol_is_refused() {
    let server = TestServer::start(Duration::from_secs(30));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.addr).await.unwrap();
    let hello = Beginner::new(Speaks::Session, "localhost").unwrap().begin([3; OWN_ID_BYTES]).unwrap();
    let mut held = Vec::new();
    for n in 0..5u8 {
        socket.send(&hello.packet(&[n; 20]).unwrap()).await.unwrap();
        held.push(server.endpoint.accept().await.unwrap().accept().unwrap());
        assert_eq!(answer_to(&socket, hello.own_id).await, Kind::Handshake);
    }
    // The ClientHello is read and understood: this server does not speak the gate protocol.
    let gate = Beginner::new(Speaks::Gate, "localhost").unwrap().begin([4; OWN_ID_BYTES]).unwrap();
    socket.send(&gate.packet(&[9; 20]).unwrap()).await.unwrap();
    let refused = server.endpoint.accept().await.unwrap().await.unwrap_err().to_string();
    assert!(refused.contains("known protocol"), "{refused}");
}

#[test]
fn ids_are_of_all_lengths_and_reproducible() {
    let ids = |seed| {
        let mut random = Random::new(seed, 1);
        (0..200).map(|_| random_id(&mut random)).collect::<Vec<_>>()
    };
    assert_eq!(ids(1), ids(1));
    assert_ne!(ids(1), ids(2));
    let lengths: std::collections::BTreeSet<usize> = ids(1).iter().map(Vec::len).collect();
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), ID_BYTES.collect::<Vec<_>>());
}

#[test]
fn what_does_not_fit_is_no_packet() {
    let hello = Beginner::new(Speaks::Gate, "gate.example").unwrap().begin([1; OWN_ID_BYTES]).unwrap();
    assert!(hello.packet(&[0; 21]).is_err());
    let too_long = Hello { crypto: vec![0; PACKET_BYTES], ..hello };
    assert!(too_long.packet(&[0; 8]).is_err());
    assert!(Beginner::new(Speaks::Gate, "no name").is_err());
}
