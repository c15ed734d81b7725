//! How the operator's answers look to people: tables without frames, postures in capitals, times in UTC.

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::output::printable;
use crate::time_text::rfc3339;

/// A table with a header.
pub fn grid(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table.add_rows(rows);
    // Columns are padded to the right: nobody wants that in a pipe.
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A text in an object; empty where there is none.
pub fn string<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A value as it stands in a cell.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text).into_owned(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        Some(other) => other.to_string(),
    }
}

/// A posture, for people.
pub fn shout(posture: &str) -> String {
    printable(posture).to_uppercase()
}

/// "effective on 2 of 3 nodes after 41 ms".
pub fn effective(effective: &Value) -> String {
    let number = |name: &str| effective.get(name).and_then(Value::as_u64);
    let (nodes, of) = (number("nodes").unwrap_or(0), number("of").unwrap_or(0));
    let after = number("after_ms").map_or_else(String::new, |ms| format!(" after {ms} ms"));
    format!("effective on {nodes} of {of} nodes{after}")
}

/// Adds the end of an order as text, for who reads JSON by eye.
pub fn say_expiry(order: Option<&mut Value>) {
    let Some(Value::Object(order)) = order else { return };
    if let Some(until_ms) = order.get("until_ms").and_then(Value::as_u64) {
        order.insert("expires".to_owned(), Value::String(rfc3339(until_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_plain_and_hostile_text_is_shown() {
        let rows = vec![vec!["a".to_owned(), cell(Some(&json!("x\u{1b}[2J")))]];
        assert_eq!(grid(&["one", "two"], rows), " one  two\n a    x\\u{1b}[2J");
        assert_eq!([cell(None), cell(Some(&json!(1.25))), cell(Some(&json!(7)))], ["-", "1.2", "7"]);
    }

    #[test]
    fn how_far_an_order_has_come() {
        let reach = json!({"nodes": 2, "of": 3, "after_ms": 41});
        assert_eq!(effective(&reach), "effective on 2 of 3 nodes after 41 ms");
        let none = json!({"nodes": 0, "of": 1, "after_ms": null});
        assert_eq!(effective(&none), "effective on 0 of 1 nodes");
    }
}
