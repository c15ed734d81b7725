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
    fn a_time_beyond_the_calendar_is_shown_as_its_number() {
        assert_eq!(rfc3339(u64::MAX), u64::MAX.to_string());
        assert_eq!(hour_minute(u64::MAX), "");
    }
}
