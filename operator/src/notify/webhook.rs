//! Brings messages to a web address, in the form of Slack or of Alertmanager.
//!
//! Why it exists: both are taken by nearly everything that calls people. The path of a webhook is its password: it must never
//! appear in a name, a log or an error. Redirections are not followed: a message goes where the settings say, or nowhere.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::courier::SendError;
use super::message::Message;
use super::queue::Taste;
use crate::config::{self, WebhookFormat};
use crate::incidents::{rfc3339, severity_name};
use crate::view::{IncidentView, Severity};

/// How long an address may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// How often Alertmanager is told again what goes on.
const REPEAT_MS: u64 = 3 * 60 * 1_000;

/// When Alertmanager is to forget what it was not told again: three messages may be lost.
const ENDS_MS: u64 = 10 * 60 * 1_000;

/// A web address that is told.
pub(super) struct Webhook {
    name: String,
    node: String,
    uri: Uri,
    format: WebhookFormat,
    least: Severity,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Webhook {
    /// From its settings; why they are none, without the address itself.
    pub(super) fn open(settings: &config::Webhook, node: &str) -> Result<Self, String> {
        let uri: Uri = settings.url.parse().map_err(|_| "this is no address".to_owned())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("the scheme is not http or https".to_owned());
        }
        let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = host.ok_or("there is no host, or a password before it: use a token in the path")?;
        let format = match settings.format {
            WebhookFormat::Slack => "slack",
            WebhookFormat::Alertmanager => "alertmanager",
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(LIMIT));
        let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(tls.wrap_connector(tcp));
        Ok(Self {
            name: format!("{format} webhook at {host}"),
            node: node.to_owned(),
            format: settings.format,
            least: settings.least.unwrap_or(Severity::Low),
            uri,
            client,
        })
    }

    /// What it is called, without its secret.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Label of its metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self.format {
            WebhookFormat::Slack => "slack",
            WebhookFormat::Alertmanager => "alertmanager",
        }
    }

    /// What it wants to hear.
    pub(super) fn taste(&self) -> Taste {
        let repeat_ms = (self.format == WebhookFormat::Alertmanager).then_some(REPEAT_MS);
        Taste { least: self.least, repeat_ms }
    }

    /// Brings a message.
    pub(super) async fn send(&self, message: &Message, now_ms: u64) -> Result<(), SendError> {
        let body = match self.format {
            WebhookFormat::Slack => slack(message),
            WebhookFormat::Alertmanager => alertmanager(message, &self.node, now_ms),
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("buslane/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body.to_string())));
        let request = request.map_err(|_| SendError::final_one("the address makes no request".to_owned()))?;
        match timeout(LIMIT, self.client.request(request)).await {
            Err(_) => Err(SendError::passing(format!("no answer within {} s", LIMIT.as_secs()))),
            Ok(Err(error)) => Err(SendError::passing(cause(&error))),
            Ok(Ok(answer)) => judge(answer.status()),
        }
    }
}

/// The innermost reason. None of them names the path.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn judge(status: StatusCode) -> Result<(), SendError> {
    let why = format!("it answered {status}");
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(SendError::passing(why)),
        _ if status.is_server_error() => Err(SendError::passing(why)),
        _ => Err(SendError::final_one(why)),
    }
}

/// `{"text": …}`. What Slack takes for markup is escaped as its documentation says, so nobody can be called by a reason.
fn slack(message: &Message) -> Value {
    let text: Vec<String> =
        std::iter::once(&message.subject).chain(&message.lines).map(|line| escape(line)).collect();
    json!({ "text": text.join("\n") })
}

fn escape(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A list of alerts: this one, and the one that it was before, ended. Labels are what tells alerts apart, so nothing that changes
/// is in them but the severity, which decides whom Alertmanager calls.
fn alertmanager(message: &Message, node: &str, now_ms: u64) -> Value {
    let Some(incident) = &message.about else {
        let labels = json!({ "alertname": "BuslaneTest", "node": node, "severity": "low" });
        return json!([alert(&labels, message, now_ms, now_ms.saturating_add(60_000))]);
    };
    let starts_ms = incident.opened_ms;
    let goes_on_ms = now_ms.saturating_add(if message.is_over { 0 } else { ENDS_MS });
    let end_ms = incident.resolved_ms.unwrap_or(goes_on_ms);
    let mut alerts = vec![alert(&labels(incident, node, incident.severity), message, starts_ms, end_ms)];
    if let Some(before) = message.told_as.filter(|before| *before != incident.severity) {
        alerts.push(alert(&labels(incident, node, before), message, starts_ms, now_ms));
    }
    Value::Array(alerts)
}

fn labels(incident: &IncidentView, node: &str, severity: Severity) -> Value {
    json!({
        "alertname": "BuslaneIncident",
        "node": node,
        "incident": incident.no.to_string(),
        "about": incident.key,
        "severity": severity_name(severity),
    })
}

fn alert(labels: &Value, message: &Message, starts_ms: u64, ends_ms: u64) -> Value {
    json!({
        "labels": labels,
        "annotations": { "summary": message.subject, "description": message.lines.join("\n") },
        "startsAt": rfc3339(starts_ms),
        "endsAt": rfc3339(ends_ms),
    })
}

#[cfg(test)]
mod tests;
