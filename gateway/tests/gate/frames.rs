//! Bytes that are not what the protocol says: each is refused by name, and nobody else notices.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use buslane_gateway::Config;
use buslane_gateway::config::{Enrolment, Limits, Rate};
use buslane_shared::frame::frame;
use buslane_shared::limits::{ALPN_GATE, FRAME_BYTES_MAX_BEFORE_HELLO};
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use tokio::time::timeout;

use crate::stand::{Client, Device, LIMIT, Stand, answer, refusal};

fn request(op: Option<wire::gate_request::Op>) -> wire::GateRequest {
    wire::GateRequest { version: 1, deadline_ms: 0, op }
}

fn good(client: &Client, device: &Device) -> Vec<u8> {
    frame(&request(Some(wire::gate_request::Op::Enter(client.entry(device))))).to_vec()
}

#[tokio::test]
async fn bytes_that_make_no_sense_are_named_and_end_the_connection() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let whole = good(&stand.connect().await, &alice);
    let rows: [(&str, Vec<u8>, Code); 7] = [
        ("nothing", vec![], Code::Malformed),
        ("half a length", vec![0, 0], Code::Malformed),
        ("half a frame", whole[..whole.len() / 2].to_vec(), Code::Malformed),
        ("no protobuf", vec![0, 0, 0, 3, 0xff, 0xff, 0xff], Code::Malformed),
        ("two frames", [whole.as_slice(), whole.as_slice()].concat(), Code::Malformed),
        ("a length without end", vec![0xff; 4], Code::TooLarge),
        (
            "one byte over the limit",
            [
                &(FRAME_BYTES_MAX_BEFORE_HELLO as u32 + 1).to_be_bytes()[..],
                &vec![0; FRAME_BYTES_MAX_BEFORE_HELLO + 1],
            ]
            .concat(),
            Code::TooLarge,
        ),
    ];
    for (what, bytes, expected) in rows {
        let client = stand.connect().await;
        let refused = refusal(client.exchange(&bytes).await);
        assert_eq!(refused.code(), expected, "{what}");
        assert!(!refused.detail.is_empty());
        assert_eq!(client.closed_with().await, expected, "{what}");
    }
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn what_is_only_unknown_is_refused_or_skipped_and_the_connection_goes_on() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    assert_eq!(refusal(client.exchange(&frame(&request(None))).await).code(), Code::Unsupported);
    // Field 99, a request of a later version: 99 << 3 | 2 = 794 as a varint, then an empty message.
    let later = [&6u32.to_be_bytes()[..], &[0x08, 1, 0x9a, 0x06, 1, 0]].concat();
    assert_eq!(refusal(client.exchange(&later).await).code(), Code::Unsupported);
    let ancient = wire::GateRequest { version: 0, ..request(None) };
    assert_eq!(refusal(client.exchange(&frame(&ancient)).await).code(), Code::BadVersion);
    // A later minor version with a field that is unknown here, behind an ordinary request.
    let mut bytes = good(&client, &alice)[4..].to_vec();
    bytes.extend([0x9a, 0x06, 1, 7]);
    let framed = [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
    assert!(matches!(client.exchange(&framed).await, Some(wire::gate_answer::Result::Ticket(_))));
    stand.finish().await;
}

#[tokio::test]
async fn a_byte_at_a_time_is_slow_and_not_wrong() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    let (mut send, recv) = client.connection.open_bi().await.unwrap();
    for byte in good(&client, &alice) {
        send.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    // It is answered although the client has not ended its side, and may still end it.
    assert!(matches!(answer(recv).await, Some(wire::gate_answer::Result::Ticket(_))));
    assert!(send.finish().is_ok());
    assert!(client.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_is_ended_and_holds_nobody_up() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let stuck = stand.connect().await;
    let (mut send, recv) = stuck.connection.open_bi().await.unwrap();
    send.write_all(&good(&stuck, &alice)[..20]).await.unwrap();
    let began = Instant::now();
    for _ in 0..5 {
        assert!(stand.connect().await.enter(&alice).await.is_ok());
    }
    assert!(stuck.enter(&alice).await.is_ok(), "not even its own other streams");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(refusal(answer(recv).await).code(), Code::Timeout);
    assert_eq!(stuck.closed_with().await, Code::Timeout);
    stand.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_answer_and_nothing_is_kept_for_it() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(16u32.into());
    let endpoint = stand.endpoint_with(Ipv4Addr::LOCALHOST, ALPN_GATE, transport);
    let deaf = stand.connect_by(endpoint).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (mut send, recv) = deaf.connection.open_bi().await.unwrap();
        send.write_all(&good(&deaf, &alice)).await.unwrap();
        send.finish().unwrap();
        answers.push(recv);
    }
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    for mut recv in answers {
        // Sixteen bytes of each answer fit; the rest is given up.
        let given_up = timeout(LIMIT, recv.received_reset()).await.expect("it is kept for ever");
        assert!(given_up.unwrap().is_some());
    }
    stand.finish().await;
}

#[tokio::test]
async fn a_stream_that_is_reset_takes_nothing_with_it() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    for _ in 0..20 {
        let (mut send, recv) = timeout(LIMIT, client.connection.open_bi()).await.unwrap().unwrap();
        send.write_all(&[0, 0, 0, 100, 1]).await.unwrap();
        send.reset(0u32.into()).unwrap();
        drop(recv);
    }
    assert!(client.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn requests_of_one_connection_run_side_by_side_a_few_at_a_time() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    let all = futures_util::future::join_all((0..12).map(|_| client.enter(&alice))).await;
    assert!(all.iter().all(Result::is_ok));

    *stand.backend.stall.lock() = true;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (mut send, recv) = client.connection.open_bi().await.unwrap();
        let enrol = client.enrolment(&Device::new("bob"), wire::enrol::Right::Open(true));
        send.write_all(&frame(&request(Some(wire::gate_request::Op::Enrol(enrol))))).await.unwrap();
        send.finish().unwrap();
        open.push(recv);
    }
    timeout(LIMIT, async {
        while stand.backend.asked.lock().len() < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let mut fifth = Box::pin(client.connection.open_bi());
    assert!(futures_util::poll!(fifth.as_mut()).is_pending(), "a fifth request waits at the client");
    drop(open);
    stand.finish().await;
}

#[tokio::test]
async fn random_bytes_are_always_answered() {
    let patient = Rate { burst: 100_000, per_minute: 100_000 };
    let limits = Limits { failures: patient, address: patient, ..Limits::default() };
    let stand = Stand::with(Config { enrolment: Enrolment::Open, limits, ..Config::default() }).await;
    let alice = stand.enrol("alice").await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..150 {
        let client = stand.connect().await;
        // Half of the rounds damage a good request, the others are noise behind a plausible length.
        let bytes = if round % 2 == 0 {
            let mut bytes = good(&client, &alice);
            for _ in 0..=random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes
        } else {
            let len = random() as usize % 300;
            let noise = (0..len).map(|_| random() as u8);
            (len as u32).to_be_bytes().into_iter().chain(noise).collect()
        };
        assert!(client.exchange(&bytes).await.is_some(), "round {round}");
    }
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    stand.finish().await;
}
