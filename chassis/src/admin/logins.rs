//! How often the same right may begin page sessions.
//!
//! Why it exists: each login is an entry of the audit, which is on the disk before anything else is written there, and which gives up its oldest
//! files for new ones. Whoever may only look must not be able to hold up those who act, nor to push out what they did. People are never met by it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Logins are counted for this long.
const WINDOW: Duration = Duration::from_secs(60);

/// Logins of one right in a [`WINDOW`]: a team that shares the token of the folder, each with a few browsers.
pub(super) const LOGINS_MAX: u32 = 30;

/// Rights that are counted at a time; more than there are tokens. Beyond that everybody waits until one is forgotten.
const RIGHTS_MAX: usize = 1_024;

/// Logins, counted by whose they are.
#[derive(Default)]
pub(super) struct Logins(HashMap<String, Count>);

struct Count {
    since: Instant,
    count: u32,
}

impl Logins {
    /// Counts a login with this right; the seconds to wait where there were too many.
    pub(super) fn on_login(&mut self, right: &str, now: Instant) -> Result<(), u64> {
        self.0.retain(|_, count| now.duration_since(count.since) < WINDOW);
        if self.0.len() >= RIGHTS_MAX && !self.0.contains_key(right) {
            return Err(WINDOW.as_secs());
        }
        let count = self.0.entry(right.to_owned()).or_insert(Count { since: now, count: 0 });
        count.count = count.count.saturating_add(1);
        if count.count <= LOGINS_MAX {
            return Ok(());
        }
        Err(WINDOW.saturating_sub(now.duration_since(count.since)).as_secs().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_has_so_many_in_a_minute_and_others_do_not_pay() {
        let (mut logins, mut now) = (Logins::default(), Instant::now());
        for _ in 0..LOGINS_MAX {
            assert_eq!(logins.on_login("token kim", now), Ok(()));
        }
        assert_eq!(logins.on_login("token kim", now), Err(60));
        assert_eq!(logins.on_login("token lee", now), Ok(()));
        now += WINDOW - Duration::from_millis(1);
        assert_eq!(logins.on_login("token kim", now), Err(1));
        now += Duration::from_millis(1);
        assert_eq!(logins.on_login("token kim", now), Ok(()));
        assert_eq!(logins.0.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut logins, now) = (Logins::default(), Instant::now());
        for no in 0..RIGHTS_MAX {
            assert_eq!(logins.on_login(&no.to_string(), now), Ok(()));
        }
        assert_eq!(logins.on_login("one more", now), Err(60));
        assert_eq!(logins.on_login("0", now), Ok(()));
    }
}
