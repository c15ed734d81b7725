//! How many packets are due. Pure; `now` is an argument.

use std::time::{Duration, Instant};

/// What is later than this is not sent any more: after a pause of the driver the rate stays what it is.
const LATE_MAX: Duration = Duration::from_millis(50);

/// As many as the driver can send.
const UNBOUNDED: usize = usize::MAX;

/// The pace of a flood.
#[derive(Debug)]
pub struct Pace {
    /// 0: as many as can be.
    per_s: u32,
    begin: Instant,
    /// Sent or given up.
    done: u64,
    missed: u64,
}

impl Pace {
    /// So many a second from `begin` on; 0: as many as can be.
    pub fn new(per_s: u32, begin: Instant) -> Self {
        Self { per_s, begin, done: 0, missed: 0 }
    }

    /// Packets that are due and not sent.
    pub fn due(&mut self, now: Instant) -> usize {
        if self.per_s == 0 {
            return UNBOUNDED;
        }
        let since = now.saturating_duration_since(self.begin);
        let too_late = self.until(since.saturating_sub(LATE_MAX));
        if too_late > self.done {
            self.missed += too_late - self.done;
            self.done = too_late;
        }
        usize::try_from(self.until(since).saturating_sub(self.done)).unwrap_or(UNBOUNDED)
    }

    /// So many were sent.
    pub fn on_sent(&mut self, count: usize) {
        self.done += count as u64;
    }

    /// Packets that were due and were given up.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn until(&self, since: Duration) -> u64 {
        (since.as_secs_f64() * f64::from(self.per_s)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_given_up_and_the_rate_is_kept() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut pace = Pace::new(1_000, begin);
        for (ms, due, sent, missed) in [
            (0, 0, 0, 0),
            (10, 10, 10, 0),
            (20, 10, 4, 0),
            (30, 16, 16, 0),
            // A pause of 170 ms: 50 of it are made up for.
            (200, 50, 50, 120),
            (201, 1, 1, 120),
        ] {
            assert_eq!((pace.due(at(ms)), pace.missed()), (due, missed), "{ms}");
            pace.on_sent(sent);
        }
        assert_eq!(Pace::new(0, begin).due(begin), UNBOUNDED);
        assert_eq!(Pace::new(7, at(1_000)).due(begin), 0);
    }
}
