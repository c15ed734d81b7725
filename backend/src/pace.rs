//! Rates: how often one user may send, change things, and guess.
//!
//! Why it exists: a person types one message a second; a program in a loop types ten thousand. A limit is checked and
//! taken in one step, the user's before the room's. The number of users remembered is bounded: whoever did nothing
//! lately is forgotten, for a full bucket needs no memory.

use std::num::NonZeroU32;
use std::time::Duration;

use buslane_shared::id::UserId;
use buslane_shared::refusal::{Code, Refusal};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::Limits;

/// Users remembered by one limit: far more than are active in the seconds that a bucket needs to fill again; 64 bytes each.
const USERS_REMEMBERED_MAX: usize = 200_000;

/// Guesses of an enrolment code for one user name at once: typing errors of a person.
const GUESSES_BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Time for one more guess: 65 bits of code make that hopeless.
const GUESS_EVERY: Duration = Duration::from_secs(10);

/// Codes that one user makes at once: as many devices as he may have.
const CODES_BURST: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// Time for one more code.
const CODE_EVERY: Duration = Duration::from_secs(60);

/// One limit, for each user.
struct ByUser(Option<DefaultKeyedRateLimiter<UserId>>);

impl ByUser {
    fn new(quota: Option<Quota>) -> Self {
        Self(quota.map(RateLimiter::keyed))
    }

    fn take(&self, user: &UserId, what: &str) -> Result<(), Refusal> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        if limiter.len() > USERS_REMEMBERED_MAX {
            limiter.retain_recent();
        }
        limiter
            .check_key(user)
            .map_err(|until| too_fast(what, until.wait_time_from(DefaultClock::default().now())))
    }
}

/// The limits of all users.
pub(crate) struct Pace {
    sends: ByUser,
    changes: ByUser,
    guesses: ByUser,
    codes: ByUser,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        let slow = |every, burst| Quota::with_period(every).map(|q| q.allow_burst(burst));
        Self {
            sends: ByUser::new(quota(limits.user_sends_per_s, limits.user_sends_burst)),
            changes: ByUser::new(quota(limits.user_changes_per_s, limits.user_changes_burst)),
            guesses: ByUser::new(slow(GUESS_EVERY, GUESSES_BURST)),
            codes: ByUser::new(slow(CODE_EVERY, CODES_BURST)),
        }
    }

    /// One message of a user.
    pub(crate) fn send(&self, user: &UserId) -> Result<(), Refusal> {
        self.sends.take(user, "messages")
    }

    /// One change of a user.
    pub(crate) fn change(&self, user: &UserId) -> Result<(), Refusal> {
        self.changes.take(user, "changes")
    }

    /// One guess of an enrolment code for a name.
    pub(crate) fn guess(&self, user: &UserId) -> Result<(), Refusal> {
        self.guesses.take(user, "attempts to enrol")
    }

    /// One enrolment code of a user.
    pub(crate) fn code(&self, user: &UserId) -> Result<(), Refusal> {
        self.codes.take(user, "codes")
    }
}

/// The limit of one room.
pub(crate) struct RoomPace(Option<DefaultDirectRateLimiter>);

impl RoomPace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(quota(limits.room_sends_per_s, limits.room_sends_burst).map(RateLimiter::direct))
    }

    /// One message into the room.
    pub(crate) fn send(&self) -> Result<(), Refusal> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        let now = DefaultClock::default().now();
        limiter.check().map_err(|until| too_fast("messages in this room", until.wait_time_from(now)))
    }
}

fn quota(per_s: u32, burst: u32) -> Option<Quota> {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    NonZeroU32::new(per_s).map(|per_s| Quota::per_second(per_s).allow_burst(burst))
}

fn too_fast(what: &str, wait: Duration) -> Refusal {
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    Refusal::new(Code::RateLimited, format!("too many {what}; wait {wait_ms} ms")).retry_after_ms(wait_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> UserId {
        format!("u{n}").parse().unwrap()
    }

    #[test]
    fn a_burst_passes_then_the_refusal_says_when() {
        let limits = Limits { user_sends_per_s: 1, user_sends_burst: 3, ..Limits::default() };
        let pace = Pace::new(&limits);
        assert!((0..3).all(|_| pace.send(&user(1)).is_ok()));
        let refusal = pace.send(&user(1)).unwrap_err();
        assert_eq!(refusal.code, Code::RateLimited);
        assert!((1..=1000).contains(&refusal.retry_after_ms), "{}", refusal.retry_after_ms);
        assert!(pace.send(&user(2)).is_ok(), "another user has a bucket of his own");
    }

    #[test]
    fn off_is_off() {
        let pace = Pace::new(&Limits::off());
        assert!((0..100_000).all(|_| pace.send(&user(1)).is_ok()));
        let room = RoomPace::new(&Limits::off());
        assert!((0..100_000).all(|_| room.send().is_ok()));
    }

    #[test]
    fn guesses_are_few_whatever_the_configuration() {
        let pace = Pace::new(&Limits::off());
        let passed = (0..100).filter(|_| pace.guess(&user(1)).is_ok()).count();
        assert_eq!(passed, GUESSES_BURST.get() as usize);
    }

    #[test]
    fn the_room_has_a_limit_of_its_own() {
        let room = RoomPace::new(&Limits { room_sends_per_s: 1, room_sends_burst: 2, ..Limits::default() });
        assert_eq!((0..10).filter(|_| room.send().is_ok()).count(), 2);
    }
}
