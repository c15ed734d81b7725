//! How a session begins: the connection, the hello, the answer to it.
//!
//! It must never hide what the server said when it refused: whoever counts needs the reason, the time and the slot.

use std::time::Duration;

use buslane_client::raw::{FrameReader, Protocol, Session};
use buslane_shared::frame::frame;
use buslane_shared::limits::PROTOCOL_VERSION;
use buslane_shared::proof::{SESSION_EXPORTER, session_proof};
use buslane_shared::wire::{self, client_frame, server_frame};
use bytes::Bytes;

use super::gate::{broken, close, exporter};
use crate::storm::net::{Net, Turned};
use crate::storm::scenario::Side;

/// Name and version of this software, for the operator.
const AGENT: &str = concat!("buslane-loadtest/", env!("CARGO_PKG_VERSION"));

/// What opens a session.
#[derive(Debug)]
pub enum Token {
    /// From the gateway.
    Ticket(Bytes),
    /// From an earlier welcome, with the number of the last event that was taken over.
    Resume {
        /// The token.
        token: Bytes,
        /// Last event taken over.
        seen: u64,
    },
}

/// Where a session is opened.
#[derive(Debug)]
pub struct Door<'a> {
    /// Number of the source address.
    pub from: usize,
    /// `host:port`
    pub address: &'a str,
    /// Name in the certificate.
    pub server_name: &'a str,
    /// A pass or a slot, to be shown in the first packet.
    pub mark: Option<Bytes>,
}

/// The first word on a connection.
#[derive(Debug)]
pub struct Hello {
    /// The right to come in.
    pub token: Token,
    /// The secret that came with the ticket.
    pub proof_key: Bytes,
    /// Whether somebody looks.
    pub side: Side,
    /// The slot whose time is now.
    pub slot: Option<Bytes>,
}

/// The state of an app on this side, as the server is told.
pub fn app_state(side: Side) -> wire::AppState {
    match side {
        Side::Foreground => wire::AppState::Foreground,
        Side::Background => wire::AppState::Background,
    }
}

/// Why such an app connects.
pub fn reason(side: Side) -> wire::Reason {
    match side {
        Side::Foreground => wire::Reason::Opened,
        Side::Background => wire::Reason::Woken,
    }
}

/// A connection that is closed when its owner gives up: the server is to know at once.
struct Opening(Option<quinn::Connection>);

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            close(connection);
        }
    }
}

/// Connects and says hello, all of it within `limit`.
pub async fn open(net: &Net, door: Door<'_>, hello: Hello, limit: Duration) -> Result<Session, Turned> {
    let opened = connect(net, door, hello, limit);
    tokio::time::timeout(limit, opened).await.unwrap_or(Err(Turned::Silence))
}

async fn connect(net: &Net, door: Door<'_>, hello: Hello, limit: Duration) -> Result<Session, Turned> {
    let Door { from, address, server_name, mark } = door;
    let connection =
        net.connect(from, Protocol::Session, address, server_name, mark.as_deref(), limit).await?;
    let mut opening = Opening(Some(connection.clone()));
    let session = say_hello(connection, hello).await?;
    opening.0 = None;
    Ok(session)
}

async fn say_hello(connection: quinn::Connection, hello: Hello) -> Result<Session, Turned> {
    let exporter = exporter(&connection, SESSION_EXPORTER)?;
    let (mut send, recv) = connection.open_bi().await?;
    let mut recv = FrameReader::new(recv);
    let hello = wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello.into_wire(&exporter))) };
    // A server that refuses may close at once: its refusal counts, not our write.
    let _ = send.write_all(&frame(&hello)).await;
    loop {
        match recv.next::<wire::ServerFrame>().await {
            Ok(Some(frame)) => match frame.kind {
                Some(server_frame::Kind::Welcome(welcome)) => {
                    return Ok(Session { connection, send, recv, welcome });
                }
                Some(server_frame::Kind::Refusal(refusal)) => return Err(refusal.into()),
                Some(server_frame::Kind::GoAway(go_away)) => return Err(go_away.into()),
                // A frame kind from the future.
                _ => {}
            },
            Ok(None) => return Err(broken(&connection, "no_welcome")),
            Err(error) => return Err(broken(&connection, error.name())),
        }
    }
}

impl Hello {
    fn into_wire(self, exporter: &[u8; buslane_shared::proof::EXPORTER_BYTES]) -> wire::Hello {
        let (token, seen) = match self.token {
            Token::Ticket(ticket) => (wire::hello::Token::Ticket(ticket), 0),
            Token::Resume { token, seen } => (wire::hello::Token::Resume(token), seen),
        };
        wire::Hello {
            version: PROTOCOL_VERSION,
            token: Some(token),
            proof: Bytes::copy_from_slice(&session_proof(&self.proof_key, exporter)),
            app_state: app_state(self.side).into(),
            reason: reason(self.side).into(),
            seen,
            agent: AGENT.to_owned(),
            slot: self.slot.unwrap_or_default(),
        }
    }
}
