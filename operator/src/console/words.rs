//! Numbers and times as people read them; `format.js` writes them in the same way.

use std::fmt::Write;

use buslane_shared::UnixMs;
use time::OffsetDateTime;

/// What is not known.
pub(super) const NONE: &str = "–";

/// "12.4k", "1,240", "0.4".
pub(super) fn count(value: f64) -> String {
    match value {
        v if !v.is_finite() => NONE.to_owned(),
        v if v >= 999_500.0 => format!("{:.2}M", v / 1e6),
        v if v >= 10_000.0 => format!("{:.1}k", v / 1e3),
        v if v >= 1_000.0 => grouped(v),
        v if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        v if v < 0.05 => "0".to_owned(),
        v => format!("{v:.1}"),
    }
}

fn grouped(value: f64) -> String {
    let text = format!("{value:.0}");
    match text.split_at_checked(text.len().saturating_sub(3)) {
        Some((thousands, rest)) if !thousands.is_empty() => format!("{thousands},{rest}"),
        _ => text,
    }
}

/// "1,240/s".
pub(super) fn rate(per_s: f64) -> String {
    format!("{}/s", count(per_s))
}

/// "99.9 %", and never 100 % where something is missing.
pub(super) fn percent(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return NONE.to_owned();
    }
    match (part / whole).clamp(0.0, 1.0) * 100.0 {
        all if all >= 100.0 => "100 %".to_owned(),
        most if most >= 99.99 => "99.99 %".to_owned(),
        most if most > 99.9 => "99.9 %".to_owned(),
        most if most >= 99.5 => format!("{:.1} %", (most * 10.0).floor() / 10.0),
        some => format!("{some:.0} %"),
    }
}

/// "0.42 ms", "180 ms", "2.1 s".
pub(super) fn micros(us: Option<u64>) -> String {
    // Beyond 2^52 microseconds a century is missed by one.
    #[allow(clippy::cast_precision_loss)]
    match us {
        None => NONE.to_owned(),
        Some(us) if us < 10_000 => format!("{:.2} ms", us as f64 / 1e3),
        Some(us) if us < 1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        Some(us) => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// "312 MiB".
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// "14:05:09 UTC": who renders does not know where the reader is.
pub(super) fn clock(at_ms: UnixMs) -> String {
    moment(at_ms).map_or_else(
        || NONE.to_owned(),
        |at| format!("{:02}:{:02}:{:02} UTC", at.hour(), at.minute(), at.second()),
    )
}

/// "2026-11-21 14:05:09 UTC".
pub(super) fn date(at_ms: UnixMs) -> String {
    moment(at_ms).map_or_else(|| NONE.to_owned(), |at| format!("{} {}", at.date(), clock(at_ms)))
}

fn moment(at_ms: UnixMs) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(at_ms / 1_000).ok()?).ok()
}

/// A value in the query of an address.
pub(super) fn in_query(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_better_than_they_are() {
        let counts = [0.0, 0.01, 0.44, 7.0, 99.6, 640.4, 1_240.0, 12_400.0, 2_500_000.0].map(count);
        assert_eq!(counts, ["0", "0", "0.4", "7", "99.6", "640", "1,240", "12.4k", "2.50M"]);
        let shares = [1.0, 0.999_999, 0.9995, 0.996, 0.5, 0.0].map(|part| percent(part, 1.0));
        assert_eq!(shares, ["100 %", "99.99 %", "99.9 %", "99.6 %", "50 %", "0 %"]);
        assert_eq!(percent(0.0, 0.0), NONE);
        assert_eq!(
            [Some(420), Some(180_000), Some(2_100_000), None].map(micros),
            ["0.42 ms", "180 ms", "2.1 s", NONE]
        );
    }

    #[test]
    fn times_are_utc_and_say_so() {
        assert_eq!(clock(1_763_733_909_000), "14:05:09 UTC");
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(clock(u64::MAX), NONE);
    }

    #[test]
    fn nothing_breaks_out_of_a_query() {
        assert_eq!(in_query("sm1&x=\"<ü>"), "sm1%26x%3D%22%3C%C3%BC%3E");
    }
}
