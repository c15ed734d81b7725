//! How long a client waits before it tries again. Pure: random numbers (0 to 1) are arguments.
//!
//! An obedient one keeps to the protocol: the server's time wins, in full; otherwise full jitter under a ceiling that doubles.
//! A naive one comes when it likes. It must never wait shorter than an obedient client may.

use std::time::Duration;

use bytes::Bytes;

use crate::storm::net::Turned;

/// Ceiling of the one quick try that the loss of a settled session earns.
const QUICK: Duration = Duration::from_millis(500);

/// First and last ceiling of the back-off of connections.
const CEILING_MIN: Duration = Duration::from_secs(3);
const CEILING_MAX: Duration = Duration::from_secs(300);

/// A naive client comes again after this, and up to twice of it.
const NAIVE: Duration = Duration::from_secs(1);

/// A session that was up for this long has settled.
pub const SETTLED: Duration = Duration::from_secs(5);

/// First and last ceiling of what is added to the server's time before a request goes again.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// A naive client repeats a refused request within this.
const NAIVE_AGAIN: Duration = Duration::from_millis(200);

/// Whether a client listens to what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// It does.
    Obedient,
    /// It does not.
    Naive,
}

/// One client on its way back.
#[derive(Debug)]
pub struct Patience {
    manners: Manners,
    ceiling: Duration,
}

impl Patience {
    /// A session was lost.
    pub fn new(manners: Manners) -> Self {
        Self { manners, ceiling: CEILING_MIN }
    }

    /// Before the first try. `was_up` is how long the session had been up.
    pub fn first(&self, was_up: Duration, random: f64) -> Duration {
        match self.manners {
            Manners::Naive => Duration::ZERO,
            Manners::Obedient if was_up >= SETTLED => QUICK.mul_f64(random),
            Manners::Obedient => self.ceiling.mul_f64(random),
        }
    }

    /// Before the next try, and the slot to show then.
    pub fn on_turned(&mut self, turned: Turned, random: f64) -> (Duration, Option<Bytes>) {
        if self.manners == Manners::Naive {
            return (NAIVE + NAIVE.mul_f64(random), None);
        }
        match turned {
            Turned::PutOff { retry_after, slot } => (retry_after, slot),
            Turned::Refused { retry_after: Some(retry_after), .. } => (retry_after, None),
            _ => {
                let wait = self.ceiling.mul_f64(random);
                self.ceiling = (self.ceiling * 2).min(CEILING_MAX);
                (wait, None)
            }
        }
    }
}

/// Before a request goes again for the `tries`th time (from 1), when the server has named `retry_after` (or nothing: zero).
pub fn again_after(manners: Manners, tries: u32, retry_after: Duration, random: f64) -> Duration {
    match manners {
        Manners::Naive => NAIVE_AGAIN.mul_f64(random),
        Manners::Obedient => {
            let doublings = tries.saturating_sub(1).min(8);
            retry_after + (AGAIN_MIN * (1 << doublings)).min(AGAIN_MAX).mul_f64(random)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn put_off() -> Turned {
        Turned::PutOff { retry_after: 7 * S, slot: Some(Bytes::from_static(&[1; 20])) }
    }

    #[test]
    fn the_servers_time_wins() {
        let mut patience = Patience::new(Manners::Obedient);
        assert_eq!(patience.on_turned(put_off(), 0.1), (7 * S, Some(Bytes::from_static(&[1; 20]))));
        let refused = Turned::Refused { name: "draining", retry_after: Some(2 * S) };
        assert_eq!(patience.on_turned(refused, 0.1), (2 * S, None));
    }

    #[test]
    fn without_an_answer_the_ceiling_doubles() {
        let mut patience = Patience::new(Manners::Obedient);
        let waits: Vec<u64> = (0..9).map(|_| patience.on_turned(Turned::Silence, 1.0).0.as_secs()).collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 96, 192, 300, 300]);
        assert_eq!(patience.on_turned(Turned::Failed("reset"), 0.0).0, Duration::ZERO);
    }

    #[test]
    fn a_settled_session_earns_a_quick_try() {
        let patience = Patience::new(Manners::Obedient);
        assert_eq!(patience.first(SETTLED, 1.0), QUICK);
        assert_eq!(patience.first(S, 1.0), CEILING_MIN);
        assert_eq!(Patience::new(Manners::Naive).first(S, 1.0), Duration::ZERO);
    }

    #[test]
    fn a_naive_client_does_not_listen() {
        let mut patience = Patience::new(Manners::Naive);
        assert_eq!(patience.on_turned(put_off(), 0.5), (S + S / 2, None));
        assert_eq!(again_after(Manners::Naive, 1, 9 * S, 1.0), NAIVE_AGAIN);
    }

    #[test]
    fn a_request_goes_again_after_its_time_and_some_jitter() {
        for (tries, random, ms) in [(1, 0.0, 1_000), (1, 1.0, 1_250), (2, 1.0, 1_500), (40, 1.0, 6_000)] {
            let wait = again_after(Manners::Obedient, tries, S, random);
            assert_eq!(wait, Duration::from_millis(ms), "try {tries}");
        }
    }
}
