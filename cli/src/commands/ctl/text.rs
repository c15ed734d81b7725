//! How the operator's answers look to people: tables without frames, postures in capitals, times in UTC.

use comfy_table::{Table, presets};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Exit, Failure};
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

/// An answer in the shape that this version knows.
pub fn read<T: DeserializeOwned>(result: &Value) -> Result<T, Failure> {
    T::deserialize(result).map_err(|e| {
        let message = format!(
            "the server's answer is not what this version expects ({e}): use the same version on both sides"
        );
        Failure::new(Exit::Unreachable, "unexpected_answer", message)
    })
}

/// A word as part of a path: everything but letters, digits and `-._~` is written with percent signs.
pub fn escape(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    word.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
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
    fn words_stay_one_part_of_a_path() {
        assert_eq!(escape("kim@example.org"), "kim%40example.org");
        assert_eq!(escape("a/../b?c#d é"), "a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }

    #[test]
    fn how_far_an_order_has_come() {
        let reach = json!({"nodes": 2, "of": 3, "after_ms": 41});
        assert_eq!(effective(&reach), "effective on 2 of 3 nodes after 41 ms");
        let none = json!({"nodes": 0, "of": 1, "after_ms": null});
        assert_eq!(effective(&none), "effective on 0 of 1 nodes");
    }
}
