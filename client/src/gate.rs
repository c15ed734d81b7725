//! One connection to a gateway: enrol a device, ask for a ticket.
//!
//! Each request is a stream of its own; the proof of possession is bound to the connection by the TLS exporter.

use std::time::Duration;

use buslane_shared::frame::frame;
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::limits::PROTOCOL_VERSION;
use buslane_shared::proof::{EXPORTER_BYTES, GATE_EXPORTER};
use buslane_shared::refusal::Code;
use buslane_shared::{UnixMs, wire};
use bytes::Bytes;

use crate::error::{Error, Refused};
use crate::frames::FrameReader;
use crate::identity::Identity;
use crate::transport::{Protocol, Transport};
use crate::types::id;

/// What a device shows to be enrolled.
#[derive(Clone, PartialEq, Eq)]
pub enum Right {
    /// Nothing.
    Open,
    /// A one-time code.
    Code(String),
    /// A JWT of the identity provider.
    Jwt(String),
}

/// The proof of an enrolment.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Opaque.
    pub bytes: Bytes,
    /// Unix milliseconds.
    pub expires_ms: UnixMs,
}

/// Who asks for a ticket, and why.
#[derive(Clone)]
pub struct Entry<'a> {
    /// The proof of the enrolment.
    pub credential: &'a Bytes,
    /// What the app is doing.
    pub app_state: wire::AppState,
    /// Why it connects.
    pub reason: wire::Reason,
    /// The slot whose time is now; empty: there is none.
    pub slot: Bytes,
}

/// A connected gateway.
#[derive(Debug)]
pub struct Gate {
    connection: quinn::Connection,
    exporter: [u8; EXPORTER_BYTES],
}

impl Gate {
    /// Connects to a gateway at `host:port`; the host is the name in its certificate.
    pub async fn connect(transport: &Transport, address: &str) -> Result<Self, Error> {
        Self::connect_with_mark(transport, address, None).await
    }

    /// The same, and shows a pass or a slot in the first packet.
    pub async fn connect_with_mark(
        transport: &Transport,
        address: &str,
        mark: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let server_name = host(address);
        let connection = transport.connect_with_mark(Protocol::Gate, address, server_name, mark).await?;
        let exporter = exporter(&connection, GATE_EXPORTER)?;
        Ok(Self { connection, exporter })
    }

    /// The connection, for what this type does not offer.
    pub fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    /// Registers the device under a user name.
    pub async fn enrol(
        &self,
        identity: &Identity,
        user: &UserId,
        device_name: &str,
        right: Right,
        limit: Duration,
    ) -> Result<Credential, Error> {
        let enrol = wire::Enrol {
            user: user.to_string(),
            device_key: Bytes::copy_from_slice(identity.public_key()),
            device_name: device_name.to_owned(),
            proof: identity.prove(&self.exporter).into(),
            right: Some(match right {
                Right::Open => wire::enrol::Right::Open(true),
                Right::Code(code) => wire::enrol::Right::Code(code),
                Right::Jwt(jwt) => wire::enrol::Right::Jwt(jwt),
            }),
        };
        match self.ask(wire::gate_request::Op::Enrol(enrol), limit).await? {
            wire::gate_answer::Result::Enrolled(enrolled) => {
                if id(DeviceId::try_from(&enrolled.device))? != identity.device() {
                    return Err(Error::protocol("the gateway enrolled another device"));
                }
                Ok(Credential { bytes: enrolled.credential, expires_ms: enrolled.credential_expires_ms })
            }
            _ => Err(Error::protocol("the gateway did not answer to the enrolment")),
        }
    }

    /// Asks for a ticket.
    pub async fn enter(
        &self,
        identity: &Identity,
        entry: Entry<'_>,
        limit: Duration,
    ) -> Result<wire::Ticket, Error> {
        let enter = wire::Enter {
            credential: entry.credential.clone(),
            proof: identity.prove(&self.exporter).into(),
            app_state: entry.app_state.into(),
            reason: entry.reason.into(),
            slot: entry.slot,
        };
        match self.ask(wire::gate_request::Op::Enter(enter), limit).await? {
            wire::gate_answer::Result::Ticket(ticket) => Ok(ticket),
            _ => Err(Error::protocol("the gateway did not answer with a ticket")),
        }
    }

    /// One request on a stream of its own.
    pub async fn ask(
        &self,
        op: wire::gate_request::Op,
        limit: Duration,
    ) -> Result<wire::gate_answer::Result, Error> {
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let request = wire::GateRequest { version: PROTOCOL_VERSION, deadline_ms, op: Some(op) };
        let exchange = async {
            let (mut send, recv) = self.connection.open_bi().await?;
            // A gateway that refuses early may close before it has read everything: its answer counts, not our write.
            let _ = send.write_all(&frame(&request)).await;
            let _ = send.finish();
            FrameReader::new(recv).next::<wire::GateAnswer>().await
        };
        let answer = match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Error::Timeout { after: limit }),
        };
        match answer.and_then(|a| a.result) {
            Some(wire::gate_answer::Result::Refusal(refusal)) => Err(Refused::from(refusal).into()),
            Some(result) => Ok(result),
            None => Err(Error::protocol("the gateway ended the stream without an answer")),
        }
    }

    /// Says goodbye.
    pub fn close(&self) {
        self.connection.close((Code::ClosedByClient as u32).into(), b"");
    }
}

/// The part before the port, without the brackets of an IPv6 address.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// What both ends of a TLS connection can compute and nobody else.
pub(crate) fn exporter(connection: &quinn::Connection, label: &[u8]) -> Result<[u8; EXPORTER_BYTES], Error> {
    let mut out = [0; EXPORTER_BYTES];
    connection
        .export_keying_material(&mut out, label, b"")
        .map_err(|_| Error::protocol("the TLS stack exports no keying material"))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_name_in_the_certificate() {
        for (address, expected) in
            [("127.0.0.1:7400", "127.0.0.1"), ("[::1]:7400", "::1"), ("gate.example:7400", "gate.example")]
        {
            assert_eq!(host(address), expected);
        }
    }
}
