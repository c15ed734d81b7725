//! What can go wrong, as an app sees it: each error has a stable number, says whether trying again can help, and when.
//!
//! Numbers below 1000 are the server's refusal codes (the same as on the wire); those from 1000 are the client's own and
//! are never used twice. An error never carries a payload, a credential or a ticket.

use std::time::Duration;

use buslane_shared::class::Class;
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use bytes::Bytes;

/// The server's typed "no".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.name())]
pub struct Refused {
    /// Why.
    pub code: Code,
    /// The same request may succeed later.
    pub retryable: bool,
    /// Earliest time for another try, from the moment of the answer.
    pub retry_after: Option<Duration>,
    /// One sentence for people.
    pub detail: String,
    /// For writes: it may have been done all the same.
    pub maybe_applied: bool,
    /// The field that was wrong, for [`Code::BadField`].
    pub field: String,
    /// For [`Code::Busy`]: what was refused in favour of what.
    pub busy: Option<Box<Busy>>,
}

/// What a server says that is short of capacity.
#[derive(Clone, PartialEq, Eq)]
pub struct Busy {
    /// The importance that the request had there.
    pub class: Class,
    /// The level that is cut, 0 (most important) to 1023.
    pub level: u16,
    /// What the node does now.
    pub posture: wire::Posture,
    /// The right to return when [`Refused::retry_after`] is over; empty: none was given.
    pub(crate) slot: Bytes,
}

impl Busy {
    /// Whether the server has promised a place for the time that it named: whoever keeps to it goes ahead of those who
    /// were promised nothing.
    pub fn has_slot(&self) -> bool {
        !self.slot.is_empty()
    }
}

/// A slot serves whoever has it, so it is not shown.
impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Busy")
            .field("class", &self.class)
            .field("level", &self.level)
            .field("posture", &self.posture)
            .field("has_slot", &self.has_slot())
            .finish()
    }
}

/// The server has more to do than it can, and says what it puts off: what an app needs to tell its user the truth
/// ("sending is slower just now") instead of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded {
    /// The importance of what was put off.
    pub class: Class,
    /// What the node does now.
    pub posture: wire::Posture,
    /// When it is tried again.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// A refusal that the client concludes by itself from a code (a closed connection, a broken frame).
    pub(crate) fn of(code: Code) -> Self {
        Self {
            code,
            retryable: code.retryable(),
            retry_after: None,
            detail: code.remedy().to_owned(),
            maybe_applied: false,
            field: String::new(),
            busy: None,
        }
    }

    /// What the server put off, if it was overloaded.
    pub fn overloaded(&self) -> Option<Overloaded> {
        let Busy { class, posture, .. } = self.busy.as_deref()?;
        Some(Overloaded { class: *class, posture: *posture, retry_after: self.retry_after })
    }
}

impl From<wire::Refusal> for Refused {
    fn from(r: wire::Refusal) -> Self {
        let busy = || {
            Box::new(Busy {
                class: Class::of_number(r.class),
                level: u16::try_from(r.level).unwrap_or(u16::MAX),
                posture: r.posture(),
                // Copied, because a slice would hold on to the whole network buffer.
                slot: Bytes::copy_from_slice(&r.slot),
            })
        };
        Self {
            busy: (r.code() == Code::Busy).then(busy),
            code: r.code(),
            retryable: r.retryable,
            retry_after: millis(r.retry_after_ms),
            detail: r.detail,
            maybe_applied: r.maybe_applied,
            field: r.field,
        }
    }
}

/// A wire duration: 0 means that none is given.
pub(crate) fn millis(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(u64::from(ms)))
}

/// Everything that the SDK reports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The outbox has no room. Wait for receipts, or discard what has failed.
    #[error("the outbox is full ({messages} messages, {bytes} bytes): wait until some are sent")]
    OutboxFull {
        /// Messages in it.
        messages: usize,
        /// Bytes in it.
        bytes: usize,
    },
    /// An argument was refused before it left the device.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// No answer came in time. A write may have been done.
    #[error("no answer within {}", humane(*.after))]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The connection was lost between a request that cannot simply be repeated and its answer. It may have been done.
    #[error("the connection was lost before the answer came; the request may have been done")]
    Interrupted,
    /// The connection was lost, or could not be made.
    #[error("no connection: {detail}")]
    Unreachable {
        /// What the network or the TLS stack said.
        detail: String,
    },
    /// The server does not speak as agreed.
    #[error("the server's answer makes no sense: {detail}")]
    Protocol {
        /// What was wrong with it.
        detail: String,
    },
    /// The certificates of the authority cannot be used.
    #[error("{detail}")]
    Authority {
        /// What is wrong and what to do.
        detail: String,
    },
    /// Another process uses the state folder.
    #[error(
        "the state folder {path} is in use by another process; end it, or give this one a folder of its own"
    )]
    StateInUse {
        /// The folder.
        path: String,
    },
    /// The state on this device cannot be read.
    #[error(
        "the client state in {path} is damaged ({detail}); move it away to begin anew, which enrols a new device"
    )]
    StateDamaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The state on this device cannot be written.
    #[error("the client state in {path} cannot be used: {detail}")]
    StateUnusable {
        /// The file or folder.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// The state folder belongs to another user.
    #[error("the state in {path} is that of user {found}, not of {wanted}; use another folder for each user")]
    StateOfAnother {
        /// The folder.
        path: String,
        /// Whose it is.
        found: String,
        /// Who was asked for.
        wanted: String,
    },
    /// This device is not enrolled and the options give no right to enrol it.
    #[error("this device is not enrolled yet, and no right to enrol it was given")]
    NotEnrolled,
    /// The app's token provider failed.
    #[error("the app gave no token: {detail}")]
    NoToken {
        /// What the provider said.
        detail: String,
    },
    /// The message was taken out of the outbox before it was sent.
    #[error("the message was taken out of the outbox")]
    Withdrawn,
    /// The outbox knows no such message, or it cannot be changed any more.
    #[error("the outbox has no such message, or it is on its way already")]
    NotInOutbox,
    /// The app closed the client.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Stable number.
    pub fn code(&self) -> u32 {
        match self {
            Self::Refused(r) => r.code as u32,
            Self::OutboxFull { .. } => 1000,
            Self::Invalid { .. } => 1001,
            Self::Timeout { .. } => 1002,
            Self::Interrupted => 1003,
            Self::Unreachable { .. } => 1004,
            Self::Protocol { .. } => 1005,
            Self::Authority { .. } => 1006,
            Self::StateInUse { .. } => 1007,
            Self::StateDamaged { .. } => 1008,
            Self::StateUnusable { .. } => 1009,
            Self::StateOfAnother { .. } => 1010,
            Self::NotEnrolled => 1011,
            Self::NoToken { .. } => 1012,
            Self::Withdrawn => 1013,
            Self::NotInOutbox => 1014,
            Self::Closed => 1015,
        }
    }

    /// Stable name, for logs and machine-readable output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(r) => r.code.name(),
            Self::OutboxFull { .. } => "outbox_full",
            Self::Invalid { .. } => "invalid",
            Self::Timeout { .. } => "no_answer",
            Self::Interrupted => "interrupted",
            Self::Unreachable { .. } => "unreachable",
            Self::Protocol { .. } => "protocol",
            Self::Authority { .. } => "authority",
            Self::StateInUse { .. } => "state_in_use",
            Self::StateDamaged { .. } => "state_damaged",
            Self::StateUnusable { .. } => "state_unusable",
            Self::StateOfAnother { .. } => "state_of_another",
            Self::NotEnrolled => "not_enrolled",
            Self::NoToken { .. } => "no_token",
            Self::Withdrawn => "withdrawn",
            Self::NotInOutbox => "not_in_outbox",
            Self::Closed => "closed",
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused(r) => r.retryable,
            Self::OutboxFull { .. }
            | Self::Timeout { .. }
            | Self::Interrupted
            | Self::Unreachable { .. }
            | Self::StateInUse { .. }
            | Self::NoToken { .. } => true,
            _ => false,
        }
    }

    /// Earliest time for another try that the server named.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(r) => r.retry_after,
            _ => None,
        }
    }

    /// What the server put off, if it was overloaded; the time is [`Error::retry_after`].
    pub fn overloaded(&self) -> Option<Overloaded> {
        match self {
            Self::Refused(r) => r.overloaded(),
            _ => None,
        }
    }

    /// Whether a write may have been done although it failed.
    pub fn maybe_applied(&self) -> bool {
        match self {
            Self::Refused(r) => r.maybe_applied,
            Self::Timeout { .. } | Self::Interrupted => true,
            _ => false,
        }
    }

    pub(crate) fn protocol(detail: impl std::fmt::Display) -> Self {
        Self::Protocol { detail: detail.to_string() }
    }

    pub(crate) fn unreachable(detail: impl std::fmt::Display) -> Self {
        Self::Unreachable { detail: detail.to_string() }
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::Refused(Refused::of(code))
    }
}

/// A connection that ended. A close code of the server is its refusal; everything else is the network's.
impl From<quinn::ConnectionError> for Error {
    fn from(error: quinn::ConnectionError) -> Self {
        if let quinn::ConnectionError::ApplicationClosed(close) = &error
            && let Some(code) =
                i32::try_from(close.error_code.into_inner()).ok().and_then(|n| Code::try_from(n).ok())
            && code != Code::Unspecified
        {
            let reason: String = String::from_utf8_lossy(&close.reason)
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect();
            let refused = Refused::of(code);
            let detail = if reason.is_empty() { refused.detail.clone() } else { reason };
            return Self::Refused(Refused { detail, ..refused });
        }
        Self::unreachable(error)
    }
}

fn humane(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u32, reason: &'static [u8]) -> quinn::ConnectionError {
        quinn::ConnectionError::ApplicationClosed(quinn::ApplicationClose {
            error_code: code.into(),
            reason: Bytes::from_static(reason),
        })
    }

    #[test]
    fn a_close_code_is_the_servers_refusal() {
        let error = Error::from(closed(43, b""));
        assert_eq!((error.code(), error.name(), error.retryable()), (43, "replaced", false));
        assert!(Error::from(closed(9, b"")).retryable());
        assert_eq!(Error::from(closed(0, b"")).name(), "unreachable");
        assert_eq!(Error::from(closed(9999, b"")).name(), "unreachable");
    }

    #[test]
    fn a_close_reason_cannot_forge_log_lines() {
        assert_eq!(Error::from(closed(9, b"a\nb\x1b[2J")).to_string(), "draining: ab[2J");
    }

    #[test]
    fn an_app_hears_what_an_overloaded_server_puts_off() {
        let refusal = wire::Refusal {
            code: Code::Busy.into(),
            retryable: true,
            retry_after_ms: 1_500,
            class: 5,
            level: 700,
            slot: Bytes::from_static(&[7; 20]),
            posture: wire::Posture::Emergency.into(),
            ..Default::default()
        };
        let error = Error::from(Refused::from(refusal));
        let overloaded = error.overloaded().unwrap();
        assert_eq!((overloaded.class, overloaded.posture), (Class::Wake, wire::Posture::Emergency));
        assert_eq!(overloaded.retry_after, Some(Duration::from_millis(1_500)));
        let text = format!("{error:?}");
        assert!(text.contains("has_slot: true") && !text.contains("7, 7"), "{text}");
        assert_eq!(Error::from(Code::Draining).overloaded(), None);
    }

    #[test]
    fn a_code_from_the_future_is_a_refusal_without_a_reason() {
        let refused = Refused::from(wire::Refusal {
            code: 4711,
            retryable: true,
            retry_after_ms: 5,
            ..Default::default()
        });
        assert_eq!(refused.code, Code::Unspecified);
        assert!(refused.retryable);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(5)));
    }
}
