//! On which line of a file something stands. Pure text work; it never decides whether a file is right.

use toml::de::{DeTable, DeValue};

/// The line of an offset, from 1.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The key whose name or value covers an offset: `crowd[1].messages`. Empty: none does.
pub fn key_at(text: &str, offset: usize) -> String {
    let mut key = String::new();
    if let Ok(table) = DeTable::parse(text) {
        descend(table.get_ref(), offset, &mut key);
    }
    key
}

/// The line on which a key stands, or what is written of it; 0: nothing of it is.
pub fn line_of(text: &str, key: &str) -> usize {
    let Ok(table) = DeTable::parse(text) else { return 0 };
    let mut line = 0;
    let mut table = Some(table.get_ref());
    for part in key.split('.') {
        let (name, places) = split(part);
        let Some((written, value)) =
            table.and_then(|table| table.iter().find(|(written, _)| written.get_ref() == name))
        else {
            break;
        };
        line = line_at(text, written.span().start);
        let mut value = value;
        for place in places {
            let DeValue::Array(items) = value.get_ref() else { break };
            let Some(item) = items.get(place) else { break };
            line = line_at(text, item.span().start);
            value = item;
        }
        table = match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        };
    }
    line
}

/// `points[2]` is a name and places in it.
fn split(part: &str) -> (&str, Vec<usize>) {
    let mut pieces = part.split('[');
    let name = pieces.next().unwrap_or(part);
    (name, pieces.filter_map(|piece| piece.trim_end_matches(']').parse().ok()).collect())
}

/// Adds the keys whose name or value covers `offset`, outermost first. False: none does.
fn descend(table: &DeTable<'_>, offset: usize, key: &mut String) -> bool {
    table.iter().any(|(name, value)| {
        let before = key.len();
        if before > 0 {
            key.push('.');
        }
        key.push_str(name.get_ref());
        // A `[table]` has the span of its header only, so the values are asked first.
        let found = name.span().contains(&offset)
            || within(value.get_ref(), offset, key)
            || value.span().contains(&offset);
        if !found {
            key.truncate(before);
        }
        found
    })
}

fn within(value: &DeValue<'_>, offset: usize, key: &mut String) -> bool {
    match value {
        DeValue::Table(table) => descend(table, offset, key),
        DeValue::Array(items) => items.iter().enumerate().any(|(place, item)| {
            let before = key.len();
            key.push_str(&format!("[{place}]"));
            let found = within(item.get_ref(), offset, key) || item.span().contains(&offset);
            if !found {
                key.truncate(before);
            }
            found
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = \"x\"\n[[crowd]]\nsessions = 1\n[[crowd]]\nsessions = 2\nrate = { points = [\n  [0, 1],\n  [2, 3],\n] }\n";

    #[test]
    fn a_key_has_its_line() {
        for (key, line) in [
            ("name", 1),
            ("crowd", 2),
            ("crowd[1]", 4),
            ("crowd[1].sessions", 5),
            ("crowd[1].rate.points[1]", 8),
            ("crowd[1].burst", 4),
            ("crowd[7].burst", 2),
            ("phases", 0),
        ] {
            assert_eq!(line_of(TEXT, key), line, "{key}");
        }
        assert_eq!(line_of("= 3", "name"), 0);
    }

    #[test]
    fn an_offset_has_its_key() {
        let at = |text: &str| TEXT.find(text).unwrap();
        assert_eq!(key_at(TEXT, at("\"x\"")), "name");
        assert_eq!(key_at(TEXT, at("= 2") + 2), "crowd[1].sessions");
        assert_eq!(key_at(TEXT, at("3]")), "crowd[1].rate.points[1][1]");
        assert_eq!(key_at(TEXT, TEXT.len() + 5), "");
    }
}
