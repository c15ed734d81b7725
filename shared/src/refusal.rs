//! The typed "no": one place where a code gets its name, whether it may be retried, and what a person does about it.
//!
//! Who refuses makes a [`Refusal`]; the wire form, the metric label and the QUIC close code are all mapped here.

use std::fmt;

use bytes::Bytes;

use crate::class::Class;
use crate::wire;
pub use crate::wire::RefusalCode as Code;

/// A refusal on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.name())]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// One sentence for people: what is wrong and what to do.
    pub detail: String,
    /// Earliest time for another try, in milliseconds from now; 0: none is given.
    pub retry_after_ms: u32,
    /// Only for writes: it may have been done all the same.
    pub maybe_applied: bool,
    /// The field that is wrong, for [`Code::BadField`].
    pub field: &'static str,
    /// For [`Code::Busy`]: what was refused, and the way back.
    pub busy: Option<Busy>,
}

/// What a refusal for lack of capacity says beyond its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// The class in which it was refused.
    pub class: Class,
    /// The level that was cut, 0..=1023.
    pub level: u16,
    /// What the node does now.
    pub posture: wire::Posture,
    /// The right to return at the time that the refusal names; empty: none was given.
    pub slot: Bytes,
}

impl Refusal {
    /// A refusal with its detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_ms: 0, maybe_applied: false, field: "", busy: None }
    }

    /// A refusal with the standard sentence of its code.
    pub fn of(code: Code) -> Self {
        Self::new(code, code.remedy())
    }

    /// A field of the request is wrong.
    pub fn field(field: &'static str, detail: impl fmt::Display) -> Self {
        Self { field, ..Self::new(Code::BadField, format!("{field}: {detail}")) }
    }

    /// With the earliest time for another try, in milliseconds from now.
    pub fn retry_after_ms(self, retry_after_ms: u32) -> Self {
        Self { retry_after_ms, ..self }
    }

    /// Refused for lack of capacity: come back in `retry_after_ms`, which is never 0.
    pub fn busy(busy: Busy, retry_after_ms: u32) -> Self {
        Self { busy: Some(busy), ..Self::of(Code::Busy).retry_after_ms(retry_after_ms.max(1)) }
    }

    /// Says that the write may have been done.
    pub fn maybe_applied(self) -> Self {
        Self { maybe_applied: true, ..self }
    }
}

impl From<Refusal> for wire::Refusal {
    fn from(r: Refusal) -> Self {
        Self {
            code: r.code.into(),
            retryable: r.code.retryable(),
            retry_after_ms: r.retry_after_ms,
            detail: r.detail,
            maybe_applied: r.maybe_applied,
            field: r.field.to_owned(),
            class: r.busy.as_ref().map_or(0, |b| b.class as u32),
            level: r.busy.as_ref().map_or(0, |b| b.level.into()),
            posture: r.busy.as_ref().map_or(0, |b| b.posture.into()),
            slot: r.busy.map_or_else(Bytes::new, |b| b.slot),
        }
    }
}

impl From<Refusal> for wire::Answer {
    /// The answer without its request id.
    fn from(r: Refusal) -> Self {
        Self { id: 0, result: Some(wire::answer::Result::Refusal(r.into())) }
    }
}

impl Code {
    /// Its stable name: metric label, log field and heading in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::BadVersion => "bad_version",
            Self::Internal => "internal",
            Self::Deadline => "deadline",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
            Self::BadField => "bad_field",
            Self::Timeout => "timeout",
            Self::NameTaken => "name_taken",
            Self::BadCode => "bad_code",
            Self::EnrolmentClosed => "enrolment_closed",
            Self::BadCredential => "bad_credential",
            Self::CredentialExpired => "credential_expired",
            Self::BadProof => "bad_proof",
            Self::Revoked => "revoked",
            Self::BadToken => "bad_token",
            Self::BadTicket => "bad_ticket",
            Self::TicketExpired => "ticket_expired",
            Self::HelloRequired => "hello_required",
            Self::Replaced => "replaced",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::ClosedByClient => "closed_by_client",
            Self::BadSlot => "bad_slot",
            Self::Disconnected => "disconnected",
            Self::UnknownUser => "unknown_user",
            Self::UnknownRoom => "unknown_room",
            Self::NotAMember => "not_a_member",
            Self::Blocked => "blocked",
            Self::RoomFull => "room_full",
            Self::NotAllowed => "not_allowed",
            Self::TooLong => "too_long",
            Self::NotInvited => "not_invited",
            Self::UnknownDevice => "unknown_device",
            Self::OutOfOrder => "out_of_order",
            Self::DiskFull => "disk_full",
            Self::StoreStopped => "store_stopped",
        }
    }

    /// Whether the same request may succeed later without anybody changing it.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::Internal
                | Self::Deadline
                | Self::RateLimited
                | Self::Busy
                | Self::Draining
                | Self::Unavailable
                | Self::Timeout
                | Self::Idle
                | Self::SlowReader
                | Self::TooManyInFlight
                | Self::OutOfOrder
                | Self::TicketExpired
                | Self::Disconnected
                | Self::DiskFull
                | Self::StoreStopped
        )
    }

    /// The standard sentence: what is wrong and what to do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unspecified => "the server gave no reason; report it",
            Self::Malformed => "the bytes are not a valid frame; check the encoder against the protocol",
            Self::TooLarge => "the frame is over the limit; send less at a time",
            Self::Unsupported => {
                "this server does not know the request; use an older form or upgrade the server"
            }
            Self::BadVersion => "no protocol version in common; upgrade the older side",
            Self::Internal => "the server failed; try again later and report it with the trace id",
            Self::Deadline => "there was no time left; try again with a longer deadline",
            Self::RateLimited => "too many requests; wait for the time given",
            Self::Busy => "the server is overloaded; come back at the time given",
            Self::Draining => "this node is being stopped; connect again, another node answers",
            Self::Unavailable => "a part that is needed does not answer; try again later",
            Self::Cancelled => "the request was cancelled by its sender",
            Self::BadField => "a field of the request is wrong",
            Self::Timeout => "the peer took too long; try again",
            Self::NameTaken => {
                "somebody has this name; choose another, or use a code from one of its devices"
            }
            Self::BadCode => "the code is unknown, used or expired; ask for a new one",
            Self::EnrolmentClosed => "enrolment needs a one-time code; ask the operator for one",
            Self::BadCredential => "the credential is not from this system; enrol again",
            Self::CredentialExpired => "the credential has expired; enrol again",
            Self::BadProof => "the signature does not fit the key and this connection",
            Self::Revoked => "this device was revoked; enrol it again with a code",
            Self::BadToken => "the identity provider's token is not valid here; fetch a fresh one",
            Self::BadTicket => "the ticket is not valid here; ask the gateway for a new one",
            Self::TicketExpired => "the ticket has expired; ask the gateway for a new one",
            Self::HelloRequired => "a session begins with a hello",
            Self::Replaced => "a newer session of this device took over",
            Self::Idle => "nothing was heard for the idle limit; connect again",
            Self::SlowReader => "the client did not read; connect again and catch up",
            Self::TooManyInFlight => "too many requests without an answer; wait for answers first",
            Self::ClosedByClient => "the client ended the session",
            Self::BadSlot => "the slot is not from here, of another node, or used; connect without it",
            Self::Disconnected => "an operator has ended the session; connect again at the time given",
            Self::UnknownUser => "nobody has this name; check the spelling",
            Self::UnknownRoom => "there is no such room; check the id",
            Self::NotAMember => "only members may do this; ask to be invited",
            Self::Blocked => "this user does not accept messages from you",
            Self::RoomFull => "the room has its largest size; somebody must leave first",
            Self::NotAllowed => "this needs the owner of the room",
            Self::TooLong => "it is over the limit; shorten it",
            Self::NotInvited => "only invited users may join; ask a member for an invitation",
            Self::UnknownDevice => "the user has no such device; list the devices",
            Self::OutOfOrder => "the message that it is to follow is not there; send that one first",
            Self::DiskFull => "the server's disk is full; nothing was stored; try again later",
            Self::StoreStopped => {
                "the server's store has stopped after an error of the disk; try again later"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_and_a_remedy() {
        let codes: Vec<Code> = (0..200).filter_map(|n| Code::try_from(n).ok()).collect();
        assert!(codes.len() > 40);
        let mut names: Vec<_> = codes.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), codes.len());
        assert!(codes.iter().all(|c| c.remedy().len() > 20));
    }

    #[test]
    fn names_are_those_of_the_schema() {
        for code in (0..200).filter_map(|n| Code::try_from(n).ok()) {
            assert_eq!(format!("REFUSAL_CODE_{}", code.name().to_uppercase()), code.as_str_name());
        }
    }
}
