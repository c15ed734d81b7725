//! Processes that ask each other over real HTTP.

use buslane_chassis::admin::tls::{AdminTls, Settings};
use buslane_chassis::tls::Authority;
use buslane_shared::wire::Posture;
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::testing::{Role, World, until};

async fn state_of(world: &World, node: &str) -> Option<State> {
    world.seat.nodes().into_iter().find(|view| view.node == node).map(|view| view.state)
}

#[tokio::test]
async fn peers_are_known_by_their_own_word() {
    let sm1 = World::begin("sm1", &[]).await;
    let gate = World::begin_as(Role::Gateway, "gate", &[&sm1]).await;
    until("sm1 is up", async || state_of(&gate, "sm1").await == Some(State::Up)).await;
    *sm1.puppet().posture.lock() = Posture::Guard;
    until("its posture is known", async || {
        gate.seat.nodes().iter().any(|view| view.posture.as_deref() == Some("guard"))
    })
    .await;
    let nodes = gate.seat.nodes();
    let names: Vec<&str> = nodes.iter().map(|view| view.node.as_str()).collect();
    assert_eq!(names, ["gate", "sm1"]);
    let sm1_view = &nodes[1];
    assert_eq!(
        (sm1_view.sessions, sm1_view.role.as_str(), sm1_view.here),
        (Some(5), "session-manager", false)
    );
    assert!(sm1_view.clock_skew_ms.unwrap().abs() < 1_000, "{sm1_view:?}");
    assert!(sm1_view.age_ms.unwrap() < 5_000);
    assert_eq!(gate.seat.peers.named("sm1"), Some(sm1.addr));
    gate.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn nobody_is_up_who_does_not_answer_or_cannot_be_asked() {
    // A port that was free a moment ago.
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let other = World::begin("sm1", &[]).await;
    let without_token = Config { peers: vec![gone, other.addr], ..Config::default() };
    let lonely = World::begin_with(Role::Manager, "sm2", without_token).await;
    let why = |world: &World, at: SocketAddr| {
        let view = world.seat.peers.views().into_iter().find(|view| view.node == at.to_string());
        view.and_then(|view| view.why.filter(|_| view.state == State::Unknown)).unwrap_or_default()
    };
    until("it says what is missing", async || why(&lonely, other.addr).contains("peer_token")).await;
    lonely.end().await;

    let with_token = Config {
        peers: vec![gone],
        peer_token: Some(other.dir.path().join("admin.token")),
        ..Config::default()
    };
    let asking = World::begin_with(Role::Manager, "sm3", with_token).await;
    until("it says that nobody is there", async || why(&asking, gone).contains("refused")).await;
    asking.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_wrong_token_is_told_and_a_right_one_is_taken_without_a_restart() {
    let sm1 = World::begin("sm1", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("peer.token");
    std::fs::write(&file, "0".repeat(64)).unwrap();
    let config = Config { peers: vec![sm1.addr], peer_token: Some(file.clone()), ..Config::default() };
    let sm2 = World::begin_with(Role::Manager, "sm2", config).await;
    until("the failure is told", async || sm2.seat.peers.views()[0].why.is_some()).await;
    std::fs::write(&file, &sm1.token).unwrap();
    until("it is let in", async || state_of(&sm2, "sm1").await == Some(State::Up)).await;
    sm2.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn a_peer_behind_tls_is_asked_over_tls_and_believed_only_by_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let authority = Authority::generate().unwrap();
    let pem = authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (file("admin.pem", &pem.certificate), file("admin.key", &pem.key));
    let tls = AdminTls::load(Settings { certificate, key, client_ca: None }).unwrap();
    let sm1 = World::begin_behind(Some(tls), Role::Manager, "sm1", Config::default()).await;
    let knowing = |ca: Option<std::path::PathBuf>| Config {
        peers: vec![sm1.addr],
        peer_token: Some(sm1.dir.path().join("admin.token")),
        peer_ca: ca,
        ..Config::default()
    };
    let ca = file("ca.pem", authority.certificate());
    let sm2 = World::begin_with(Role::Manager, "sm2", knowing(Some(ca))).await;
    until("it is known", async || state_of(&sm2, "sm1").await == Some(State::Up)).await;
    let stranger = file("other.pem", Authority::generate().unwrap().certificate());
    for (name, ca) in [("sm3", Some(stranger)), ("sm4", None)] {
        let other = World::begin_with(Role::Manager, name, knowing(ca)).await;
        until("it says why", async || {
            let view = other.seat.peers.views().remove(0);
            view.state == State::Unknown && view.why.is_some_and(|why| why.contains("cannot be reached"))
        })
        .await;
        other.end().await;
    }
    // Another authority, without a restart.
    let later = file("later.pem", Authority::generate().unwrap().certificate());
    let sm5 = World::begin_with(Role::Manager, "sm5", knowing(Some(later.clone()))).await;
    until("it is not believed", async || sm5.seat.peers.views()[0].why.is_some()).await;
    std::fs::write(&later, "nothing").unwrap();
    assert!(sm5.seat.peers.reload().is_err(), "everything stays as it is");
    std::fs::write(&later, authority.certificate()).unwrap();
    assert!(sm5.seat.peers.reload().unwrap());
    until("it is believed now", async || state_of(&sm5, "sm1").await == Some(State::Up)).await;
    sm5.end().await;
    let missing = Config { peer_ca: Some(dir.path().join("none.pem")), ..Config::default() };
    assert!(Peers::open(&missing).err().unwrap().to_string().starts_with("peer_ca: "));
    sm2.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn an_order_reaches_the_peers_without_the_backend() {
    let sm1 = World::begin("sm1", &[]).await;
    let sm2 = World::begin("sm2", &[&sm1]).await;
    until("they know each other", async || state_of(&sm2, "sm1").await == Some(State::Up)).await;
    let order = json!({"kind": "emergency", "reason": "a drill", "author": "kim", "duration_ms": 60_000});
    let given = sm2.post("/v1/orders", order).await;
    assert_eq!((&given["effective"]["nodes"], &given["effective"]["of"]), (&json!(2), &json!(2)), "{given}");
    let shown = sm1.get("/v1/posture").await;
    assert_eq!(shown["posture"], "emergency");
    assert_eq!(shown["order"]["author"], "kim");
    assert!(sm1.actions().contains(&"order.handed_over".to_owned()));
    sm2.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn a_peer_that_takes_no_orders_is_asked_all_the_same_and_says_why() {
    let sm1 = World::begin("sm1", &[]).await;
    let viewer = sm1.post("/v1/tokens", json!({"name": "sm2", "role": "viewer", "reason": "a test"})).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("peer.token");
    std::fs::write(&file, viewer["token"].as_str().unwrap()).unwrap();
    let config = Config { peers: vec![sm1.addr], peer_token: Some(file), ..Config::default() };
    let sm2 = World::begin_with(Role::Manager, "sm2", config).await;
    until("it is up", async || state_of(&sm2, "sm1").await == Some(State::Up)).await;
    let order = json!({"kind": "emergency", "reason": "a drill", "duration_ms": 60_000});
    let given = sm2.post("/v1/orders", order).await;
    assert_eq!((&given["effective"]["nodes"], &given["effective"]["of"]), (&json!(1), &json!(2)), "{given}");
    until("it says why", async || {
        let view = &sm2.seat.peers.views()[0];
        view.state == State::Warning && view.why.as_ref().is_some_and(|why| why.contains("operator"))
    })
    .await;
    sm2.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn what_a_peer_does_is_told_here_once() {
    let sm1 = World::begin("sm1", &[]).await;
    let sm2 = World::begin("sm2", &[&sm1]).await;
    let mut heard = sm2.seat.news.listen();
    until("they know each other", async || state_of(&sm2, "sm1").await == Some(State::Up)).await;
    sm1.post("/v1/marks", json!({"mark": "deploy", "text": "chat 4.2"})).await;
    *sm1.puppet().posture.lock() = Posture::Emergency;
    let mut told = Vec::new();
    until("both are told", async || {
        while let Ok(happening) = heard.try_recv() {
            told.extend(Some(happening).filter(|happening| happening.node == "sm1"));
        }
        told.len() >= 2
    })
    .await;
    let kinds: Vec<String> =
        told.iter().map(|happening| serde_json::to_value(happening).unwrap()["kind"].to_string()).collect();
    assert_eq!(kinds, ["\"mark\"", "\"posture\""]);
    let kept = sm2.seat.history.happenings(0);
    assert_eq!(kept.iter().filter(|happening| happening.node == "sm1").count(), 2);
    sm2.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn a_process_does_not_take_itself_for_another() {
    // One list of peers in all configurations, this process included: its address is known before it listens only where a
    // test asks for it, so a forwarder stands in.
    let sm1 = World::begin("sm1", &[]).await;
    let report =
        Report { view: sm1.seat.here(), now_ms: clock::unix_ms(), happenings: Vec::new(), incidents: None };
    let sm2 = World::begin("sm2", &[&sm1]).await;
    let mut round = Round::new(&sm2.seat, &sm2.seat.peers.peers[0]);
    let own = NodeView { node: "sm2".into(), started_ms: Some(sm2.seat.started_ms), ..report.view.clone() };
    round.on_report(Report { view: own, ..report }, 0, 0);
    assert!(sm2.seat.peers.views().is_empty());
    sm2.end().await;
    sm1.end().await;
}

#[tokio::test]
async fn two_that_see_the_same_tell_it_once_and_hear_what_is_said_of_it() {
    let sm1 = World::begin("sm1", &[]).await;
    let sm2 = World::begin("sm2", &[&sm1]).await;
    let alert = crate::incidents::testing::alert("store/down", crate::view::Severity::High);
    for world in [&sm1, &sm2] {
        world.seat.tell(crate::happening::What::AlertRaised(alert.clone()));
    }
    // Others may have been opened: nobody has a backend here.
    let seen = |world: &World| {
        let all = world.seat.incidents.list();
        all.into_iter().find(|incident| incident.key == "store/down")
    };
    until("sm1 tells it for both", async || {
        let told_by = seen(&sm2).and_then(|incident| incident.told_by);
        told_by.is_some_and(|by| (by.node.as_str(), by.no) == ("sm1", 1))
    })
    .await;
    assert!(seen(&sm1).unwrap().told_by.is_none());
    sm1.post("/v1/incidents/1/acknowledge", json!({ "author": "mina" })).await;
    until("it is known that somebody sees to it", async || {
        seen(&sm2).unwrap().acknowledged_by.as_deref() == Some("mina")
    })
    .await;
    sm2.end().await;
    sm1.end().await;
}

#[test]
fn a_peer_of_a_newer_version_is_heard_also_where_it_is_not_understood() {
    let mark =
        json!({"at_ms": 1, "node": "sm2", "kind": "mark", "mark": "deploy", "text": "v3", "author": "mina"});
    let unheard = json!({"at_ms": 2, "node": "sm2", "kind": "of_a_later_version", "what": {"it": "is"}});
    let known = understood(&json!([mark, unheard])).unwrap();
    assert_eq!(serde_json::to_value(known).unwrap(), json!([mark]));
}
