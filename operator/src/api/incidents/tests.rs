use buslane_chassis::oversee::CauseView;
use buslane_shared::wire::Posture;
use serde_json::{Value, json};

use crate::config::{Config, Notify, Webhook, WebhookFormat};
use crate::happening::What;
use crate::incidents::testing::alert;
use crate::testing::{Role, World, until};
use crate::view::{IncidentView, Severity};

async fn opened(world: &World) -> u64 {
    let asked = json!({"title": "Phones are hot", "severity": "low", "reason": "calls", "author": "mina"});
    world.post("/v1/incidents", asked).await["no"].as_u64().unwrap()
}

#[tokio::test]
async fn an_incident_is_opened_told_about_and_closed_and_all_of_it_is_in_the_audit() {
    let world = World::begin("sm1", &[]).await;
    let no = opened(&world).await;
    let at = |what: &str| format!("/v1/incidents/{no}/{what}");
    world.post(&at("acknowledge"), json!({"author": "mina"})).await;
    world.post(&at("silence"), json!({"duration_ms": 60_000, "reason": "known", "author": "mina"})).await;
    world.post(&at("note"), json!({"text": "<b>fans</b> | run", "author": "mina"})).await;
    world.post(&at("severity"), json!({"severity": "high", "reason": "more calls", "author": "mina"})).await;
    let done = world.post(&at("state"), json!({"state": "resolved", "reason": "cold", "author": "jo"})).await;
    assert_eq!((&done["state"], &done["not_kept"]), (&json!("resolved"), &Value::Null));
    let shown: IncidentView =
        serde_json::from_value(world.get(&format!("/v1/incidents/{no}")).await).unwrap();
    let kinds: Vec<&str> = shown
        .timeline
        .iter()
        .filter(|entry| entry.author != "buslane")
        .map(|entry| entry.kind.as_str())
        .collect();
    assert_eq!(kinds, ["opened", "acknowledged", "silenced", "note", "severity", "state"]);
    assert_eq!((shown.grade, shown.acknowledged_by.as_deref()), (2, Some("mina")));
    let wanted = [
        "incident.open",
        "incident.acknowledge",
        "incident.silence",
        "incident.note",
        "incident.severity",
        "incident.state",
    ];
    assert_eq!(world.actions(), wanted);
    world.end().await;
}

#[tokio::test]
async fn an_alert_opens_one_and_the_list_can_be_narrowed() {
    let world = World::begin("sm1", &[]).await;
    world.seat.tell(What::AlertRaised(alert("store/down", Severity::Critical)));
    until("it is open", async || world.get("/v1/incidents").await.as_array().unwrap().len() == 1).await;
    opened(&world).await;
    let numbers = async |query: &str| -> Vec<u64> {
        let list = world.get(&format!("/v1/incidents{query}")).await;
        list.as_array().unwrap().iter().map(|row| row["no"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("").await, [2, 1]);
    assert_eq!(numbers("?state=open").await, [2, 1]);
    assert_eq!(numbers("?state=detected").await, [1]);
    assert_eq!(numbers("?state=declared").await, [2]);
    assert!(numbers("?state=reviewed").await.is_empty());
    let row = &world.get("/v1/incidents").await[1];
    assert_eq!((&row["grade"], &row["runbook"]), (&json!(1), &json!("#the-runbook")));
    assert!(row.get("timeline").is_none());
    world.end().await;
}

#[tokio::test]
async fn the_report_is_markdown_with_every_text_escaped() {
    let world = World::begin("sm1", &[]).await;
    let no = opened(&world).await;
    world.post(&format!("/v1/incidents/{no}/note"), json!({"text": "<b>fans</b> | run"})).await;
    let mut stream = world.stream(&format!("/v1/incidents/{no}/export")).await;
    let report = crate::testing::read_until(&mut stream, "until when?").await;
    let head = report.to_ascii_lowercase();
    assert!(head.contains("content-type: text/markdown; charset=utf-8"), "{report}");
    assert!(head.contains(&format!("filename=\"incident-{no}.md\"")), "{report}");
    assert!(report.contains("&lt;b&gt;fans&lt;/b&gt; \\| run"), "{report}");
    world.end().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_code_and_changes_nothing() {
    let world = World::begin("sm1", &[]).await;
    let no = opened(&world).await;
    let at = |what: &str| format!("/v1/incidents/{no}/{what}");
    let table = [
        ("POST", at("note"), json!({"text": "  "}), 400, "no_text"),
        ("POST", at("note"), json!({"text": "x".repeat(501)}), 400, "bad_text"),
        ("POST", at("state"), json!({"state": "reviewed", "reason": "x"}), 409, "wrong_state"),
        ("POST", at("state"), json!({"state": "resolved"}), 400, "no_reason"),
        ("POST", at("silence"), json!({"duration_ms": 86_400_001, "reason": "x"}), 400, "bad_duration"),
        ("POST", at("severity"), json!({"severity": "low"}), 400, "no_reason"),
        ("POST", "/v1/incidents".into(), json!({"title": "", "severity": "low"}), 400, "no_title"),
        ("POST", "/v1/incidents/77/note".into(), json!({"text": "x"}), 404, "no_incident"),
        ("GET", "/v1/incidents/77".into(), Value::Null, 404, "no_incident"),
        ("GET", "/v1/incidents/77/export".into(), Value::Null, 404, "no_incident"),
        ("GET", "/v1/incidents?state=x".into(), Value::Null, 400, "bad_state"),
        ("POST", "/v1/notify/test".into(), json!({}), 400, "no_reason"),
    ];
    for (method, path, body, status, code) in table {
        assert_eq!(world.refused(method, &path, body).await, (status, code.to_owned()), "{path}");
    }
    assert_eq!(world.actions(), ["incident.open"]);
    assert_eq!(world.get(&format!("/v1/incidents/{no}")).await["state"], "declared");
    world.end().await;
}

#[tokio::test]
async fn a_test_of_the_notifications_says_who_was_not_told() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}/SECRET");
    let webhooks = vec![Webhook { url, format: WebhookFormat::Slack, least: None }];
    let config = Config { notify: Notify { webhooks, email: None }, ..Config::default() };
    let world = World::begin_with(Role::Manager, "sm1", config).await;
    let told = world.post("/v1/notify/test", json!({"reason": "new pager"})).await;
    assert_eq!(
        (&told[0]["ok"], &told[0]["to"]),
        (&json!(false), &json!(format!("slack webhook at {nobody}")))
    );
    assert!(!told.to_string().contains("SECRET"), "{told}");
    assert_eq!(world.actions(), ["notify.test"]);
    world.end().await;
}

#[tokio::test]
async fn a_page_hears_of_incidents_as_they_change() {
    let world = World::begin("sm1", &[]).await;
    let mut stream = world.stream("/v1/live").await;
    crate::testing::read_until(&mut stream, "event: hello").await;
    opened(&world).await;
    let seen = crate::testing::read_until(&mut stream, "Phones are hot").await;
    assert!(seen.contains("event: incident"), "{seen}");
    world.end().await;
}

#[tokio::test]
async fn a_storm_writes_its_story_and_names_what_raised_it_without_anybody_typing() {
    let world = World::begin("sm1", &[]).await;
    world.post("/v1/marks", json!({"mark": "deploy", "text": "chat 4.2", "author": "jo"})).await;
    *world.puppet().cause.lock() = Some(CauseView { signal: "logins", value: 5.24, limit: 3.0 });
    *world.puppet().posture.lock() = Posture::Emergency;
    // There is no backend here either, which is an incident of its own.
    let storm = || {
        let open = world.seat.incidents.open_ones();
        open.into_iter()
            .find(|incident| incident.key == "session-managers/emergency")
            .map(|incident| incident.no)
    };
    until("an incident is open", async || storm().is_some()).await;
    let path = format!("/v1/incidents/{}/export", storm().unwrap());
    *world.puppet().posture.lock() = Posture::Recovery;
    let export = async || world.raw("GET", &path, "").await.1;
    until("it goes on", async || export().await.contains("emergency → recovery")).await;
    let report = export().await;
    for said in [
        ": EMERGENCY holds\n",
        "EMERGENCY holds: sm1: logins 5.2 over 3.0",
        "sm1: normal → emergency (logins 5.2 over 3.0)",
        "sm1: emergency → recovery (calm again)",
        "deploy: chat 4.2",
        "| session-managers/emergency |",
    ] {
        assert!(report.contains(said), "{said:?} is not in {report}");
    }
    world.end().await;
}
