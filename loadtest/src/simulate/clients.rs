//! What a client does when it was refused, got no answer, or waited too long.
//!
//! Obedient clients are our SDK: they come back in their slot or at their time, and otherwise after full jitter that doubles
//! (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). Naive ones are everybody else's: every one to
//! two seconds, whatever they were told.

use buslane_shared::Nanos;

use super::job::{Call, Manner, Sender, Shows};
use super::policy::Told;
use super::random::Random;
use super::scenario::Patience;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;

/// Back-off of a phone: the first, and the most.
const BACKOFF_FIRST: Nanos = 3 * SECOND;
const BACKOFF_MAX: Nanos = 300 * SECOND;

/// Back-off for a person, who waits in front of the screen.
const IMPATIENT_FIRST: Nanos = 500 * MS;

/// When a client notices that its first packet is not answered.
const NOTICE_SILENCE: Nanos = 3 * SECOND;

/// When a person's app sends its first packet again (QUIC's first probe timeout, RFC 9002 section 6.2.2).
const PROBE: Nanos = SECOND;

/// How long a phone that listens waits for an answer, and one that does not.
const PATIENCE_OBEDIENT: Nanos = 10 * SECOND;
const PATIENCE_NAIVE: Nanos = 2 * SECOND;

/// How an attempt ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It was refused, or nothing was said at once.
    Refused(Told),
    /// It was taken, and no answer came in time.
    Unanswered,
}

/// The next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comeback {
    /// When.
    pub at: Nanos,
    /// What it shows.
    pub shows: Shows,
}

/// What the first attempt of a call shows: clients have a pass from their last session.
pub fn first_shows(call: &Call) -> Shows {
    if call.is_login() { Shows::Pass } else { Shows::Session }
}

/// How long this client waits for an answer to an attempt.
pub fn patience(call: &Call, people: &Patience) -> Nanos {
    match (call.sender, call.manner) {
        (Sender::Person, _) => people.attempt,
        (_, Manner::Obedient) => PATIENCE_OBEDIENT,
        (_, Manner::Naive) => PATIENCE_NAIVE,
    }
}

/// What the client does after `attempts` without success; nothing: it gives up.
pub fn comeback(
    call: &Call,
    people: &Patience,
    attempts: u32,
    failed: Failed,
    now: Nanos,
    random: &mut Random,
) -> Option<Comeback> {
    if call.sender == Sender::Liar {
        // It asks for something else soon enough.
        return None;
    }
    if call.sender == Sender::Person {
        return of_person(call, people, attempts, failed, now, random);
    }
    let at = match (call.manner, failed) {
        (Manner::Naive, Failed::Unanswered) => now,
        (Manner::Naive, Failed::Refused(_)) => now + SECOND + random.below(SECOND),
        (Manner::Obedient, Failed::Refused(Told::At(at) | Told::Slot(at))) => at.max(now),
        (Manner::Obedient, Failed::Refused(Told::Nothing)) => {
            now + NOTICE_SILENCE + jitter(BACKOFF_FIRST, attempts, random)
        }
        (Manner::Obedient, _) => now + jitter(BACKOFF_FIRST, attempts, random),
    };
    Some(Comeback { at, shows: shows(call, failed) })
}

fn of_person(
    call: &Call,
    people: &Patience,
    attempts: u32,
    failed: Failed,
    now: Nanos,
    random: &mut Random,
) -> Option<Comeback> {
    if attempts >= people.tries_max {
        return None;
    }
    let at = match (call.manner, failed) {
        (_, Failed::Unanswered) => now,
        (_, Failed::Refused(Told::Nothing)) => now + PROBE,
        (Manner::Naive, _) => now + SECOND + random.below(SECOND),
        (Manner::Obedient, Failed::Refused(Told::At(at) | Told::Slot(at))) => at.max(now),
        (Manner::Obedient, Failed::Refused(Told::Busy)) => now + jitter(IMPATIENT_FIRST, attempts, random),
    };
    (at < call.at + people.total).then(|| Comeback { at, shows: shows(call, failed) })
}

fn shows(call: &Call, failed: Failed) -> Shows {
    match (call.manner, failed) {
        _ if !call.is_login() => Shows::Session,
        (Manner::Obedient, Failed::Refused(Told::Slot(at))) => Shows::Slot(at),
        (Manner::Obedient, _) => Shows::Pass,
        // Its pass is used up, and it has not asked for another.
        (Manner::Naive, _) => Shows::Nothing,
    }
}

fn jitter(first: Nanos, attempts: u32, random: &mut Random) -> Nanos {
    let doublings = attempts.saturating_sub(1).min(16);
    random.below((first << doublings).min(BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::class::{Class, Protocol};

    const PEOPLE: Patience = Patience { attempt: 3 * SECOND, total: 3 * SECOND, tries_max: 4 };

    fn call(sender: Sender, manner: Manner, protocol: Protocol) -> Call {
        Call { at: 0, cost: 1, user: 1, protocol, class: Class::Wake, sender, manner }
    }

    fn next(call: &Call, attempts: u32, failed: Failed) -> Option<Comeback> {
        comeback(call, &PEOPLE, attempts, failed, SECOND, &mut Random::new(1, 1))
    }

    #[test]
    fn who_listens_comes_back_in_its_slot_and_shows_it() {
        let phone = call(Sender::Phone, Manner::Obedient, Protocol::Login);
        let slot = Failed::Refused(Told::Slot(9 * SECOND));
        assert_eq!(next(&phone, 1, slot), Some(Comeback { at: 9 * SECOND, shows: Shows::Slot(9 * SECOND) }));
        let told = Failed::Refused(Told::At(7 * SECOND));
        assert_eq!(next(&phone, 1, told), Some(Comeback { at: 7 * SECOND, shows: Shows::Pass }));
    }

    #[test]
    fn who_is_told_nothing_backs_off_further_each_time() {
        let phone = call(Sender::Phone, Manner::Obedient, Protocol::Login);
        let mut random = Random::new(5, 0);
        let mut mean = |attempts| {
            let sum: Nanos = (0..2_000)
                .filter_map(|_| {
                    comeback(&phone, &PEOPLE, attempts, Failed::Refused(Told::Busy), 0, &mut random)
                })
                .map(|c| c.at)
                .sum();
            sum as f64 / 2_000.0 / SECOND as f64
        };
        let means = [1, 2, 3, 20].map(&mut mean);
        for (found, wanted) in means.into_iter().zip([1.5, 3.0, 6.0, 150.0]) {
            assert!((found / wanted - 1.0).abs() < 0.1, "{means:?}");
        }
    }

    #[test]
    fn who_does_not_listen_is_back_in_a_second_or_two_without_a_pass() {
        let phone = call(Sender::Phone, Manner::Naive, Protocol::Login);
        let back = next(&phone, 1, Failed::Refused(Told::Slot(99 * SECOND))).unwrap();
        assert!((2 * SECOND..3 * SECOND).contains(&back.at) && back.shows == Shows::Nothing, "{back:?}");
        assert_eq!(next(&phone, 99, Failed::Unanswered).map(|c| c.at), Some(SECOND));
    }

    #[test]
    fn a_person_gives_up() {
        let person = call(Sender::Person, Manner::Obedient, Protocol::MessageSend);
        assert_eq!(next(&person, 4, Failed::Unanswered), None);
        assert_eq!(next(&person, 1, Failed::Refused(Told::At(3 * SECOND))), None);
        assert_eq!(
            next(&person, 1, Failed::Refused(Told::At(2 * SECOND))),
            Some(Comeback { at: 2 * SECOND, shows: Shows::Session })
        );
    }
}
