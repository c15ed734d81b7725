//! The one state of a client, and the one function that changes it.
//!
//! It never says more than is known. *Reconnecting* means that nothing is lost: the server still holds the session.
//! *Suspended* means that it does not, so what was missed is fetched from the log before the client calls itself connected
//! again. Orthogonal facts (the posture of the server, the outbox) are not part of it.

use std::time::Duration;

use buslane_shared::UnixMs;
use buslane_shared::id::SessionId;

use crate::error::{Error, Refused};

/// What an app may show its user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Made, and not started yet.
    Idle,
    /// On the way to the first session.
    Connecting {
        /// 1 for the first try.
        attempt: u32,
        /// Time until this try begins, when it was published.
        next_in: Duration,
        /// Why the try before failed.
        cause: Option<Error>,
    },
    /// A session is up.
    Connected {
        /// Its id.
        session: SessionId,
        /// It continues the one before; nothing was lost in between.
        resumed: bool,
    },
    /// The connection is lost, the session is not: the server keeps what comes.
    Reconnecting {
        /// 1 for the first try.
        attempt: u32,
        /// Time until this try begins, when it was published.
        next_in: Duration,
        /// Why the connection was lost or the try before failed.
        cause: Error,
    },
    /// The session is lost. Messages are not: a resync follows, or is going on.
    Suspended {
        /// Unix milliseconds since when.
        since_ms: UnixMs,
        /// The new session, once there is one: sending works, and what was missed is being fetched.
        resyncing: Option<SessionId>,
        /// Why there is none.
        cause: Option<Error>,
    },
    /// For good. Nothing is tried any more.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// Why a client is closed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The app closed it.
    ByApp,
    /// The server refused in a way that trying again cannot heal.
    Refused(Refused),
    /// Something on this device makes it impossible to go on.
    Failed(Error),
}

impl State {
    /// Whether there is a session now: requests and sends go out.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Connected { .. } | Self::Suspended { resyncing: Some(_), .. })
    }
}

impl CloseReason {
    /// The reason as the error that calls on a closed client give.
    pub fn error(&self) -> Error {
        match self {
            Self::ByApp => Error::Closed,
            Self::Refused(refused) => Error::Refused(refused.clone()),
            Self::Failed(error) => error.clone(),
        }
    }
}

/// What happened to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The client begins.
    Began,
    /// The connection ended, or a try failed; the next one comes after `next_in`.
    Failed {
        /// Number of the next try.
        attempt: u32,
        /// Wait before it.
        next_in: Duration,
        /// Why.
        cause: Error,
    },
    /// A session is up.
    Up {
        /// Its id.
        session: SessionId,
        /// The server continues the one before.
        resumed: bool,
        /// Unix milliseconds.
        now_ms: UnixMs,
    },
    /// The server no longer holds the session.
    Lapsed {
        /// Unix milliseconds.
        now_ms: UnixMs,
    },
    /// Every room is as far as the server's log.
    CaughtUp,
    /// It is over.
    Ended(CloseReason),
}

/// The next state.
pub(crate) fn step(state: State, happening: Happening) -> State {
    use Happening as H;
    match (state, happening) {
        (closed @ State::Closed { .. }, _) => closed,
        (_, H::Ended(reason)) => State::Closed { reason },

        (State::Idle, H::Began) => State::Connecting { attempt: 1, next_in: Duration::ZERO, cause: None },

        (State::Idle | State::Connecting { .. }, H::Failed { attempt, next_in, cause }) => {
            State::Connecting { attempt, next_in, cause: Some(cause) }
        }
        (State::Connected { .. } | State::Reconnecting { .. }, H::Failed { attempt, next_in, cause }) => {
            State::Reconnecting { attempt, next_in, cause }
        }
        (State::Suspended { since_ms, .. }, H::Failed { cause, .. }) => {
            State::Suspended { since_ms, resyncing: None, cause: Some(cause) }
        }

        (_, H::Up { session, resumed: true, .. }) => State::Connected { session, resumed: true },
        (State::Idle | State::Connecting { .. }, H::Up { session, .. }) => {
            State::Connected { session, resumed: false }
        }
        (State::Suspended { since_ms, .. }, H::Up { session, .. }) => {
            State::Suspended { since_ms, resyncing: Some(session), cause: None }
        }
        (_, H::Up { session, now_ms, .. }) => {
            State::Suspended { since_ms: now_ms, resyncing: Some(session), cause: None }
        }

        (State::Reconnecting { cause, .. }, H::Lapsed { now_ms }) => {
            State::Suspended { since_ms: now_ms, resyncing: None, cause: Some(cause) }
        }
        (State::Suspended { resyncing: Some(session), .. }, H::CaughtUp) => {
            State::Connected { session, resumed: false }
        }

        (state, H::Began | H::Lapsed { .. } | H::CaughtUp) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::refusal::Code;

    const SESSION: SessionId = SessionId::from_bytes([1; 16]);
    const NEXT: SessionId = SessionId::from_bytes([2; 16]);

    fn states() -> Vec<(&'static str, State)> {
        let cause = Error::Interrupted;
        vec![
            ("idle", State::Idle),
            ("connecting", State::Connecting { attempt: 1, next_in: Duration::ZERO, cause: None }),
            ("connected", State::Connected { session: SESSION, resumed: false }),
            (
                "reconnecting",
                State::Reconnecting { attempt: 1, next_in: Duration::ZERO, cause: cause.clone() },
            ),
            ("suspended", State::Suspended { since_ms: 5, resyncing: None, cause: Some(cause) }),
            ("resyncing", State::Suspended { since_ms: 5, resyncing: Some(SESSION), cause: None }),
            ("closed", State::Closed { reason: CloseReason::ByApp }),
        ]
    }

    fn happenings() -> Vec<(&'static str, Happening)> {
        let cause = Error::unreachable("gone");
        vec![
            ("began", Happening::Began),
            ("failed", Happening::Failed { attempt: 2, next_in: Duration::from_secs(1), cause }),
            ("up resumed", Happening::Up { session: NEXT, resumed: true, now_ms: 9 }),
            ("up new", Happening::Up { session: NEXT, resumed: false, now_ms: 9 }),
            ("lapsed", Happening::Lapsed { now_ms: 9 }),
            ("caught up", Happening::CaughtUp),
            ("ended", Happening::Ended(CloseReason::Refused(Refused::of(Code::Revoked)))),
        ]
    }

    fn short(state: &State) -> String {
        match state {
            State::Idle => "idle".into(),
            State::Connecting { attempt, .. } => format!("connecting {attempt}"),
            State::Connected { session, resumed } => {
                format!("connected {}{}", session.as_bytes()[0], if *resumed { " resumed" } else { "" })
            }
            State::Reconnecting { attempt, .. } => format!("reconnecting {attempt}"),
            State::Suspended { since_ms, resyncing: None, .. } => format!("suspended {since_ms}"),
            State::Suspended { since_ms, resyncing: Some(s), .. } => {
                format!("resyncing {} {since_ms}", s.as_bytes()[0])
            }
            State::Closed { reason: CloseReason::ByApp } => "closed".into(),
            State::Closed { .. } => "closed refused".into(),
        }
    }

    /// The whole table: one line for each state, one column for each happening.
    #[test]
    fn every_state_and_every_happening() {
        let expected = [
            "idle: connecting 1 | connecting 2 | connected 2 resumed | connected 2 | idle | idle | closed refused",
            "connecting: connecting 1 | connecting 2 | connected 2 resumed | connected 2 | connecting 1 | connecting 1 | closed refused",
            "connected: connected 1 | reconnecting 2 | connected 2 resumed | resyncing 2 9 | connected 1 | connected 1 | closed refused",
            "reconnecting: reconnecting 1 | reconnecting 2 | connected 2 resumed | resyncing 2 9 | suspended 9 | reconnecting 1 | closed refused",
            "suspended: suspended 5 | suspended 5 | connected 2 resumed | resyncing 2 5 | suspended 5 | suspended 5 | closed refused",
            "resyncing: resyncing 1 5 | suspended 5 | connected 2 resumed | resyncing 2 5 | resyncing 1 5 | connected 1 | closed refused",
            "closed: closed | closed | closed | closed | closed | closed | closed",
        ];
        let table: Vec<String> = states()
            .into_iter()
            .map(|(name, state)| {
                let row: Vec<_> =
                    happenings().into_iter().map(|(_, h)| short(&step(state.clone(), h))).collect();
                format!("{name}: {}", row.join(" | "))
            })
            .collect();
        assert_eq!(table, expected);
    }
}
