//! What differs between two states of a table of settings, in one line for people.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::output::printable;

/// More keys than this are counted: a line of an audit stays a line.
const KEYS_MAX: usize = 8;

/// A longer value is cut.
const VALUE_CHARS_MAX: usize = 40;

/// "lanes.seats 512 -> 64, policy (default) -> static".
pub fn between(before: &Value, after: &Value) -> String {
    let keys = keys(before, after);
    let (before, after) = (leaves(before), leaves(after));
    let mut changed = Vec::new();
    let mut more = 0;
    for key in &keys {
        let (old, new) = (before.get(key), after.get(key));
        if changed.len() < KEYS_MAX {
            changed.push(format!("{} {} -> {}", printable(key), shown(old.copied()), shown(new.copied())));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        changed.push(format!("and {more} more"));
    }
    changed.join(", ")
}

/// The keys that differ.
pub fn keys(before: &Value, after: &Value) -> Vec<String> {
    let (before, after) = (leaves(before), leaves(after));
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    all.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// Every value under its whole key.
fn leaves(table: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), table)];
    while let Some((key, value)) = open.pop() {
        match value {
            Value::Null => {}
            Value::Object(inner) => open.extend(inner.iter().map(|(name, value)| {
                let dot = if key.is_empty() { "" } else { "." };
                (format!("{key}{dot}{name}"), value)
            })),
            value => {
                found.insert(key, value);
            }
        }
    }
    found
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "(default)".to_owned() };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = printable(&text);
    let mut short: String = text.chars().take(VALUE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_new_what_is_gone_and_what_is_other() {
        let before = json!({"lanes": {"seats": 512, "C1": {"guarantee": 30}}, "policy": "static"});
        let after = json!({"lanes": {"seats": 64, "C1": {"guarantee": 30}}, "dry_run": ["C7"]});
        let expected = "dry_run (default) -> [\"C7\"], lanes.seats 512 -> 64, policy static -> (default)";
        assert_eq!(between(&before, &after), expected);
        assert_eq!(between(&Value::Null, &json!({"lanes": {"seats": 64}})), "lanes.seats (default) -> 64");
        assert_eq!(between(&before, &before), "");
    }

    #[test]
    fn a_line_stays_short_whatever_was_written() {
        let many: serde_json::Map<String, Value> =
            (0..12).map(|i| (format!("key{i:02}"), "\u{1b}[2J".repeat(100).into())).collect();
        let line = between(&Value::Null, &Value::Object(many));
        assert!(line.ends_with(", and 4 more"), "{line}");
        assert!(!line.contains('\u{1b}') && line.chars().count() < 700, "{line}");
    }
}
