//! `ctl posture`: what holds, why, until when, and on which nodes.

use serde_json::Value;

use crate::admin_client::AdminArgs;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::time_text::rfc3339;

use super::text::{self, grid};

/// Runs it.
pub async fn run(admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let mut result = admin.client()?.get("/v1/posture").await?;
    text::say_expiry(result.get_mut("order"));
    output.result(&result, || sentences(&result))
}

fn sentences(result: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(posture) = result.get("posture").and_then(Value::as_str) {
        lines.push(format!("{} ({})", text::shout(posture), text::string(result, "source")));
    }
    let here = result.get("here").unwrap_or(&Value::Null);
    if let Some(since_ms) = here.get("since_ms").and_then(Value::as_u64) {
        lines.push(format!("  since     {}", rfc3339(since_ms)));
    }
    if let Some(cause) = here.get("cause").filter(|cause| !cause.is_null()) {
        lines.push(format!("  cause     {}", over_its_limit(cause)));
    }
    if let Some(order) = result.get("order").filter(|order| !order.is_null()) {
        lines.push(format!("  reason    {}", printable(text::string(order, "reason"))));
        lines.push(format!("  author    {}", printable(text::string(order, "author"))));
        lines.push(format!("  expires   {}", text::string(order, "expires")));
        lines.push(format!("  measured  {}", text::cell(here.get("measured"))));
    }
    if let Some(effective) = result.get("effective").filter(|effective| !effective.is_null()) {
        lines.push(format!("  {}", text::effective(effective)));
    }
    for order in result.get("coming").and_then(Value::as_array).into_iter().flatten() {
        let at = |name: &str| rfc3339(order.get(name).and_then(Value::as_u64).unwrap_or(0));
        let (kind, reason) = (text::shout(text::string(order, "kind")), text::string(order, "reason"));
        let reason = printable(reason);
        lines.push(format!("  coming    {kind} from {} until {}: {reason}", at("from_ms"), at("until_ms")));
    }
    lines.push(nodes(result));
    lines.join("\n")
}

/// "timeouts 2.3 % over 1 %".
fn over_its_limit(cause: &Value) -> String {
    let number = |name| cause.get(name).and_then(Value::as_f64).unwrap_or_default();
    let (value, limit) = (number("value"), number("limit"));
    let side = if value < limit { "under" } else { "over" };
    let signal = text::string(cause, "signal");
    // Delays have their unit in their name, logins are compared with their mean, all others are shares.
    let (scale, unit) = match signal {
        "logins" => (1.0, " times the usual"),
        delay if delay.ends_with("_ms") => (1.0, ""),
        _ => (100.0, " %"),
    };
    let short = |number: f64| (number * scale * 10.0).round() / 10.0;
    format!("{} {}{unit} {side} {}{unit}", printable(signal), short(value), short(limit))
}

/// The first admission level that is refused, and what that means: there are 128 to a class.
fn level(value: Option<&Value>) -> String {
    match value.and_then(Value::as_u64) {
        None => "-".to_owned(),
        Some(level) if level >= 1_024 => format!("{level} (nothing is cut)"),
        Some(level) if level % 128 == 0 => format!("{level} (C{} and what comes after it)", level / 128),
        Some(level) => format!("{level} (part of C{} and what comes after it)", level / 128),
    }
}

fn nodes(result: &Value) -> String {
    let rows: Vec<Vec<String>> = result
        .get("nodes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|node| {
            let fresh = node.get("fresh").and_then(Value::as_bool).unwrap_or(false);
            let posture = match node.get("posture").and_then(Value::as_str) {
                Some(posture) if fresh => text::shout(posture),
                // What was said too long ago is not known.
                _ => "unknown".to_owned(),
            };
            let names = ["background_per_s", "ledger_ms", "order", "age_ms"];
            let mut row = vec![text::cell(node.get("node")), posture, level(node.get("level"))];
            row.extend(names.map(|name| text::cell(node.get(name))));
            row
        })
        .collect();
    grid(&["node", "posture", "cut at level", "background/s", "ledger ms", "order", "age ms"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_order_is_shown_with_everything_that_one_asks_for() {
        let mut result = json!({
            "posture": "emergency", "source": "ordered",
            "order": {"kind": "emergency", "reason": "drill", "author": "kim", "until_ms": 1_795_233_016_123u64},
            "effective": {"nodes": 1, "of": 2, "after_ms": 12},
            "coming": [{"kind": "normal", "reason": "later", "from_ms": 1_795_233_016_123u64, "until_ms": 1_795_233_017_123u64}],
            "here": {"measured": "guard", "since_ms": 1_795_232_986_123u64,
                     "cause": {"signal": "timeouts", "value": 0.0234567, "limit": 0.01}},
            "nodes": [
                {"node": "a", "posture": "emergency", "level": 1024, "background_per_s": 12.5, "ledger_ms": 0, "order": 7, "age_ms": 20, "fresh": true},
                {"node": "b", "posture": "normal", "fresh": false},
            ],
        });
        text::say_expiry(result.get_mut("order"));
        let expected = "\
EMERGENCY (ordered)
  since     2026-11-21T03:49:46.123Z
  cause     timeouts 2.3 % over 1 %
  reason    drill
  author    kim
  expires   2026-11-21T03:50:16.123Z
  measured  guard
  effective on 1 of 2 nodes after 12 ms
  coming    NORMAL from 2026-11-21T03:50:16.123Z until 2026-11-21T03:50:17.123Z: later
 node  posture    cut at level           background/s  ledger ms  order  age ms
 a     EMERGENCY  1024 (nothing is cut)  12.5          0          7      20
 b     unknown    -                      -             -          -      -";
        assert_eq!(sentences(&result), expected);
    }

    #[test]
    fn numbers_say_what_they_are() {
        let cause = |signal: &str, value: f64, limit: f64| {
            over_its_limit(&json!({"signal": signal, "value": value, "limit": limit}))
        };
        assert_eq!(cause("seats_busy", 0.957, 0.95), "seats_busy 95.7 % over 95 %");
        assert_eq!(cause("dependency", 0.4, 0.5), "dependency 40 % under 50 %");
        assert_eq!(cause("logins", 3.21, 3.0), "logins 3.2 times the usual over 3 times the usual");
        assert_eq!(cause("foreground_wait_ms", 6.04, 5.0), "foreground_wait_ms 6 over 5");
        assert_eq!(level(Some(&json!(640))), "640 (C5 and what comes after it)");
        assert_eq!(level(Some(&json!(700))), "700 (part of C5 and what comes after it)");
        assert_eq!(level(None), "-");
    }
}
