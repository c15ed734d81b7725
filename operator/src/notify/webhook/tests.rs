use super::*;
use crate::incidents::Occasion;
use crate::notify::tests::{Web, due, notice, webhook};

const NOW_MS: u64 = 1_767_225_792_000;

fn message() -> Message {
    Message::about(&due(notice(Occasion::Opened, NOW_MS)), "n1")
}

#[test]
fn addresses_are_checked_and_never_shown() {
    let at = |url: &str| config::Webhook { url: url.to_owned(), format: WebhookFormat::Slack, least: None };
    for bad in ["ftp://x.example/SECRET", "no address SECRET", "/SECRET", "https://me:SECRET@x.example/"] {
        let why = Webhook::open(&at(bad), "n1").unwrap_err();
        assert!(!why.contains("SECRET"), "{why}");
    }
    let good = Webhook::open(&at("https://hooks.example:8443/services/SECRET"), "n1").unwrap();
    assert_eq!(good.name(), "slack webhook at hooks.example:8443");
    assert_eq!(format!("{good:?}"), "slack webhook at hooks.example:8443");
}

#[test]
fn slack_takes_one_text_without_markup() {
    let mut message = message();
    message.lines = vec!["<!channel> & <https://evil|here>".to_owned()];
    let wanted = "HIGH incident 3 opened: The store does not answer.\n\
                  &lt;!channel&gt; &amp; &lt;https://evil|here&gt;";
    assert_eq!(slack(&message), json!({ "text": wanted }));
}

#[test]
fn alertmanager_takes_a_list_of_alerts() {
    let wanted = json!([{
        "labels": {
            "alertname": "BuslaneIncident", "node": "n1", "incident": "3",
            "about": "store/down", "severity": "high",
        },
        "annotations": {
            "summary": "HIGH incident 3 opened: The store does not answer.",
            "description": message().lines.join("\n"),
        },
        "startsAt": "2026-01-01T00:00:00.000Z",
        "endsAt": "2026-01-01T00:13:12.000Z",
    }]);
    assert_eq!(alertmanager(&message(), "n1", NOW_MS), wanted);
}

#[test]
fn an_escalation_ends_the_alert_that_it_was_and_a_resolution_ends_it() {
    let mut message = message();
    message.told_as = Some(Severity::Medium);
    let alerts = alertmanager(&message, "n1", NOW_MS);
    let row = |at: usize| (&alerts[at]["labels"]["severity"], &alerts[at]["endsAt"]);
    assert_eq!(row(0), (&json!("high"), &json!("2026-01-01T00:13:12.000Z")));
    assert_eq!(row(1), (&json!("medium"), &json!("2026-01-01T00:03:12.000Z")));
    message.told_as = Some(Severity::High);
    if let Some(incident) = &mut message.about {
        incident.resolved_ms = Some(NOW_MS - 1_000);
    }
    let alerts = alertmanager(&message, "n1", NOW_MS);
    assert_eq!(alerts.as_array().unwrap().len(), 1);
    assert_eq!(alerts[0]["endsAt"], "2026-01-01T00:03:11.000Z");
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let mut web = Web::open(&["302 Found\r\nlocation: http://127.0.0.1:9/"]).await;
    let webhook = Webhook::open(&webhook(web.addr, WebhookFormat::Slack), "n1").unwrap();
    let error = webhook.send(&message(), NOW_MS).await.unwrap_err();
    assert_eq!((error.why.as_str(), error.is_passing), ("it answered 302 Found", false));
    web.next().await;
}

#[tokio::test]
async fn an_address_that_nobody_listens_at_may_be_there_later() {
    let addr = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let webhook = Webhook::open(&webhook(addr, WebhookFormat::Slack), "n1").unwrap();
    let error = webhook.send(&message(), NOW_MS).await.unwrap_err();
    assert!(error.is_passing && !error.why.contains("SECRET"), "{}", error.why);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    // A server that speaks no TLS at all: the message is not sent in the open instead.
    let mut web = Web::open(&[]).await;
    let mut settings = webhook(web.addr, WebhookFormat::Slack);
    settings.url = settings.url.replace("http://", "https://");
    let webhook = Webhook::open(&settings, "n1").unwrap();
    let sending = tokio::spawn(async move { webhook.send(&message(), NOW_MS).await.is_err() });
    assert!(timeout(LIMIT * 2, sending).await.unwrap().unwrap());
    assert!(web.asked.try_recv().is_err());
}
