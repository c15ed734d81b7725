//! Whether a user wants to be notified of a message, by the settings of the room: mode, mentions, quiet hours.
//!
//! It only ever decides about the notification; the message itself is delivered in any case.

use crate::UnixMs;
use crate::refusal::Refusal;
use crate::wire::{NotifyMode, NotifySettings};

/// Minutes of a day; quiet hours are given in minutes after midnight.
pub const MINUTES_PER_DAY: u32 = 24 * 60;

/// Furthest time zone from UTC, in minutes.
pub const UTC_OFFSET_MAX: i32 = 14 * 60;

/// Whether a message calls for a notification.
pub fn wants(settings: &NotifySettings, mentioned: bool, now_ms: UnixMs) -> bool {
    let by_mode = match settings.mode() {
        NotifyMode::Unspecified | NotifyMode::All => true,
        NotifyMode::Mentions => mentioned,
        NotifyMode::None => false,
    };
    by_mode && !is_quiet(settings, now_ms)
}

/// Whether `now` lies in the quiet hours of the user's own time zone. They include their first minute, not their last,
/// and may go over midnight.
pub fn is_quiet(settings: &NotifySettings, now_ms: UnixMs) -> bool {
    let (from, to) = (settings.quiet_from, settings.quiet_to);
    let minutes_utc = (now_ms / 60_000) as i64;
    let minute = (minutes_utc + i64::from(settings.utc_offset)).rem_euclid(i64::from(MINUTES_PER_DAY)) as u32;
    if from <= to { (from..to).contains(&minute) } else { minute >= from || minute < to }
}

/// Checks settings that a client sends.
pub fn check(settings: &NotifySettings) -> Result<(), Refusal> {
    if settings.quiet_from >= MINUTES_PER_DAY || settings.quiet_to >= MINUTES_PER_DAY {
        return Err(Refusal::field("settings", "quiet hours are minutes after midnight, 0 to 1439"));
    }
    if settings.utc_offset.abs() > UTC_OFFSET_MAX {
        return Err(Refusal::field("settings", "utc_offset is in minutes, -840 to 840"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn settings(mode: NotifyMode, quiet_from: u32, quiet_to: u32, utc_offset: i32) -> NotifySettings {
        NotifySettings { mode: mode.into(), quiet_from, quiet_to, utc_offset }
    }

    #[test]
    fn mode_and_mention() {
        let table = [
            (NotifyMode::Unspecified, true, true),
            (NotifyMode::All, true, true),
            (NotifyMode::Mentions, false, true),
            (NotifyMode::None, false, false),
        ];
        for (mode, plain, mentioned) in table {
            let s = settings(mode, 0, 0, 0);
            assert_eq!((wants(&s, false, 0), wants(&s, true, 0)), (plain, mentioned), "{mode:?}");
        }
    }

    #[test]
    fn quiet_hours_wrap_around_midnight_and_follow_the_time_zone() {
        let night = settings(NotifyMode::All, 22 * 60, 7 * 60, 0);
        let at = |hour: u64, minute: u64| (hour * 60 + minute) * MINUTE_MS;
        for (time, quiet) in
            [(at(21, 59), false), (at(22, 0), true), (at(0, 0), true), (at(6, 59), true), (at(7, 0), false)]
        {
            assert_eq!(is_quiet(&night, time), quiet, "{time}");
        }
        let seoul = settings(NotifyMode::All, 22 * 60, 7 * 60, 9 * 60);
        assert!(is_quiet(&seoul, at(14, 0)), "23:00 in Seoul");
        assert!(!is_quiet(&seoul, at(23, 0)), "08:00 in Seoul");
        let west = settings(NotifyMode::All, 22 * 60, 7 * 60, -8 * 60);
        assert!(is_quiet(&west, at(6, 0)), "22:00 the day before");
    }

    #[test]
    fn equal_ends_mean_no_quiet_hours() {
        let s = settings(NotifyMode::All, 600, 600, 0);
        assert!((0..1440).all(|m| !is_quiet(&s, m * MINUTE_MS)));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(check(&settings(NotifyMode::All, 1440, 0, 0)).is_err());
        assert!(check(&settings(NotifyMode::All, 0, 1440, 0)).is_err());
        assert!(check(&settings(NotifyMode::All, 0, 0, 841)).is_err());
        assert!(check(&settings(NotifyMode::All, 0, 0, -841)).is_err());
        assert!(check(&settings(NotifyMode::All, 0, 1439, -840)).is_ok());
    }

    proptest! {
        #[test]
        fn a_day_has_exactly_the_quiet_minutes(from in 0u32..1440, to in 0u32..1440, offset in -840i32..=840) {
            let s = settings(NotifyMode::All, from, to, offset);
            let quiet = (0..1440u64).filter(|m| is_quiet(&s, m * MINUTE_MS)).count() as u32;
            prop_assert_eq!(quiet, (to + 1440 - from) % 1440);
        }
    }
}
