//! Text of others in a page: scenario files, machines and servers may say what they like, and it stays text.

use serde::Serialize;

/// For HTML and XML, in elements and in quoted attributes. What neither may contain is left out.
pub fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for letter in raw.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(letter),
            _ if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {}
            _ => safe.push(letter),
        }
    }
    safe
}

/// For a terminal: nothing that moves its cursor or changes its colours.
pub fn line(raw: &str) -> String {
    raw.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Data for the script of the page, inside a `script` element.
pub fn data(value: &impl Serialize) -> String {
    // No text in it can end the element.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()).replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hostile_is_left() {
        assert_eq!(text("<b a='1\"'>&\u{0}\u{1b}[31m"), "&lt;b a=&#39;1&quot;&#39;&gt;&amp;[31m");
        assert_eq!(line("a\u{1b}[31m\r\nb"), "a [31m  b");
        assert_eq!(data(&"</script>"), "\"\\u003c/script>\"");
    }
}
