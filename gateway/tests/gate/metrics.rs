//! What an operator sees of a gateway, and that nothing stays behind.

use std::net::Ipv4Addr;

use buslane_shared::wire;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::stand::{LIMIT, Stand};

/// The value of one line of the metrics' text; 0 if it is not there.
fn value(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|l| l.strip_prefix(line).filter(|rest| rest.starts_with(' ')));
    found.map_or(0.0, |rest| rest.trim().parse().unwrap())
}

// All of the gateway runs on the thread of the test, which has a recorder of its own: other gateways do not count.
#[tokio::test(flavor = "current_thread")]
async fn what_happens_is_counted_and_what_is_over_is_gone() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    for _ in 0..3 {
        client.enter(&alice).await.unwrap();
    }
    let forged = wire::Enter { proof: vec![1; 64].into(), ..client.entry(&alice) };
    client.enter_as(forged).await.unwrap_err();
    assert!(client.exchange(&[0xff; 4]).await.is_some());

    // A handshake that never ends: a first packet that its sender never follows up.
    let nowhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = stand.endpoint(Ipv4Addr::LOCALHOST);
    let _connecting = endpoint.connect(nowhere.local_addr().unwrap(), "localhost").unwrap();
    let mut packet = [0; 2_048];
    let (len, _) = timeout(LIMIT, nowhere.recv_from(&mut packet)).await.unwrap().unwrap();
    nowhere.send_to(&packet[..len], stand.address).await.unwrap();
    let until = async |line: &str, expected: f64| {
        timeout(LIMIT, async {
            while value(&metrics.render(), line) != expected {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{line} never became {expected}:\n{}", metrics.render()));
    };
    until("buslane_gateway_handshakes_in_flight", 1.0).await;

    let text = metrics.render();
    let expected = [
        (r#"buslane_gateway_granted_total{op="enrol"}"#, 1.0),
        (r#"buslane_gateway_granted_total{op="enter"}"#, 3.0),
        (r#"buslane_gateway_refusals_total{op="enter",code="bad_proof"}"#, 1.0),
        (r#"buslane_gateway_refusals_total{op="none",code="too_large"}"#, 1.0),
        (r#"buslane_gateway_request_seconds_count{op="enter"}"#, 4.0),
        ("buslane_gateway_handshake_seconds_count", 2.0),
    ];
    for (line, count) in expected {
        assert_eq!(value(&text, line), count, "{line} in\n{text}");
    }
    assert!(!text.contains("alice") && !text.contains("127.0.0.1"), "nobody is named");

    until("buslane_gateway_handshakes_in_flight", 0.0).await;
    until(r#"buslane_gateway_handshakes_lost_total{why="timeout"}"#, 1.0).await;
    until("buslane_gateway_connections", 0.0).await;
    stand.finish().await;
}
