//! Figures as people read them: separators, units, and as many digits as say something.
//!
//! A share is never rounded up: what is not all must not read as 100 %.

use crate::storm::result::Summary;

/// What stands in the place of a figure that is absent.
pub const NOT_MEASURED: &str = "not measured";

/// With separators between thousands: `29,000`; small broken numbers keep one digit behind the point.
pub fn count(value: f64) -> String {
    let broken = value.abs() < 10.0 && (value - value.round()).abs() >= 0.05;
    if broken { format!("{value:.1}") } else { grouped(&format!("{value:.0}")) }
}

/// Three digits that count: `0.61`, `12.3`, `1,830`.
pub fn three_digits(value: f64) -> String {
    digits(value, 3)
}

/// So many digits that count, zeros at the end left out.
pub fn digits(value: f64, wanted: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value.is_finite() { "0".to_owned() } else { "∞".to_owned() };
    }
    let before_point = value.abs().log10().floor() as i32 + 1;
    let behind = (wanted - before_point).clamp(0, 9) as usize;
    let text = format!("{value:.behind$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    grouped(text)
}

/// Milliseconds; from ten seconds on, seconds.
pub fn ms(value: f64) -> String {
    if value < 10_000.0 { format!("{} ms", three_digits(value)) } else { seconds(value / 1e3) }
}

/// Seconds.
pub fn seconds(value: f64) -> String {
    format!("{} s", three_digits(value))
}

/// A share as percent, cut off and never rounded up: behind three digits where nearly all is at stake, else behind one.
pub fn percent(share: f64) -> String {
    let steps = if share >= 0.99 { 1_000.0 } else { 10.0 };
    // What a share like 0.9998 cannot express exactly must not cost it a digit.
    let cut = (share * 100.0 * steps + 1e-6).floor() / steps;
    format!("{cut} %")
}

/// A factor: `1.08x`, `13x`.
pub fn times(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{}x", count(ratio)) } else { format!("{}x", three_digits(ratio)) }
}

/// Mebibytes.
pub fn mib(value: f64) -> String {
    format!("{} MiB", three_digits(value))
}

/// A figure with its unit, or that there is none.
pub fn or_not(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), format)
}

/// The first letter large.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Units that stay on the line of their number.
const UNITS: [&str; 5] = ["%", "ms", "s", "MiB", "→"];

/// With spaces that no line is broken at between numbers and their units.
pub fn glued(text: &str) -> String {
    let mut glued = String::with_capacity(text.len());
    for (place, word) in text.split(' ').enumerate() {
        let unit = word.trim_end_matches(['.', ',', ';', ')']);
        if place > 0 {
            glued.push(if UNITS.contains(&unit) { '\u{a0}' } else { ' ' });
        }
        glued.push_str(word);
    }
    glued
}

fn grouped(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, broken) =
        number.split_once('.').map_or((number, None), |(whole, broken)| (whole, Some(broken)));
    let mut text = String::from(sign);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(broken) = broken {
        text.push('.');
        text.push_str(broken);
    }
    text
}

/// How many live sessions the server closed, and what it said to them.
pub fn closed(summary: &Summary) -> String {
    let all = count(summary.live_sessions_closed as f64);
    let because: Vec<String> = summary
        .closed_because
        .iter()
        .map(|(why, number)| format!("{why} {}", count(*number as f64)))
        .collect();
    if because.is_empty() { all } else { format!("{all} ({})", because.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        for (found, wanted) in [
            (count(29_000.4), "29,000"),
            (count(1_234_567.0), "1,234,567"),
            (count(2.5), "2.5"),
            (count(7.0), "7"),
            (count(0.0), "0"),
            (count(-1_500.0), "-1,500"),
            (ms(0.612), "0.612 ms"),
            (ms(0.6), "0.6 ms"),
            (ms(1_830.4), "1,830 ms"),
            (ms(21_400.0), "21.4 s"),
            (ms(0.0), "0 ms"),
            (times(1.0812), "1.08x"),
            (times(13.2), "13x"),
            (times(1_250.0), "1,250x"),
            (digits(0.99998, 6), "0.99998"),
            (digits(f64::INFINITY, 3), "∞"),
            (mib(212.44), "212 MiB"),
            (or_not(None, ms), "not measured"),
        ] {
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn what_is_not_all_does_not_read_as_all() {
        for (share, wanted) in [
            (1.0, "100 %"),
            (0.999_999_9, "99.999 %"),
            (0.9998, "99.98 %"),
            (0.98259, "98.2 %"),
            (0.41, "41 %"),
            (0.0, "0 %"),
        ] {
            assert_eq!(percent(share), wanted);
        }
    }

    #[test]
    fn a_number_keeps_its_unit() {
        assert_eq!(glued("p99 (0.6 ms), 41 %. was so"), "p99 (0.6\u{a0}ms), 41\u{a0}%. was so");
    }

    #[test]
    fn words_are_joined() {
        let words =
            |n: usize| -> Vec<String> { ["a", "b", "c"].map(str::to_owned).into_iter().take(n).collect() };
        assert_eq!((list(&words(0)), list(&words(1))), (String::new(), "a".to_owned()));
        assert_eq!((list(&words(2)), list(&words(3))), ("a and b".to_owned(), "a, b and c".to_owned()));
        assert_eq!((capitalised("während"), capitalised("")), ("Während".to_owned(), String::new()));
    }
}
