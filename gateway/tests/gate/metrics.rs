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

/// Set in the process that runs this test alone.
const ALONE: &str = "BUSLANE_TEST_ALONE";

/// The recorder is that of the whole process, because a gateway has threads of its own; so that gateways of other tests do not count, the
/// test runs in a process of its own, whatever runs it.
#[test]
fn what_happens_is_counted_and_what_is_over_is_gone() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(counted());
    }
    let name = "metrics::what_happens_is_counted_and_what_is_over_is_gone";
    let program = std::env::current_exe().unwrap();
    let ran = std::process::Command::new(program).args(["--exact", name]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

async fn counted() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
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
