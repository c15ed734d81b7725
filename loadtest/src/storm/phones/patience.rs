//! What a client that wants in was told, and when it tries again. Pure; `now` and random numbers are arguments.
//!
//! An obedient one keeps to the protocol: it waits for as long as it was told, shows its slot in its time, and without an answer
//! waits a random time below a ceiling that doubles. A naive one comes again after a second or two, whatever it was told.

use std::time::{Duration, Instant};

use buslane_shared::backoff::{Policy, wait_after};
use bytes::Bytes;
use rand::Rng;

use crate::storm::net::Turned;
use crate::storm::scenario::Side;

/// Who comes later than this after the time of a slot is one without; the servers' own default.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A naive client comes again between these.
const NAIVE_MIN: Duration = Duration::from_secs(1);
const NAIVE_MAX: Duration = Duration::from_secs(2);

/// How a client takes being told to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It waits.
    Obedient,
    /// It does not.
    Naive,
}

/// The state of one client on its way in.
#[derive(Debug)]
pub struct Patience {
    /// Whether it does what it is told.
    pub manner: Manner,
    /// Tries so far.
    pub tries: u32,
    /// Whether it was ever put off with a slot.
    pub was_deferred: bool,
    side: Side,
    slot: Option<Slot>,
    failures: u32,
    /// Session managers that sent it on to the next one since it last waited.
    sent_on: usize,
}

#[derive(Debug)]
struct Slot {
    mark: Bytes,
    at: Instant,
}

impl Patience {
    /// Before the first try.
    pub fn new(manner: Manner, side: Side) -> Self {
        Self { manner, side, tries: 0, was_deferred: false, slot: None, failures: 0, sent_on: 0 }
    }

    /// A try begins: the slot to show, if its time is now.
    pub fn begin(&mut self, now: Instant) -> Option<Bytes> {
        self.tries += 1;
        let slot = self.slot.take()?;
        (slot.at <= now && now <= slot.at + TOLERANCE).then_some(slot.mark)
    }

    /// It was turned away at `now`, and knows so many session managers: how long it waits.
    pub fn wait_after(
        &mut self,
        turned: &Turned,
        managers: usize,
        now: Instant,
        random: &mut impl Rng,
    ) -> Duration {
        if let Turned::PutOff { slot: Some(_), .. } = turned {
            self.was_deferred = true;
        }
        if self.manner == Manner::Naive {
            return random.random_range(NAIVE_MIN..NAIVE_MAX);
        }
        if self.is_sent_on(turned, managers) {
            return Duration::ZERO;
        }
        self.sent_on = 0;
        let wait = turned.retry_after().unwrap_or_else(|| {
            self.failures += 1;
            wait_after(&Policy::default(), self.failures - 1, None, random.next_u64())
        });
        // What phones are told does not hold for the person who opens one: no slot is shown then.
        if let (Turned::PutOff { slot: Some(mark), .. }, Side::Background) = (turned, self.side) {
            self.slot = Some(Slot { mark: mark.clone(), at: now + wait });
        }
        wait
    }

    /// There is another session manager that was not tried since the last wait.
    fn is_sent_on(&mut self, turned: &Turned, managers: usize) -> bool {
        let stays = match turned {
            Turned::PutOff { slot, .. } => slot.is_some(),
            Turned::Refused { name, .. } => !matches!(*name, "draining" | "unavailable"),
            Turned::Silence | Turned::Failed(_) => false,
        };
        self.sent_on += usize::from(!stays);
        !stays && self.sent_on < managers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const SLOT: Bytes = Bytes::from_static(&[7; 20]);

    fn put_off(ms: u64) -> Turned {
        Turned::PutOff { retry_after: Duration::from_millis(ms), slot: Some(SLOT) }
    }

    #[test]
    fn who_listens_waits_as_told_and_shows_the_slot_in_its_time() {
        let (now, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut patience = Patience::new(Manner::Obedient, Side::Background);
        assert_eq!(patience.begin(now), None);
        let wait = patience.wait_after(&put_off(1_500), 1, now, &mut random);
        assert_eq!((wait, patience.was_deferred), (Duration::from_millis(1_500), true));
        assert_eq!(patience.begin(now + wait), Some(SLOT));
        assert_eq!(patience.begin(now + wait), None, "a slot is shown once");
        let wait = patience.wait_after(&put_off(10), 1, now, &mut random);
        assert_eq!(patience.begin(now + wait + TOLERANCE * 2), None, "too late is as without one");
        assert_eq!(patience.tries, 4);
    }

    #[test]
    fn a_person_shows_no_slot() {
        let (now, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut patience = Patience::new(Manner::Obedient, Side::Foreground);
        let wait = patience.wait_after(&put_off(5), 1, now, &mut random);
        assert_eq!((wait, patience.begin(now + wait)), (Duration::from_millis(5), None));
    }

    #[test]
    fn who_does_not_listen_comes_after_a_second_or_two_without_a_slot() {
        let (now, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut patience = Patience::new(Manner::Naive, Side::Background);
        for turned in [put_off(60_000), Turned::Silence, Turned::Failed("reset")] {
            let wait = patience.wait_after(&turned, 1, now, &mut random);
            assert!((NAIVE_MIN..NAIVE_MAX).contains(&wait), "{wait:?}");
            assert_eq!(patience.begin(now + wait), None);
        }
        assert!(patience.was_deferred);
    }

    #[test]
    fn silence_is_answered_by_a_ceiling_that_doubles() {
        let (now, mut random) = (Instant::now(), StdRng::seed_from_u64(7));
        let mut sums = [Duration::ZERO; 4];
        for _ in 0..500 {
            let mut patience = Patience::new(Manner::Obedient, Side::Background);
            for sum in &mut sums {
                *sum += patience.wait_after(&Turned::Silence, 1, now, &mut random) / 500;
            }
        }
        for (sum, mean_s) in sums.iter().zip([1.5, 3.0, 6.0, 12.0]) {
            assert!((sum.as_secs_f64() / mean_s - 1.0).abs() < 0.15, "{sum:?}");
        }
    }

    #[test]
    fn the_next_session_manager_is_tried_at_once_and_each_of_them_once() {
        let (now, mut random) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut patience = Patience::new(Manner::Obedient, Side::Background);
        let mut wait = |turned: &Turned| patience.wait_after(turned, 2, now, &mut random);
        let (drained, at) = (Some(Duration::from_secs(9)), Duration::from_secs(9));
        let draining = Turned::Refused { name: "draining", retry_after: drained };
        let limited = Turned::Refused { name: "rate_limited", retry_after: drained };
        assert_eq!([wait(&draining), wait(&draining)], [Duration::ZERO, at]);
        assert_eq!([wait(&Turned::Silence), wait(&draining)], [Duration::ZERO, at]);
        assert_eq!([wait(&limited), wait(&put_off(9_000))], [at, at]);
    }
}
