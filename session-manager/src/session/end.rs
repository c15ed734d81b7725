//! Why a session leaves its connection, and what that means: for its client, who may come back or not, and for the table.
//!
//! Why it is apart: everything that can go wrong on a connection becomes one of these few ends, in one place. A client must never
//! read a reason here that it could not act on.

use buslane_shared::refusal::Code;
use buslane_shared::wire;
use quinn::{ConnectionError, ReadError, WriteError};

use crate::desk::Gone;
use crate::goodbye;
use crate::table::Parting;
use crate::talk::Broken;

/// When a client that an operator has disconnected may come back.
const DISCONNECTED_RETRY_MS: std::ops::RangeInclusive<u32> = 5_000..=10_000;

/// Why a session leaves its connection.
#[derive(Debug)]
pub(crate) enum End {
    /// The connection is gone, or of no more use.
    Lost,
    /// The client has ended the session.
    ByClient,
    /// The server ends it, and says so.
    Told(Box<wire::GoAway>, Code),
    /// The server ends it, and nobody would hear it: the close code says why.
    Silent(Code),
    /// One of its requests panicked at the desk.
    Broken,
}

impl End {
    pub(crate) fn told(code: Code, detail: impl Into<String>) -> Self {
        let go_away = wire::GoAway {
            code: code.into(),
            within_ms: 0,
            reconnect: matches!(code, Code::Idle | Code::SlowReader | Code::Draining | Code::Timeout),
            retry_after_ms: 0,
            detail: detail.into(),
        };
        Self::Told(Box::new(go_away), code)
    }

    pub(crate) fn of(code: Code) -> Self {
        Self::told(code, code.remedy())
    }

    /// The client may come back, but not in the same second: whoever ended its session is to see that it is gone.
    pub(crate) fn disconnected() -> Self {
        let code = Code::Disconnected;
        let retry_after_ms = rand::random_range(DISCONNECTED_RETRY_MS);
        let detail = code.remedy().to_owned();
        let go_away =
            wire::GoAway { code: code.into(), within_ms: 0, reconnect: true, retry_after_ms, detail };
        Self::Told(Box::new(go_away), code)
    }

    /// Whether the client may come back for its session.
    pub(crate) fn parting(&self) -> Parting {
        match self {
            Self::Lost | Self::Broken => Parting::Lost,
            Self::Told(_, Code::Idle | Code::Timeout) | Self::Silent(Code::SlowReader) => Parting::Lost,
            Self::ByClient | Self::Told(..) | Self::Silent(_) => Parting::Final,
        }
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        match broken.code() {
            Some(code) => Self::told(code, broken.to_string()),
            None => match broken {
                Broken::Read(ReadError::ConnectionLost(error)) => error.into(),
                // The client has reset its half of the talk stream.
                Broken::Read(_) | Broken::Frame(_) | Broken::Truncated => Self::ByClient,
            },
        }
    }
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close)
                if close.error_code == goodbye::number(Code::ClosedByClient) =>
            {
                Self::ByClient
            }
            _ => Self::Lost,
        }
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Broken
    }
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            _ => Self::Lost,
        }
    }
}
