//! One connection to a session manager: the handshake, the hello, and its two ends.
//!
//! What runs on it is the business of its owner: the supervisor's driver, or a tool that wants everything in its own hands.

use std::time::Duration;

use buslane_shared::frame::frame;
use buslane_shared::limits::PROTOCOL_VERSION;
use buslane_shared::proof::{SESSION_EXPORTER, session_proof};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, client_frame, server_frame};
use bytes::Bytes;

use crate::error::{Error, Refused};
use crate::frames::FrameReader;
use crate::gate::exporter;
use crate::transport::{Protocol, Transport};

/// Name and version of this software, for the operator.
pub(crate) const AGENT: &str = concat!("buslane-client/", env!("CARGO_PKG_VERSION"));

/// What opens a session.
#[derive(Clone, PartialEq, Eq)]
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

/// Where a session is opened, and with what.
#[derive(Clone)]
pub struct Door<'a> {
    /// `host:port`
    pub address: &'a str,
    /// Name in the certificate.
    pub server_name: &'a str,
    /// A pass or a slot, to be shown in the first packet.
    pub mark: Option<Bytes>,
    /// What is said then.
    pub hello: Hello<'a>,
    /// How long handshake and hello may take.
    pub limit: Duration,
}

/// The first word on a connection.
#[derive(Clone)]
pub struct Hello<'a> {
    /// The right to come in.
    pub token: Token,
    /// The secret that came with the ticket.
    pub proof_key: &'a [u8],
    /// What the app is doing.
    pub app_state: wire::AppState,
    /// Why it connects.
    pub reason: wire::Reason,
    /// The slot whose time is now; empty: there is none.
    pub slot: Bytes,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// The connection; bulk streams are opened on it.
    pub connection: quinn::Connection,
    /// The talk stream towards the server.
    pub send: quinn::SendStream,
    /// The talk stream from the server.
    pub recv: FrameReader,
    /// What the server said.
    pub welcome: wire::Welcome,
}

impl Session {
    /// Connects and says hello.
    pub async fn open(transport: &Transport, door: Door<'_>) -> Result<Self, Error> {
        let Door { address, server_name, mark, hello, limit } = door;
        let opened = async {
            let connecting =
                transport.connect_with_mark(Protocol::Session, address, server_name, mark.as_deref());
            Self::say_hello(connecting.await?, hello).await
        };
        within(limit, opened).await
    }

    /// Says hello on a connection that is there.
    pub async fn greet(
        connection: quinn::Connection,
        hello: Hello<'_>,
        limit: Duration,
    ) -> Result<Self, Error> {
        within(limit, Self::say_hello(connection, hello)).await
    }

    async fn say_hello(connection: quinn::Connection, hello: Hello<'_>) -> Result<Self, Error> {
        let exporter = exporter(&connection, SESSION_EXPORTER)?;
        let (mut send, recv) = connection.open_bi().await?;
        let mut recv = FrameReader::new(recv);
        let seen = match &hello.token {
            Token::Ticket(_) => 0,
            Token::Resume { seen, .. } => *seen,
        };
        let hello = wire::Hello {
            version: PROTOCOL_VERSION,
            token: Some(match hello.token {
                Token::Ticket(ticket) => wire::hello::Token::Ticket(ticket),
                Token::Resume { token, .. } => wire::hello::Token::Resume(token),
            }),
            proof: Bytes::copy_from_slice(&session_proof(hello.proof_key, &exporter)),
            app_state: hello.app_state.into(),
            reason: hello.reason.into(),
            seen,
            agent: AGENT.to_owned(),
            slot: hello.slot,
        };
        // A server that refuses may close at once: its refusal counts, not our write.
        let _ =
            send.write_all(&frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) })).await;
        loop {
            match recv.next::<wire::ServerFrame>().await?.map(|f| f.kind) {
                Some(Some(server_frame::Kind::Welcome(welcome))) => {
                    return Ok(Self { connection, send, recv, welcome });
                }
                Some(Some(server_frame::Kind::Refusal(refusal))) => return Err(Refused::from(refusal).into()),
                Some(Some(server_frame::Kind::GoAway(go_away))) => return Err(refused_by(&go_away).into()),
                // A frame kind from the future.
                Some(_) => {}
                None => return Err(ended(&connection)),
            }
        }
    }

    /// Sends one frame.
    pub async fn send(&mut self, kind: client_frame::Kind) -> Result<(), Error> {
        let bytes = frame(&wire::ClientFrame { kind: Some(kind) });
        self.send.write_all(&bytes).await.map_err(write_error)
    }

    /// The next frame of the server; `None`: the stream has ended.
    pub async fn recv(&mut self) -> Result<Option<server_frame::Kind>, Error> {
        while let Some(frame) = self.recv.next::<wire::ServerFrame>().await? {
            // A frame kind from the future is skipped.
            if frame.kind.is_some() {
                return Ok(frame.kind);
            }
        }
        Ok(None)
    }

    /// Sends one request and waits for its answer; events that come in between are dropped. For tools and tests that do
    /// one thing after the other.
    pub async fn request(
        &mut self,
        id: u64,
        op: wire::request::Op,
        limit: Duration,
    ) -> Result<wire::answer::Result, Error> {
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        self.send(client_frame::Kind::Request(wire::Request { id, deadline_ms, op: Some(op) })).await?;
        let answer = async {
            loop {
                match self.recv().await? {
                    Some(server_frame::Kind::Answer(answer)) if answer.id == id => {
                        return answered(answer);
                    }
                    Some(server_frame::Kind::GoAway(go_away)) if go_away.within_ms == 0 => {
                        return Err(refused_by(&go_away).into());
                    }
                    Some(_) => {}
                    None => return Err(ended(&self.connection)),
                }
            }
        };
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(Error::Timeout { after: limit }))
    }

    /// Says goodbye.
    pub fn close(&self) {
        self.connection.close((Code::ClosedByClient as u32).into(), b"");
    }
}

async fn within(
    limit: Duration,
    opened: impl Future<Output = Result<Session, Error>>,
) -> Result<Session, Error> {
    let late = |_| Err(Error::unreachable(format_args!("no welcome within {limit:?}")));
    tokio::time::timeout(limit, opened).await.unwrap_or_else(late)
}

/// The result of an answer, a refusal as an error.
pub fn answered(answer: wire::Answer) -> Result<wire::answer::Result, Error> {
    match answer.result {
        Some(wire::answer::Result::Refusal(refusal)) => Err(Refused::from(refusal).into()),
        Some(result) => Ok(result),
        None => Err(Error::protocol("an answer without a result that this version knows")),
    }
}

/// Why a stream ended that should not have.
pub(crate) fn ended(connection: &quinn::Connection) -> Error {
    connection.close_reason().map_or_else(|| Error::unreachable("the server ended the stream"), Error::from)
}

pub(crate) fn write_error(error: quinn::WriteError) -> Error {
    match error {
        quinn::WriteError::ConnectionLost(error) => error.into(),
        other => Error::unreachable(other),
    }
}

/// A go-away as the refusal that it is.
pub(crate) fn refused_by(go_away: &wire::GoAway) -> Refused {
    let of = Refused::of(go_away.code());
    Refused {
        retryable: go_away.reconnect,
        retry_after: crate::error::millis(go_away.retry_after_ms),
        detail: if go_away.detail.is_empty() { of.detail.clone() } else { go_away.detail.clone() },
        ..of
    }
}
