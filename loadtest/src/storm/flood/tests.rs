//! A flood against a real QUIC stack.

use std::sync::Arc;

use super::*;
use crate::storm::generator::Generator;
use crate::storm::live::Live;
use crate::storm::raw::test_server::TestServer;
use crate::storm::scenario::Port;
use crate::storm::stage::Place;

fn stage(server: &TestServer) -> Stage {
    Stage {
        target: server.target.clone(),
        seed: 3,
        live: Arc::new(Live::default()),
        stop: CancellationToken::new(),
    }
}

fn ports(server: &TestServer) -> Ports {
    Ports { gate: server.addr, front: server.addr, wake: server.addr }
}

fn flood(per_s_max: u32, for_s: f64) -> Flood {
    Flood { from_s: 0.0, for_s, per_s_max, port: Port::Wake, show: Shown::Random }
}

fn timing(storm: Duration) -> Timing {
    Timing::new(Instant::now(), Duration::ZERO, storm, Duration::from_secs(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_sees_as_many_clients_as_it_is_sent_packets() {
    let server = TestServer::start(Duration::from_secs(30));
    let (stage, ports) = (stage(&server), ports(&server));
    let (go, timing_of) = watch_of_timing();
    let work = move |cue| run(stage, flood(400, 0.5), ports, cue);
    let mut generator = Generator::start("flood", Place::default(), timing_of, work).unwrap();
    generator.prepared().await.unwrap();
    go.send_replace(Some(timing(Duration::from_millis(500))));
    // Each is answered in another way.
    let answering = async {
        let (mut seen, mut held) = (0u64, Vec::new());
        while let Some(incoming) = server.endpoint.accept().await {
            seen += 1;
            match seen % 4 {
                0 => incoming.refuse(),
                1 => incoming.retry().unwrap(),
                2 => incoming.ignore(),
                _ => held.push(incoming.accept().unwrap()),
            }
        }
        seen
    };
    let finish = async {
        let outcome = generator.finish().await.unwrap();
        server.endpoint.close(0u32.into(), b"");
        outcome
    };
    let (seen, outcome) = tokio::join!(answering, finish);
    let sent: u64 = outcome.packets_by_second().iter().sum();
    assert_eq!((sent, outcome.packets_by_second().len()), (seen, 2));
    assert!(sent > 0 && sent + outcome.not_sent <= 200, "{sent}");
    assert_eq!(outcome.bytes, sent * 1_200);
    let answers = outcome.answers;
    let each = sent / 4;
    assert!(answers.retry >= each && answers.close >= each && answers.handshake >= each, "{answers:?}");
    assert_eq!((answers.versions, answers.other), (0, 0));
    let amplification = outcome.amplification().unwrap();
    // This stack ends a datagram that it began within the limit of 3.
    assert!(amplification > 0.0 && amplification < 4.0, "{amplification}");
}

#[tokio::test]
async fn a_flood_without_end_ends_when_it_is_told() {
    let server = TestServer::start(Duration::from_secs(30));
    let (stage, ports) = (stage(&server), ports(&server));
    let stop = stage.stop.clone();
    let (go, timing_of) = watch_of_timing();
    let work = move |cue| run(stage, flood(0, 60.0), ports, cue);
    let mut generator = Generator::start("flood", Place::default(), timing_of, work).unwrap();
    generator.prepared().await.unwrap();
    go.send_replace(Some(timing(Duration::from_secs(60))));
    server.endpoint.accept().await.unwrap().ignore();
    stop.cancel();
    let outcome = generator.finish().await.unwrap();
    assert!(outcome.packets_by_second().iter().sum::<u64>() > 0);
    assert_eq!(outcome.not_sent, 0);
}

fn watch_of_timing()
-> (tokio::sync::watch::Sender<Option<Timing>>, tokio::sync::watch::Receiver<Option<Timing>>) {
    tokio::sync::watch::channel(None)
}
