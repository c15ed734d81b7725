//! Silent clients at a real QUIC server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use buslane_shared::mark::Lane;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::storm::generator::Generator;
use crate::storm::live::Live;
use crate::storm::raw::test_server::TestServer;
use crate::storm::scenario::Port;
use crate::storm::stage::Place;
use crate::storm::timing::Timing;

const CLIENTS: u32 = 9;

/// Runs so many silent clients for 1.5 s, while `serve` does what it does.
async fn run_beside(server: &TestServer, serve: impl Future<Output = ()>) -> SilentOutcome {
    let stage = Stage {
        target: server.target.clone(),
        seed: 3,
        live: Arc::new(Live::default()),
        stop: CancellationToken::new(),
    };
    let goal = Goal { addr: server.addr, speaks: Speaks::Session, lane: Lane::Wake };
    let doors = vec![Door { goal, server_name: "localhost".to_owned() }];
    let silent = Silent { clients: CLIENTS, from_s: 0.0, for_s: 1.5, port: Port::Wake };
    let (go, timing) = tokio::sync::watch::channel(None);
    let work = move |cue| play(stage, silent, doors, cue);
    let mut generator = Generator::start("silent", Place::default(), timing, work).unwrap();
    generator.prepared().await.unwrap();
    let s = Duration::from_secs;
    go.send_replace(Some(Timing::new(Instant::now(), s(0), s(2), s(0))));
    tokio::select! {
        outcome = generator.finish() => outcome.unwrap(),
        () = serve => panic!("the server ended"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_holds_handshakes_that_never_end() {
    let server = TestServer::start(Duration::from_secs(30));
    let (begun, ended) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let outcome = run_beside(&server, async {
        while let Some(incoming) = server.endpoint.accept().await {
            begun.fetch_add(1, Ordering::Relaxed);
            let ended = ended.clone();
            tokio::spawn(async move {
                let connection = incoming.await.unwrap();
                ended.fetch_add(1, Ordering::Relaxed);
                // Nothing is ever said.
                assert!(connection.accept_bi().await.is_err());
            });
        }
    })
    .await;
    let all = u64::from(CLIENTS);
    let expected = SilentOutcome { opened: all, held: all, turned_away: 0, most_at_a_time: all };
    assert_eq!(outcome, expected);
    assert_eq!(begun.load(Ordering::Relaxed), all);
    assert_eq!(ended.load(Ordering::Relaxed), u64::from(CLIENTS / FINISHING_ONE_OF));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_them_away_holds_none() {
    let server = TestServer::start(Duration::from_secs(30));
    let outcome = run_beside(&server, async {
        while let Some(incoming) = server.endpoint.accept().await {
            incoming.refuse();
        }
    })
    .await;
    let half_open = u64::from(CLIENTS - CLIENTS / FINISHING_ONE_OF);
    // A refusal without a word of Buslane's is a failure to a client that speaks QUIC itself.
    let expected =
        SilentOutcome { opened: u64::from(CLIENTS), held: 0, turned_away: half_open, most_at_a_time: 0 };
    assert_eq!(outcome, expected);
}

#[test]
fn clients_are_spread_over_addresses() {
    for (clients, addresses) in [(0, 1), (1, 1), (16, 1), (17, 2), (2_000, 125), (1_000_000, 256)] {
        assert_eq!(addresses_for(clients), addresses, "{clients}");
    }
}
