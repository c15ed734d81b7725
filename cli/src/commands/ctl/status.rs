//! `ctl status`: whether the process is ready, what of the whole system works, and what is wrong.
//!
//! Whether it is ready needs no token, so that is said also where the rest cannot be asked.

use buslane_operator::view::{Alert, Component, ProbeView, Severity, State, StatusView};
use serde_json::{Value, json};

use super::text::{grid, read};
use crate::admin_client::AdminArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::time_text::span;

/// Runs it.
pub async fn run(admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let client = admin.client()?;
    let (_, page) = client.page("/readyz").await?;
    let mut said: Value = serde_json::from_str(&page).map_err(|_| {
        Failure::new(Exit::Unreachable, "unreachable", "what answers at this address is no server of ours")
    })?;
    let ready = is_ready(&said);
    let status = match client.get("/v1/status").await {
        Ok(status) => status,
        Err(why) => {
            output.talk(&format!("only the checks of this process are shown: {why}"));
            Value::Null
        }
    };
    let view: Option<StatusView> = if status.is_null() { None } else { Some(read(&status)?) };
    if let Value::Object(fields) = &mut said {
        fields.insert("status".to_owned(), status);
    }
    output.result(&said, || {
        let mut text = checks(&said);
        if let Some(view) = &view {
            text += &format!("\n\n{}", sentences(view));
        }
        text
    })?;
    if ready {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "not_ready", "the server is not ready: see the checks").retryable())
}

fn is_ready(value: &Value) -> bool {
    value.get("ready").and_then(Value::as_bool).unwrap_or(false)
}

fn checks(said: &Value) -> String {
    let mut lines = vec![if is_ready(said) { "ready" } else { "NOT READY" }.to_owned()];
    for (name, check) in said.get("checks").and_then(Value::as_object).into_iter().flatten() {
        let why = check.get("why").and_then(Value::as_str);
        let why = why.map_or_else(String::new, |why| format!(": {}", printable(why)));
        let sign = if is_ready(check) { "ok" } else { "NO" };
        lines.push(format!("  {sign} {}{why}", printable(name)));
    }
    lines.join("\n")
}

fn sentences(view: &StatusView) -> String {
    let mut lines = vec![printable(&view.summary).into_owned()];
    let rows = view.components.iter().map(|component| row(component, view.now_ms)).collect();
    lines.push(grid(&["component", "state", "since", "why"], rows));
    lines.extend(view.alerts.iter().map(|alert| said_of(alert, view.now_ms)));
    if let Some(probe) = &view.probe {
        lines.push(format!("probe, {} ago: {}", span(view.now_ms.saturating_sub(probe.at_ms)), steps(probe)));
    }
    lines.join("\n")
}

fn row(component: &Component, now_ms: u64) -> Vec<String> {
    let why = match (&component.affected_by, &component.why) {
        (Some(cause), Some(why)) => format!("affected by {cause}: {why}"),
        (Some(cause), None) => format!("affected by {cause}"),
        (None, why) => why.clone().unwrap_or_default(),
    };
    vec![
        printable(&component.title).into_owned(),
        word(component.state).to_owned(),
        span(now_ms.saturating_sub(component.since_ms)),
        printable(&why).into_owned(),
    ]
}

/// A state as it stands in a table: what is not well is in capitals.
pub fn word(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Warning => "WARNING",
        State::Maintenance => "maintenance",
        State::Unknown => "UNKNOWN",
        State::Down => "DOWN",
    }
}

/// How bad, as people say it.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

fn said_of(alert: &Alert, now_ms: u64) -> String {
    let severity = severity(alert.severity).to_uppercase();
    let since = span(now_ms.saturating_sub(alert.since_ms));
    let mut text = format!("{severity}: {} ({since}) {}", printable(&alert.title), printable(&alert.why));
    if !alert.affects.is_empty() {
        text += &format!("\n  affects {}", printable(&alert.affects.join(", ")));
    }
    text + &format!("\n  what to do: docs/operations.md{}", printable(&alert.runbook))
}

/// "ok: enter 2.1 ms, hello 3.0 ms" or "FAILED: enter 2.1 ms, hello: no answer".
pub fn steps(probe: &ProbeView) -> String {
    let step = |step: &buslane_operator::view::ProbeStep| match &step.error {
        None => {
            let ms = f64::from(u32::try_from(step.took_us).unwrap_or(u32::MAX)) / 1e3;
            format!("{} {ms:.1} ms", printable(&step.step))
        }
        Some(why) => format!("{}: {}", printable(&step.step), printable(why)),
    };
    let steps: Vec<String> = probe.steps.iter().map(step).collect();
    format!("{}: {}", if probe.ok { "ok" } else { "FAILED" }, steps.join(", "))
}

/// `ctl probe`: sends the client from outside through the system now.
pub async fn probe(admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let result = admin.client()?.post("/v1/probe", &json!({})).await?;
    let view: ProbeView = read(&result)?;
    output.result(&result, || steps(&view))?;
    if view.ok {
        return Ok(());
    }
    let message = "the probe did not come through: the step that failed says why, see `buslane ctl status`";
    Err(Failure::new(Exit::Refused, "probe_failed", message).retryable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_shown_with_its_cause_and_its_remedy() {
        let view: StatusView = read(&json!({
            "state": "down", "summary": "The store does not answer.", "now_ms": 100_000,
            "components": [
                {"id": "store", "title": "store", "node": null, "state": "down", "why": "disk full", "since_ms": 88_000,
                 "age_ms": 10, "needs": [], "affected_by": null},
                {"id": "backend", "title": "backend", "node": null, "state": "warning", "why": null, "since_ms": 89_000,
                 "age_ms": 10, "needs": ["store"], "affected_by": "store"},
            ],
            "alerts": [{"key": "store/down", "severity": "critical", "title": "The store is down", "why": "disk full",
                        "since_ms": 88_000, "affects": ["backend"], "runbook": "#the-store", "pages": true}],
            "probe": {"at_ms": 99_000, "ok": false, "steps": [
                {"step": "enter", "took_us": 2_100, "error": null},
                {"step": "hello", "took_us": 5_000_000, "error": "no answer"},
            ]},
        }))
        .unwrap();
        let expected = "\
The store does not answer.
 component  state    since  why
 store      DOWN     12 s   disk full
 backend    WARNING  11 s   affected by store
CRITICAL: The store is down (12 s) disk full
  affects backend
  what to do: docs/operations.md#the-store
probe, 1 s ago: FAILED: enter 2.1 ms, hello: no answer";
        assert_eq!(sentences(&view), expected);
    }

    #[test]
    fn checks_are_shown_without_a_token() {
        let said = json!({"ready": false, "checks": {"backend": {"ready": false, "why": "away"}, "store": {"ready": true}}});
        assert_eq!(checks(&said), "NOT READY\n  NO backend: away\n  ok store");
    }
}
