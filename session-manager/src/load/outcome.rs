//! What becomes of what is asked for, as a small closed set: labels of counts, and a byte in what a session remembers.

use buslane_shared::overload::lanes::Why;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer::Result as Answered};

/// What became of a request or a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done, or the answer was that it is wrong.
    Served,
    /// It was told to come back at a time of its own.
    Deferred,
    /// It was refused otherwise.
    Refused(Reason),
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its level is not admitted now.
    Level,
    /// The lanes had no seat for it.
    Lane(Why),
    /// There was no place for one more handshake.
    Door,
    /// Strangers are not answered now.
    Silence,
    /// The session is behind: its mailbox, or what waits for all of them, is full.
    Behind,
    /// With this code.
    Code(Code),
}

/// Codes that are reasons of their own; all others are one.
const CODES: [Code; 22] = [
    Code::Busy,
    Code::Deadline,
    Code::Internal,
    Code::RateLimited,
    Code::Draining,
    Code::Unavailable,
    Code::Timeout,
    Code::DiskFull,
    Code::StoreStopped,
    Code::TooManyInFlight,
    Code::OutOfOrder,
    Code::TicketExpired,
    Code::BadTicket,
    Code::BadProof,
    Code::BadSlot,
    Code::Revoked,
    Code::BadVersion,
    Code::BadField,
    Code::Malformed,
    Code::HelloRequired,
    Code::Unsupported,
    Code::Cancelled,
];

/// Reasons that are no codes.
const OWN: usize = 4 + Why::ALL.len();

/// How many outcomes there are.
pub(crate) const OUTCOMES: usize = 2 + OWN + CODES.len() + 1;

impl Outcome {
    /// What an answer of the backend is. A refusal that may be no refusal later says something about the system; any other about
    /// the request, and is an answer like all others.
    pub(crate) fn of(answer: &wire::Answer) -> Self {
        match &answer.result {
            Some(Answered::Refusal(refusal)) if refusal.code().retryable() => {
                Self::Refused(Reason::Code(refusal.code()))
            }
            _ => Self::Served,
        }
    }

    /// Every outcome that is a refusal.
    pub(crate) fn refusals() -> impl Iterator<Item = Self> {
        (2..OUTCOMES).map(Self::at)
    }

    /// Its place among all of them.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Served => 0,
            Self::Deferred => 1,
            Self::Refused(reason) => 2 + reason.index(),
        }
    }

    /// The outcome with this place.
    pub(crate) fn at(index: usize) -> Self {
        match index {
            0 => Self::Served,
            1 => Self::Deferred,
            _ => Self::Refused(Reason::at(index - 2)),
        }
    }

    /// Its name, for people and as a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Served => "admitted",
            Self::Deferred => "deferred",
            Self::Refused(reason) => reason.name(),
        }
    }
}

impl Reason {
    fn index(self) -> usize {
        match self {
            Self::Level => 0,
            Self::Door => 1,
            Self::Silence => 2,
            Self::Behind => 3,
            Self::Lane(why) => 4 + Why::ALL.iter().position(|w| *w == why).unwrap_or(0),
            Self::Code(code) => OWN + CODES.iter().position(|c| *c == code).unwrap_or(CODES.len()),
        }
    }

    fn at(index: usize) -> Self {
        match index {
            0 => Self::Level,
            1 => Self::Door,
            2 => Self::Silence,
            3 => Self::Behind,
            _ => {
                let lane = Why::ALL.get(index - 4).copied().map(Self::Lane);
                let code = || index.checked_sub(OWN).and_then(|at| CODES.get(at)).copied();
                lane.unwrap_or_else(|| Self::Code(code().unwrap_or(Code::Unspecified)))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Door => "door",
            Self::Silence => "silence",
            Self::Behind => "behind",
            Self::Lane(why) => why.name(),
            Self::Code(Code::Unspecified) => "other",
            Self::Code(code) => code.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use buslane_shared::refusal::Refusal;

    use super::*;

    #[test]
    fn every_outcome_has_a_place_and_a_name_of_its_own() {
        for index in 0..OUTCOMES {
            assert_eq!(Outcome::at(index).index(), index);
        }
        let names: HashSet<_> = (0..OUTCOMES).map(|index| Outcome::at(index).name()).collect();
        assert_eq!(names.len(), OUTCOMES);
        assert!(OUTCOMES <= usize::from(u8::MAX), "a byte holds it");
    }

    #[test]
    fn a_code_that_is_not_in_the_list_is_another() {
        let rare = Outcome::Refused(Reason::Code(Code::RoomFull));
        assert_eq!(Outcome::at(rare.index()).name(), "other");
    }

    #[test]
    fn a_wrong_request_was_served_and_a_broken_system_has_refused() {
        let of = |code| Outcome::of(&Refusal::of(code).into());
        assert_eq!(of(Code::NotAMember), Outcome::Served);
        assert_eq!(of(Code::StoreStopped), Outcome::Refused(Reason::Code(Code::StoreStopped)));
        assert_eq!(Outcome::of(&wire::Answer::default()), Outcome::Served);
    }
}
