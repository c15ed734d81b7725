//! What an app decides once, when it opens a client, and the bounds that follow from it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::backoff::Policy;
use buslane_shared::id::UserId;
use buslane_shared::limits::{DEVICE_NAME_CHARS_MAX, IN_FLIGHT_MAX};
use futures_util::future::BoxFuture;

use crate::error::Error;

/// Sends without an answer, over all rooms: enough to fill a group commit, little enough that a slow phone's answers
/// come before their deadline.
pub const IN_FLIGHT_DEFAULT: usize = 64;

/// Messages that wait in the outbox: a long flight's worth of typing, and far less than a phone's memory.
pub const OUTBOX_MESSAGES_DEFAULT: usize = 10_000;

/// Bytes that wait in the outbox.
pub const OUTBOX_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// Where the certificates come from that the servers' certificates must be signed by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CaSource {
    /// A PEM file.
    File(PathBuf),
    /// PEM text.
    Pem(Vec<u8>),
}

/// Where the client keeps its key, its credential, its outbox and its cursors.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Storage {
    /// In a folder of its own, readable by its owner only. One process at a time.
    Directory(PathBuf),
    /// Key and credential in a folder, outbox and cursors in memory: for tools that send in bulk and keep their own books.
    IdentityOnly(PathBuf),
    /// Nowhere: every start enrols a new device. For tests and for tools.
    Memory,
}

/// What gives this device the right to be enrolled, should it not be enrolled yet.
#[derive(Clone)]
#[non_exhaustive]
pub enum EnrolRight {
    /// None is needed: the device is enrolled. [`Error::NotEnrolled`] otherwise.
    Enrolled,
    /// Open enrolment, where the operator allows it, of a name that nobody has.
    Open,
    /// A one-time code from the operator or from another device of the user.
    Code(String),
    /// A token of the identity provider, fetched by the app whenever one is needed.
    Token(Arc<dyn TokenProvider>),
}

impl std::fmt::Debug for EnrolRight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Enrolled => "Enrolled",
            Self::Open => "Open",
            Self::Code(_) => "Code(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// Gives tokens of the company's identity provider. Called by one task only, so never twice at a time.
pub trait TokenProvider: Send + Sync + 'static {
    /// A fresh token, or why there is none (shown in the state, never parsed).
    fn token(&self) -> BoxFuture<'_, Result<String, String>>;
}

/// What the app is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppState {
    /// A person is looking at it.
    #[default]
    Foreground,
    /// The phone acts alone.
    Background,
}

/// Where a device begins that has never seen any room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstLogin {
    /// With the oldest message that the server keeps and the user may read: a new phone shows the conversations.
    #[default]
    Kept,
    /// With what comes from now on.
    FromNow,
}

/// How a client is set up. Begin with [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Gateways as `host:port`, in the order in which to try them. The host is the name in the certificate.
    pub gates: Vec<String>,
    /// Whom to trust.
    pub ca: CaSource,
    /// Who this is.
    pub user: UserId,
    /// Shown in the user's list of devices; at most 64 characters.
    pub device_name: String,
    /// Where state is kept.
    pub storage: Storage,
    /// How an unknown device gets in.
    pub enrol: EnrolRight,
    /// What the app is doing at the start.
    pub app_state: AppState,
    /// Where a new device begins.
    pub first_login: FirstLogin,
    /// Sends without an answer, over all rooms: 1..=256.
    pub in_flight: usize,
    /// Sends without an answer in one room: 1..=256; 1 is the default. With more, sends are pipelined: faster by far over a long way. The
    /// order of a room is the order of the sends all the same: each names the one in front of it, and the server takes it after that
    /// alone. A message that has failed and that the app retries takes its place when it is taken. (A server older than this field does not look at it: there, what is refused for a time may be overtaken.)
    pub in_flight_per_room: usize,
    /// Bound of the outbox in messages, the failed ones included.
    pub outbox_messages_max: usize,
    /// Bound of the outbox in bytes.
    pub outbox_bytes_max: usize,
    /// Waits between tries. A time that the server names always wins.
    pub reconnect: Policy,
    /// A request that has no answer after this long fails.
    pub request_timeout: Duration,
    /// A path on which nothing at all came for this long, while something was asked, is given up for a new connection.
    pub silence_limit: Duration,
    /// Ping when nothing else was sent for this long, even if the server asks for pings less often.
    pub ping_interval_max: Duration,
}

impl Options {
    /// The defaults, for a user who talks to a gateway at `gate` whose certificate is signed by `ca`.
    pub fn new(user: UserId, gate: impl Into<String>, ca: CaSource, storage: Storage) -> Self {
        Self {
            gates: vec![gate.into()],
            ca,
            user,
            device_name: String::from("buslane client"),
            storage,
            enrol: EnrolRight::Open,
            app_state: AppState::Foreground,
            first_login: FirstLogin::Kept,
            in_flight: IN_FLIGHT_DEFAULT,
            in_flight_per_room: 1,
            outbox_messages_max: OUTBOX_MESSAGES_DEFAULT,
            outbox_bytes_max: OUTBOX_BYTES_DEFAULT,
            reconnect: Policy::default(),
            request_timeout: Duration::from_secs(10),
            silence_limit: Duration::from_secs(10),
            ping_interval_max: Duration::from_secs(240),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |field, detail: &str| Err(Error::Invalid { field, detail: detail.to_owned() });
        let flights = 1..=IN_FLIGHT_MAX;
        if self.gates.is_empty() {
            return invalid("gates", "name at least one gateway as host:port");
        }
        if self.device_name.chars().count() > DEVICE_NAME_CHARS_MAX {
            return invalid("device_name", "at most 64 characters");
        }
        if !flights.contains(&self.in_flight) {
            return invalid("in_flight", "1 to 256");
        }
        if !flights.contains(&self.in_flight_per_room) {
            return invalid("in_flight_per_room", "1 to 256");
        }
        if self.request_timeout.is_zero() || self.silence_limit.is_zero() || self.ping_interval_max.is_zero()
        {
            return invalid("request_timeout, silence_limit, ping_interval_max", "more than zero");
        }
        Ok(())
    }
}

impl From<AppState> for buslane_shared::wire::AppState {
    fn from(state: AppState) -> Self {
        match state {
            AppState::Foreground => Self::Foreground,
            AppState::Background => Self::Background,
        }
    }
}
