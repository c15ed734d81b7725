//! `ctl lanes`: the seats of a node, by class and by protocol.

use serde_json::Value;

use crate::admin_client::AdminArgs;
use crate::failure::Failure;
use crate::output::Output;

use super::text::{self, grid};

/// Runs it.
pub async fn run(admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let result = admin.client()?.get("/v1/lanes").await?;
    output.result(&result, || sentences(&result))
}

fn sentences(result: &Value) -> String {
    let mut text = who_may_have_seats(result);
    let lanes = ["class", "title", "in_use", "waiting", "guarantee", "ceiling", "predicted_wait_us"];
    let rates = ["admitted_per_s", "refused_per_s"];
    text += &grid(
        &["class", "", "in use", "waiting", "guarantee", "ceiling", "wait us", "admitted/s", "refused/s"],
        rows(result.get("lanes"), &[&lanes[..], &rates].concat()),
    );
    let protocols = rows(result.get("protocols"), &["protocol", "in_use", "cap", "cost_us"]);
    if !protocols.is_empty() {
        text += "\n\n";
        text += &grid(&["protocol", "in use", "cap", "cost us"], protocols);
    }
    text
}

fn who_may_have_seats(result: &Value) -> String {
    let value = |name| text::cell(result.get(name));
    let (policy, seats) = (value("policy"), value("seats"));
    match policy.as_str() {
        "static" => {
            format!(
                "policy static, {seats} seats: each class has its own, none are lent, nothing is measured\n"
            )
        }
        "none" => format!("policy none, {seats} seats: first come, first served\n"),
        _ => {
            let background = value("background_seats");
            format!("policy {policy}, {seats} seats, at most {background} of them for background\n")
        }
    }
}

fn rows(list: Option<&Value>, names: &[&str]) -> Vec<Vec<String>> {
    let row = |object: &Value| names.iter().map(|name| text::cell(object.get(*name))).collect();
    list.and_then(Value::as_array).into_iter().flatten().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seats_by_class_and_protocol() {
        let result = json!({
            "policy": "buslane", "seats": 512, "background_seats": 400,
            "lanes": [{"class": "C1", "title": "talk", "in_use": 3, "waiting": 0, "guarantee": 153, "ceiling": 512,
                       "predicted_wait_us": 0, "admitted_per_s": 120.0, "refused_per_s": 0.0}],
            "protocols": [{"protocol": "message.send", "in_use": 3, "cap": 307, "cost_us": 800}],
        });
        let expected = "\
policy buslane, 512 seats, at most 400 of them for background
 class        in use  waiting  guarantee  ceiling  wait us  admitted/s  refused/s
 C1     talk  3       0        153        512      0        120.0       0.0

 protocol      in use  cap  cost us
 message.send  3       307  800";
        assert_eq!(sentences(&result), expected);
    }

    #[test]
    fn a_policy_that_lends_nothing_says_so() {
        let first = |policy| {
            let result = json!({"policy": policy, "seats": 512, "background_seats": 512});
            sentences(&result).lines().next().unwrap().to_owned()
        };
        assert_eq!(
            first("static"),
            "policy static, 512 seats: each class has its own, none are lent, nothing is measured"
        );
        assert_eq!(first("none"), "policy none, 512 seats: first come, first served");
    }
}
