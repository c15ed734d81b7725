//! Why a client is not in: what the server said, or that it said nothing.

use std::time::Duration;

use buslane_shared::put_off::PutOff;
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use bytes::Bytes;
use quinn::{ConnectionError, TransportErrorCode};

/// Why a client is not in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// Told to come back, by an answer to the first packet or by a refusal.
    PutOff {
        /// When.
        retry_after: Duration,
        /// The right to be let in then, if one was given.
        slot: Option<Bytes>,
    },
    /// Refused.
    Refused {
        /// Name of the code.
        name: &'static str,
        /// When to come again, if that was said.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    Silence,
    /// Broken otherwise.
    Failed(&'static str),
}

impl Turned {
    /// For counts by reason.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PutOff { .. } => "put_off",
            Self::Refused { name, .. } => name,
            Self::Silence => "silence",
            Self::Failed(why) => why,
        }
    }

    /// The time that the server has named.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::PutOff { retry_after, .. } => Some(*retry_after),
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Silence | Self::Failed(_) => None,
        }
    }
}

impl std::fmt::Display for Turned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        match self.retry_after() {
            Some(after) => write!(f, ", come back in {:.1} s", after.as_secs_f64()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Turned {}

impl From<wire::Refusal> for Turned {
    fn from(refusal: wire::Refusal) -> Self {
        let code = refusal.code();
        let retry_after =
            (refusal.retry_after_ms > 0).then(|| Duration::from_millis(refusal.retry_after_ms.into()));
        match retry_after {
            Some(retry_after) if code == Code::Busy => {
                // Copied, because a slice would hold on to the whole network buffer.
                let slot = (!refusal.slot.is_empty()).then(|| Bytes::copy_from_slice(&refusal.slot));
                Self::PutOff { retry_after, slot }
            }
            _ => Self::Refused { name: code.name(), retry_after },
        }
    }
}

impl From<wire::GoAway> for Turned {
    fn from(go_away: wire::GoAway) -> Self {
        let after = go_away.retry_after_ms;
        let retry_after = (after > 0).then(|| Duration::from_millis(after.into()));
        Self::Refused { name: go_away.code().name(), retry_after }
    }
}

impl From<ConnectionError> for Turned {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                PutOff::parse(&close.reason).map_or(Self::Failed("connection_refused"), Self::from)
            }
            ConnectionError::ApplicationClosed(close) => {
                let code = i32::try_from(close.error_code.into_inner()).ok();
                let code = code.and_then(|code| Code::try_from(code).ok()).unwrap_or_default();
                Self::Refused { name: code.name(), retry_after: None }
            }
            ConnectionError::TimedOut => Self::Silence,
            ConnectionError::Reset => Self::Failed("reset"),
            ConnectionError::ConnectionClosed(_) => Self::Failed("closed_by_transport"),
            ConnectionError::TransportError(_) => Self::Failed("transport_error"),
            ConnectionError::LocallyClosed => Self::Failed("closed_here"),
            ConnectionError::VersionMismatch => Self::Failed("quic_version"),
            ConnectionError::CidsExhausted => Self::Failed("no_connection_ids"),
        }
    }
}

impl From<PutOff> for Turned {
    fn from(put_off: PutOff) -> Self {
        Self::PutOff {
            retry_after: Duration::from_millis(put_off.retry_after_ms.into()),
            slot: put_off.slot.map(|slot| Bytes::copy_from_slice(&slot)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(error_code: TransportErrorCode, reason: &str) -> Turned {
        let reason = Bytes::copy_from_slice(reason.as_bytes());
        ConnectionError::ConnectionClosed(quinn::ConnectionClose { error_code, frame_type: None, reason })
            .into()
    }

    #[test]
    fn a_close_before_the_handshake_says_when_to_come_back() {
        let slot = "busy retry_after_ms=1500 slot=0707070707070707070707070707070707070707";
        let put_off = Turned::PutOff {
            retry_after: Duration::from_millis(1_500),
            slot: Some(Bytes::from_static(&[7; 20])),
        };
        assert_eq!(closed(TransportErrorCode::CONNECTION_REFUSED, slot), put_off);
        assert_eq!(closed(TransportErrorCode::CONNECTION_REFUSED, ""), Turned::Failed("connection_refused"));
        assert_eq!(closed(TransportErrorCode::INTERNAL_ERROR, slot), Turned::Failed("closed_by_transport"));
        assert_eq!(Turned::from(ConnectionError::TimedOut), Turned::Silence);
    }

    #[test]
    fn a_refusal_keeps_its_name_and_its_time() {
        let busy = wire::Refusal {
            code: Code::Busy.into(),
            retry_after_ms: 20,
            slot: Bytes::from_static(&[3; 20]),
            ..Default::default()
        };
        let PutOff { retry_after, slot } = (match Turned::from(busy.clone()) {
            Turned::PutOff { retry_after, slot } => Some(PutOff { retry_after, slot }),
            _ => None,
        })
        .unwrap();
        assert_eq!((retry_after.as_millis(), slot.unwrap().len()), (20, 20));
        let limited = wire::Refusal { code: Code::RateLimited.into(), ..busy };
        let refused = Turned::Refused { name: "rate_limited", retry_after: Some(Duration::from_millis(20)) };
        assert_eq!(Turned::from(limited), refused);
        let code = quinn::VarInt::from_u32(Code::Draining as u32);
        let close = quinn::ApplicationClose { error_code: code, reason: Bytes::new() };
        assert_eq!(Turned::from(ConnectionError::ApplicationClosed(close)).name(), "draining");
    }

    struct PutOff {
        retry_after: Duration,
        slot: Option<Bytes>,
    }
}
