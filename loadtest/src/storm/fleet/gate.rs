//! What a phone says to a gateway: each request is a stream of its own, with a proof that is bound to the connection.
//!
//! It must never take an answer of another kind for a success.

use std::sync::Arc;
use std::time::Duration;

use buslane_client::raw::{FrameReader, Identity, Protocol};
use buslane_shared::frame::frame;
use buslane_shared::id::UserId;
use buslane_shared::limits::PROTOCOL_VERSION;
use buslane_shared::proof::{EXPORTER_BYTES, GATE_EXPORTER};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, gate_answer, gate_request};
use bytes::Bytes;

use super::session::{app_state, reason};
use crate::storm::net::{Net, Turned};
use crate::storm::scenario::Side;

/// How long an answer is worth to the one who asks: as long as a gateway gives itself.
const DEADLINE_MS: u32 = 5_000;

/// Where a gateway is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    address: Arc<str>,
    server_name: Arc<str>,
}

impl Gate {
    /// At `host:port`; the host is the name in its certificate.
    pub fn at(address: &str) -> Self {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self { address: address.into(), server_name: host.into() }
    }

    /// Connects from a source address, with a pass or a slot if there is one.
    pub async fn connect(
        &self,
        net: &Net,
        from: usize,
        mark: Option<&[u8]>,
        limit: Duration,
    ) -> Result<quinn::Connection, Turned> {
        net.connect(from, Protocol::Gate, &self.address, &self.server_name, mark, limit).await
    }
}

/// A connection to a gateway, and who asks on it.
#[derive(Debug)]
pub struct Asking<'a> {
    /// The connection.
    pub connection: &'a quinn::Connection,
    /// Whether somebody looks.
    pub side: Side,
    /// The slot whose time is now.
    pub slot: Option<Bytes>,
}

impl Asking<'_> {
    /// Registers the device: the credential.
    pub async fn enrol(&self, identity: &Identity, user: &UserId) -> Result<Bytes, Turned> {
        let enrol = wire::Enrol {
            user: user.to_string(),
            device_key: Bytes::copy_from_slice(identity.public_key()),
            device_name: "storm".to_owned(),
            proof: self.proof(identity)?,
            right: Some(wire::enrol::Right::Open(true)),
        };
        match self.ask(gate_request::Op::Enrol(enrol)).await? {
            gate_answer::Result::Enrolled(enrolled) => Ok(Bytes::copy_from_slice(&enrolled.credential)),
            _ => Err(Turned::Failed("wrong_answer")),
        }
    }

    /// Asks for a ticket.
    pub async fn enter(&self, identity: &Identity, credential: &Bytes) -> Result<wire::Ticket, Turned> {
        let enter = wire::Enter {
            credential: credential.clone(),
            proof: self.proof(identity)?,
            app_state: app_state(self.side).into(),
            reason: reason(self.side).into(),
            slot: self.slot.clone().unwrap_or_default(),
        };
        match self.ask(gate_request::Op::Enter(enter)).await? {
            gate_answer::Result::Ticket(ticket) => Ok(ticket),
            _ => Err(Turned::Failed("wrong_answer")),
        }
    }

    fn proof(&self, identity: &Identity) -> Result<Bytes, Turned> {
        Ok(identity.prove(&exporter(self.connection, GATE_EXPORTER)?).into())
    }

    async fn ask(&self, op: gate_request::Op) -> Result<gate_answer::Result, Turned> {
        let request = wire::GateRequest { version: PROTOCOL_VERSION, deadline_ms: DEADLINE_MS, op: Some(op) };
        let (mut send, recv) = self.connection.open_bi().await?;
        // A gateway that refuses early may close before it has read everything: its answer counts, not our write.
        let _ = send.write_all(&frame(&request)).await;
        let _ = send.finish();
        match FrameReader::new(recv).next::<wire::GateAnswer>().await {
            Ok(answer) => match answer.and_then(|answer| answer.result) {
                Some(gate_answer::Result::Refusal(refusal)) => Err(refusal.into()),
                Some(result) => Ok(result),
                None => Err(Turned::Failed("no_answer")),
            },
            Err(error) => Err(broken(self.connection, error.name())),
        }
    }
}

/// Says goodbye.
pub fn close(connection: &quinn::Connection) {
    connection.close((Code::ClosedByClient as u32).into(), b"");
}

/// Why a stream ended: what the connection was closed with counts most.
pub fn broken(connection: &quinn::Connection, otherwise: &'static str) -> Turned {
    connection.close_reason().map_or(Turned::Failed(otherwise), Turned::from)
}

/// What both ends of a TLS connection can compute and nobody else.
pub fn exporter(connection: &quinn::Connection, label: &[u8]) -> Result<[u8; EXPORTER_BYTES], Turned> {
    let mut out = [0; EXPORTER_BYTES];
    connection.export_keying_material(&mut out, label, b"").map_err(|_| Turned::Failed("no_exporter"))?;
    Ok(out)
}
