//! The routes over real HTTP, on a node that says what the test wants.

use buslane_shared::wire::Posture;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::testing::{Role, World, drill, read_until, refusal, session, until};

async fn samples(world: &World, query: &str) -> Vec<Value> {
    let view = world.get(&format!("/v1/traffic{query}")).await;
    view["samples"].as_array().unwrap().clone()
}

#[tokio::test]
async fn traffic_shows_what_the_node_counted_and_what_happened() {
    let world = World::begin("sm1", &[]).await;
    until("the first second is over", async || !samples(&world, "").await.is_empty()).await;
    *world.puppet().messages.lock() += 500;
    *world.puppet().logins.lock() = [300, 100, 200];
    *world.puppet().posture.lock() = Posture::Guard;
    until("it is in a sample", async || {
        let total: f64 = samples(&world, "?span=1m")
            .await
            .iter()
            .map(|sample| {
                sample["messages_per_s"].as_f64().unwrap() * sample["span_ms"].as_f64().unwrap() / 1_000.0
            })
            .sum();
        (total - 500.0).abs() < 1.0
    })
    .await;
    let view = world.get("/v1/traffic?span=10m").await;
    assert_eq!((&view["node"], &view["step_ms"]), (&json!("sm1"), &json!(1_000)));
    let loud =
        view["samples"].as_array().unwrap().iter().find(|sample| sample["messages_per_s"] != 0.0).unwrap();
    assert_eq!(loud["posture"], "guard");
    assert_eq!(loud["classes"].as_array().unwrap().len(), 8);
    let (offered, deferred) = (&loud["logins"]["offered_per_s"], &loud["logins"]["deferred_per_s"]);
    assert!((offered.as_f64().unwrap() / deferred.as_f64().unwrap() - 1.5).abs() < 1e-6, "{loud}");
    assert_eq!(loud["classes"][5]["waiting"], 7);
    assert_eq!((&loud["sessions_front"], &loud["sessions_wake"]), (&json!(2), &json!(3)));
    assert!(loud["resident_bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(loud["logins"]["trend"], Value::Null, "nothing is known yet, so nothing is called unusual");
    let kinds: Vec<&Value> =
        view["happenings"].as_array().unwrap().iter().map(|what| &what["kind"]).collect();
    assert_eq!(kinds, ["process", "posture"]);
    assert_eq!(world.get("/v1/traffic?span=24h").await["samples"], json!([]));
    assert_eq!(world.refused("GET", "/v1/traffic?span=1y", Value::Null).await, (400, "bad_span".into()));
    world.end().await;
}

#[tokio::test]
async fn a_process_without_load_has_no_samples_and_asks_the_one_that_has() {
    let sm1 = World::begin("sm1", &[]).await;
    let gate = World::begin_as(Role::Gateway, "gate", &[&sm1]).await;
    assert_eq!(samples(&gate, "").await, [] as [Value; 0]);
    until("sm1 is known and has a sample", async || {
        let (status, answer) = gate.ask("GET", "/v1/traffic?span=10m&node=sm1", Value::Null).await;
        status == 200 && !answer["result"]["samples"].as_array().unwrap().is_empty()
    })
    .await;
    let view = gate.get("/v1/traffic?node=sm1").await;
    assert_eq!(view["node"], "sm1");
    assert_eq!(gate.get("/v1/lanes?node=sm1").await["seats"], 512);
    assert_eq!(gate.refused("GET", "/v1/lanes", Value::Null).await, (404, "no_lanes".into()));
    assert_eq!(gate.refused("GET", "/v1/lanes?node=sm9", Value::Null).await, (404, "no_such_node".into()));
    assert_eq!(
        gate.refused("GET", "/v1/traffic?node=sm1&span=1y", Value::Null).await,
        (400, "bad_span".into())
    );
    sm1.post("/v1/marks", json!({"mark": "note", "text": "kept there"})).await;
    let kept = gate.get("/v1/audit?limit=1&node=sm1").await;
    assert_eq!(kept["entries"][0]["reason"], "kept there", "{kept}");
    // Its own name asks nobody else.
    assert_eq!(gate.get("/v1/traffic?node=gate").await["node"], "gate");
    sm1.end().await;
    until("its silence is told", async || {
        gate.refused("GET", "/v1/traffic?node=sm1", Value::Null).await == (502, "node_silent".into())
    })
    .await;
    gate.end().await;
}

#[tokio::test]
async fn a_node_says_how_it_is_and_what_it_lacks() {
    let world = World::begin("sm1", &[]).await;
    let here = world.get("/v1/node").await;
    assert_eq!((&here["node"], &here["state"], &here["here"]), (&json!("sm1"), &json!("up"), &json!(true)));
    assert_eq!((&here["posture"], &here["sessions"]), (&json!("normal"), &json!(5)));
    assert_eq!(here["happenings"], json!([]), "nobody has asked for them");
    assert!(here["now_ms"].as_u64().unwrap() > here["started_ms"].as_u64().unwrap() - 1);
    world.seat.readiness.check("store").not_ready("the disk is full");
    let nodes = world.get("/v1/nodes").await;
    assert_eq!(
        (&nodes[0]["state"], &nodes[0]["why"]),
        (&json!("warning"), &json!("store: the disk is full"))
    );
    assert_eq!(nodes[0]["lacks"], json!({"store": "the disk is full"}));
    world.end().await;
}

#[tokio::test]
async fn a_stream_says_hello_and_goes_on() {
    let world = World::begin("sm1", &[]).await;
    until("there is a sample", async || world.seat.history.last().is_some()).await;
    let mut stream = world.stream("/v1/live").await;
    let hello = read_until(&mut stream, "event: sample").await;
    assert!(hello.to_lowercase().contains("content-type: text/event-stream"), "{hello}");
    assert!(hello.contains("event: hello\ndata: {\"node\":\"sm1\""), "{hello}");
    world.post("/v1/marks", json!({"mark": "deploy", "text": "<script>alert(1)</script>"})).await;
    let told = read_until(&mut stream, "event: happening").await;
    let told = if told.contains("script") { told } else { read_until(&mut stream, "script").await };
    assert!(told.contains("\"kind\":\"mark\""), "{told}");
    assert_eq!(world.seat.live.readers(), 1);
    drop(stream);
    until("the reader is forgotten", async || world.seat.live.readers() == 0).await;
    world.end().await;
}

#[tokio::test]
async fn the_stream_of_another_node_is_passed_on() {
    let sm1 = World::begin("sm1", &[]).await;
    let gate = World::begin_as(Role::Gateway, "gate", &[&sm1]).await;
    until("sm1 is known", async || gate.seat.peers.named("sm1").is_some()).await;
    let mut stream = gate.stream("/v1/live?node=sm1").await;
    let seen = read_until(&mut stream, "event: sample").await;
    assert!(seen.contains("\"node\":\"sm1\""), "{seen}");
    // The end of the process ends what it passes on.
    gate.end().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    until("the other side has noticed", async || sm1.seat.live.readers() == 0).await;
    sm1.end().await;
}

#[tokio::test]
async fn beyond_the_bound_streams_are_refused_and_everything_else_is_answered() {
    let world = World::begin("sm1", &[]).await;
    let mut places = Vec::new();
    while let Some(place) = world.seat.live.place() {
        places.push(place);
    }
    assert_eq!(places.len(), crate::live::STREAMS_MAX);
    assert_eq!(world.refused("GET", "/v1/live", Value::Null).await, (503, "too_many_streams".into()));
    world.get("/v1/traffic").await;
    drop(places);
    let mut stream = world.stream("/v1/live").await;
    read_until(&mut stream, "event: hello").await;
    world.end().await;
}

#[tokio::test]
async fn a_user_is_looked_for_at_every_node() {
    let sm1 = World::begin("sm1", &[]).await;
    let sm2 = World::begin("sm2", &[&sm1]).await;
    until("sm1 is known", async || sm2.seat.peers.named("sm1").is_some()).await;
    sm1.puppet().sessions.lock().push(session("aa-1"));
    sm1.puppet().refusals.lock().push(refusal(9_000));
    sm2.puppet().refusals.lock().push(refusal(5_000));
    let view = sm2.get("/v1/users/alice").await;
    assert_eq!(
        (&view["sessions"][0]["node"], &view["sessions"][0]["device"]),
        (&json!("sm1"), &json!("aa-1"))
    );
    let at: Vec<&Value> =
        view["refusals"].as_array().unwrap().iter().map(|refusal| &refusal["at_ms"]).collect();
    assert_eq!(at, [9_000, 5_000], "newest first, of both");
    assert_eq!(view["silent"], json!([]));
    assert_eq!(sm2.get("/v1/users/bob").await["refusals"], json!([]));
    assert_eq!(sm2.refused("GET", "/v1/users/No%20Body", Value::Null).await, (400, "bad_user".into()));
    sm1.end().await;
    assert_eq!(sm2.get("/v1/users/alice").await["silent"], json!(["sm1"]));
    sm2.end().await;
}

#[tokio::test]
async fn a_device_is_disconnected_wherever_its_session_is() {
    let sm1 = World::begin("sm1", &[]).await;
    let sm2 = World::begin("sm2", &[&sm1]).await;
    until("sm1 is known", async || sm2.seat.peers.named("sm1").is_some()).await;
    sm1.puppet().sessions.lock().extend([session("aa-1"), session("aa-2")]);
    let path = "/v1/users/alice/disconnect";
    let done = sm2.post(path, json!({"device": "aa-1", "reason": "stolen", "author": "kim"})).await;
    assert_eq!(done["nodes"], json!(["sm1"]));
    let left: Vec<String> =
        sm1.puppet().sessions.lock().iter().map(|session| session.device.clone()).collect();
    assert_eq!(left, ["aa-2"]);
    assert_eq!(
        (sm1.actions(), sm2.actions()),
        (vec!["session.disconnect".into()], vec!["session.disconnect".into()])
    );
    let there = sm1.seat.audit().last(1).unwrap().remove(0);
    assert_eq!(there.reason, "stolen (asked by kim at sm2)");
    // The longest reason there is reaches the other node as well.
    let long = "x".repeat(500);
    let done = sm2.post(path, json!({"device": "aa-2", "reason": long, "author": "kim"})).await;
    assert_eq!(done["nodes"], json!(["sm1"]));
    let there = sm1.seat.audit().last(1).unwrap().remove(0);
    assert!(there.reason.ends_with("x (asked by kim at sm2)"), "{}", there.reason);
    let wrong = [
        (json!({"device": "aa-1", "reason": "again"}), (404, "no_session")),
        (json!({"device": "aa-2", "reason": " "}), (400, "no_reason")),
        (json!({"device": "../etc", "reason": "x"}), (400, "bad_device")),
    ];
    for (body, (status, code)) in wrong {
        assert_eq!(sm2.refused("POST", path, body).await, (status, code.into()));
    }
    sm1.end().await;
    let lost = sm2.refused("POST", path, json!({"device": "aa-2", "reason": "x"})).await;
    assert_eq!(lost, (502, "node_silent".into()));
    sm2.end().await;
}

#[tokio::test]
async fn a_node_is_drained_and_taken_back() {
    let world = World::begin("sm1", &[]).await;
    world.puppet().drain.lock().sessions = 40;
    let would =
        world.post("/v1/drain", json!({"on": true, "per_s": 8.0, "reason": "kernel", "dry_run": true})).await;
    let expected = json!({
        "node": "sm1", "draining": true, "from_sessions": 40, "sessions": 40, "rate_per_s": 8.0, "eta_ms": 5_000,
    });
    assert_eq!(would, expected);
    assert!(world.actions().is_empty(), "nothing was done");
    assert_eq!(world.get("/v1/drain").await["draining"], false);

    let drains =
        world.post("/v1/drain", json!({"on": true, "per_s": 8.0, "reason": "kernel", "author": "kim"})).await;
    assert_eq!(drains, expected);
    assert_eq!(world.get("/v1/node").await["state"], "maintenance");
    let back = world.post("/v1/drain", json!({"on": false, "reason": "it is back"})).await;
    assert_eq!((&back["draining"], &back["eta_ms"]), (&json!(false), &Value::Null));
    assert_eq!(world.actions(), ["drain.begin", "drain.end"]);
    until("both are told", async || world.seat.history.happenings(0).len() >= 3).await;

    for (body, code) in [
        (json!({"on": true, "per_s": 0.0, "reason": "x"}), "bad_rate"),
        (json!({"on": true, "per_s": -1.0, "reason": "x"}), "bad_rate"),
        (json!({"on": true, "reason": ""}), "no_reason"),
    ] {
        assert_eq!(world.refused("POST", "/v1/drain", body).await, (400, code.into()));
    }
    world.end().await;
    let gate = World::begin_as(Role::Gateway, "gate", &[]).await;
    assert_eq!(gate.refused("GET", "/v1/drain", Value::Null).await, (404, "no_sessions".into()));
    gate.end().await;
}

#[tokio::test]
async fn marks_are_recorded_and_told() {
    let world = World::begin("sm1", &[]).await;
    let made =
        world.post("/v1/marks", json!({"mark": "deploy", "text": " chat 4.2 ", "author": "kim"})).await;
    assert_eq!((&made["text"], &made["author"]), (&json!("chat 4.2"), &json!("kim")));
    until("it is kept", async || {
        world.get("/v1/traffic").await["happenings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|what| what["mark"] == "deploy")
    })
    .await;
    assert_eq!(world.actions(), ["mark.deploy"]);
    assert_eq!(
        world.refused("POST", "/v1/marks", json!({"mark": "note", "text": ""})).await,
        (400, "no_text".into())
    );
    let (status, _) = {
        // What is no mark at all is refused before it is looked at.
        let body = json!({"mark": "party", "text": "x"}).to_string();
        world.raw("POST", "/v1/marks", &body).await
    };
    assert_eq!(status, 422);
    world.end().await;
}

#[tokio::test]
async fn drills_add_themselves() {
    let world = World::begin("sm1", &[]).await;
    assert_eq!(world.get("/v1/drills").await, json!([]));
    world.post("/v1/drills", json!(drill("pohang"))).await;
    world.post("/v1/drills", json!(drill("gyeongju"))).await;
    let drills = world.get("/v1/drills").await;
    assert_eq!((&drills[0]["scenario"], &drills[1]["scenario"]), (&json!("gyeongju"), &json!("pohang")));
    assert_eq!(world.actions(), ["drill.result", "drill.result"]);
    let nameless = json!(drill(""));
    assert_eq!(world.refused("POST", "/v1/drills", nameless).await, (400, "bad_drill".into()));
    world.end().await;
}

#[tokio::test]
async fn a_viewer_looks_and_changes_nothing() {
    let mut world = World::begin("sm1", &[]).await;
    let made = world.post("/v1/tokens", json!({"name": "lee", "role": "viewer", "reason": "a test"})).await;
    world.token = made["token"].as_str().unwrap().to_owned();
    for path in
        ["/v1/traffic", "/v1/node", "/v1/nodes", "/v1/users/alice", "/v1/drain", "/v1/drills", "/v1/status"]
    {
        world.get(path).await;
    }
    for path in ["/v1/drain", "/v1/marks", "/v1/drills", "/v1/users/alice/disconnect"] {
        assert_eq!(world.refused("POST", path, json!({})).await, (403, "forbidden".into()), "{path}");
    }
    world.token = "0".repeat(64);
    for path in ["/v1/traffic", "/v1/live", "/v1/nodes?node=x"] {
        assert_eq!(world.refused("GET", path, Value::Null).await.0, 401, "{path}");
    }
    world.end().await;
}
