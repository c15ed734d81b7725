//! Times as text: RFC 3339 for scripts, the hour and minute for people.
//!
//! It only formats; it never reads a clock.

use buslane_shared::UnixMs;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `2026-11-21T03:50:16.123Z`.
pub fn rfc3339(ms: UnixMs) -> String {
    at(ms).and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_else(|| ms.to_string())
}

/// `03:50Z`, in UTC.
pub fn hour_minute(ms: UnixMs) -> String {
    at(ms).map_or_else(String::new, |t| format!("{:02}:{:02}Z", t.hour(), t.minute()))
}

/// How long something takes or took, in the unit that people would use: "850 ms", "12 s", "3 min", "5 h", "2 days".
pub fn span(ms: u64) -> String {
    const S: u64 = 1_000;
    const MIN: u64 = 60 * S;
    const HOUR: u64 = 60 * MIN;
    const DAY: u64 = 24 * HOUR;
    const TWO_MIN: u64 = 2 * MIN;
    const TWO_DAYS: u64 = 2 * DAY;
    match ms {
        0..S => format!("{ms} ms"),
        S..TWO_MIN => format!("{} s", ms / S),
        TWO_MIN..HOUR => format!("{} min", ms / MIN),
        HOUR..TWO_DAYS => format!("{} h", ms / HOUR),
        _ => format!("{} days", ms / DAY),
    }
}

fn at(ms: UnixMs) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(1_795_233_016_123), "2026-11-21T03:50:16.123Z");
        assert_eq!(hour_minute(1_795_233_016_123), "03:50Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn spans_are_in_the_unit_that_people_would_use() {
        let said = [0, 999, 1_000, 119_999, 120_000, 3_599_999, 3_600_000, 172_800_000].map(span);
        assert_eq!(said, ["0 ms", "999 ms", "1 s", "119 s", "2 min", "59 min", "1 h", "2 days"]);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_shown_as_its_number() {
        assert_eq!(rfc3339(u64::MAX), u64::MAX.to_string());
        assert_eq!(hour_minute(u64::MAX), "");
    }
}
