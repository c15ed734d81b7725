//! What a failure means for the next try. Pure: one table, so that no client ever hammers a server that has said no.

use buslane_shared::refusal::Code;

use crate::error::Error;
use crate::state::CloseReason;

/// Where it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// At the gateway, enrolling.
    Enrol,
    /// At the gateway, asking for a ticket.
    Enter,
    /// At a session manager, or in a session.
    Session,
}

/// What to do before the next try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Wait, and try the same.
    Wait,
    /// The right to come in is not valid there: ask the gateway for another.
    NewTicket,
    /// The proof of the enrolment is not valid any more: enrol again, if the app has a right to.
    NewCredential,
    /// Nothing helps.
    GiveUp(CloseReason),
}

/// The remedy for `error`.
pub(crate) fn remedy(error: &Error, stage: Stage) -> Remedy {
    let refused = match error {
        Error::Refused(refused) => refused,
        Error::Unreachable { .. }
        | Error::Timeout { .. }
        | Error::Protocol { .. }
        | Error::NoToken { .. } => {
            return Remedy::Wait;
        }
        Error::Interrupted | Error::OutboxFull { .. } => return Remedy::Wait,
        Error::Closed => return Remedy::GiveUp(CloseReason::ByApp),
        other => return Remedy::GiveUp(CloseReason::Failed(other.clone())),
    };
    let give_up = Remedy::GiveUp(CloseReason::Refused(refused.clone()));
    match refused.code {
        Code::Revoked | Code::Replaced | Code::BadVersion | Code::Unsupported => give_up,
        Code::BadCredential | Code::CredentialExpired if stage == Stage::Enter => Remedy::NewCredential,
        // The slot is let go of; without it one is let in like everybody else.
        Code::BadSlot => Remedy::Wait,
        Code::BadTicket
        | Code::TicketExpired
        | Code::BadProof
        | Code::BadCredential
        | Code::CredentialExpired
            if stage == Stage::Session =>
        {
            Remedy::NewTicket
        }
        _ if refused.retryable || stage == Stage::Session => Remedy::Wait,
        _ => give_up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_at_every_stage() {
        let of = |code: Code, stage| remedy(&Error::from(code), stage);
        for code in (0..200).filter_map(|n| Code::try_from(n).ok()) {
            for stage in [Stage::Enrol, Stage::Enter, Stage::Session] {
                let remedy = of(code, stage);
                if code.retryable() && code != Code::TicketExpired {
                    assert_eq!(remedy, Remedy::Wait, "{code:?} {stage:?}");
                }
                if matches!(code, Code::Revoked | Code::Replaced) {
                    assert!(matches!(remedy, Remedy::GiveUp(_)), "{code:?} {stage:?}");
                }
            }
        }
        assert_eq!(of(Code::BadTicket, Stage::Session), Remedy::NewTicket);
        assert_eq!(of(Code::TicketExpired, Stage::Session), Remedy::NewTicket);
        assert_eq!(of(Code::BadCredential, Stage::Enter), Remedy::NewCredential);
        assert_eq!(of(Code::Draining, Stage::Session), Remedy::Wait);
        assert_eq!(of(Code::BadSlot, Stage::Enter), Remedy::Wait);
        assert_eq!(of(Code::SlowReader, Stage::Session), Remedy::Wait);
        for code in [Code::NameTaken, Code::BadCode, Code::EnrolmentClosed, Code::BadToken] {
            assert!(matches!(of(code, Stage::Enrol), Remedy::GiveUp(_)), "{code:?}");
        }
    }

    #[test]
    fn the_network_is_waited_for_and_the_app_is_obeyed() {
        assert_eq!(remedy(&Error::unreachable("x"), Stage::Enter), Remedy::Wait);
        assert_eq!(remedy(&Error::Closed, Stage::Session), Remedy::GiveUp(CloseReason::ByApp));
        assert!(matches!(remedy(&Error::NotEnrolled, Stage::Enrol), Remedy::GiveUp(CloseReason::Failed(_))));
    }
}
