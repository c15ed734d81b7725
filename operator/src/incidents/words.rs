//! Text that came from outside, made fit to be kept and shown: one line, no control characters, bounded.
//!
//! Why it exists: a reason or the name of a deploy ends up in files, messages and reports. Whoever shows it still escapes it for
//! the place where it is shown; this only takes what is meant to deceive the eye or the file. It must never refuse anything.

use buslane_shared::UnixMs;
use time::OffsetDateTime;

/// One line of at most `chars_max` characters, without control characters and without marks that turn the direction of text.
pub(crate) fn tidy(text: &str, chars_max: usize) -> String {
    let clean: String = text.chars().map(|c| if deceives(c) { ' ' } else { c }).collect();
    let mut words: Vec<&str> = Vec::new();
    words.extend(clean.split_whitespace());
    let line = words.join(" ");
    match line.char_indices().nth(chars_max) {
        None => line,
        Some(_) => {
            let kept: String = line.chars().take(chars_max.saturating_sub(1)).collect();
            format!("{kept}…")
        }
    }
}

/// What is wrong, and what was measured: two parts of an alert in one line.
pub(crate) fn with_why(title: &str, why: &str) -> String {
    match (why.is_empty(), title.ends_with(['.', '!', '?'])) {
        (true, _) => title.to_owned(),
        (false, true) => format!("{title} {why}"),
        (false, false) => format!("{title}: {why}"),
    }
}

/// Controls, separators of lines, and marks of direction and of nothing (Unicode's "Trojan source").
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A point in time for people, in UTC: "2026-01-01 00:03:12".
pub(crate) fn utc(at_ms: UnixMs) -> String {
    let seconds = i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX);
    let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else { return format!("{at_ms} ms") };
    let (date, clock) = (at.date(), utc_clock(at));
    format!("{:04}-{:02}-{:02} {clock}", date.year(), u8::from(date.month()), date.day())
}

/// The same as RFC 3339 has it.
pub(crate) fn rfc3339(at_ms: UnixMs) -> String {
    format!("{}.{:03}Z", utc(at_ms).replacen(' ', "T", 1), at_ms % 1_000)
}

fn utc_clock(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

/// A span for people: "12 s", "4 min 10 s", "3 h 5 min".
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_bounded_line() {
        assert_eq!(tidy("  a\r\nb\tc\u{1b}[31m ", 80), "a b c [31m");
        assert_eq!(tidy("user\u{202e}txt.exe\u{2028}x", 80), "user txt.exe x");
        assert_eq!(tidy("äöüß", 3), "äö…");
        assert_eq!(tidy("äöü", 3), "äöü");
        assert_eq!(tidy("\u{0}\u{200b}", 3), "");
    }

    #[test]
    fn a_title_and_a_reason_are_told_apart() {
        assert_eq!(
            with_why("EMERGENCY holds", "sm1: logins 5.2 over 3.0"),
            "EMERGENCY holds: sm1: logins 5.2 over 3.0"
        );
        assert_eq!(with_why("It fails.", "3 of 5"), "It fails. 3 of 5");
        assert_eq!(with_why("It fails", ""), "It fails");
    }

    #[test]
    fn times_are_in_utc_and_spans_are_short() {
        assert_eq!(utc(1_767_225_792_123), "2026-01-01 00:03:12");
        assert_eq!(rfc3339(1_767_225_792_123), "2026-01-01T00:03:12.123Z");
        assert_eq!(utc(u64::MAX), format!("{} ms", u64::MAX));
        for (ms, said) in [
            (999, "0 s"),
            (12_000, "12 s"),
            (250_000, "4 min 10 s"),
            (240_000, "4 min"),
            (11_100_000, "3 h 5 min"),
            (7_200_000, "2 h"),
        ] {
            assert_eq!(span(ms), said);
        }
    }
}
