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
        // Limits are as small as 0.01.
        let number = |name| cause.get(name).and_then(Value::as_f64).unwrap_or_default();
        let (value, limit) = (number("value"), number("limit"));
        let side = if value < limit { "under" } else { "over" };
        let short = |number: f64| (number * 1_000.0).round() / 1_000.0;
        lines.push(format!(
            "  cause     {} {} {side} {}",
            text::cell(cause.get("signal")),
            short(value),
            short(limit)
        ));
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
            let names = ["level", "background_per_s", "ledger_ms", "order", "age_ms"];
            let mut row = vec![text::cell(node.get("node")), posture];
            row.extend(names.map(|name| text::cell(node.get(name))));
            row
        })
        .collect();
    grid(&["node", "posture", "level", "background/s", "ledger ms", "order", "age ms"], rows)
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
  cause     timeouts 0.023 over 0.01
  reason    drill
  author    kim
  expires   2026-11-21T03:50:16.123Z
  measured  guard
  effective on 1 of 2 nodes after 12 ms
  coming    NORMAL from 2026-11-21T03:50:16.123Z until 2026-11-21T03:50:17.123Z: later
 node  posture    level  background/s  ledger ms  order  age ms
 a     EMERGENCY  1024   12.5          0          7      20
 b     unknown    -      -             -          -      -";
        assert_eq!(sentences(&result), expected);
    }
}
