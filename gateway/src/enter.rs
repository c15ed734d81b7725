//! `enter`: a device that is enrolled asks for a ticket.
//!
//! Why it exists: this is the way in for every session, so it touches neither backend nor store; what it needs is in the
//! credential and in the feed. The stages are types: a ticket is written for a [`Proven`] device and for nothing else. It
//! must never tell anything about a user to somebody who has not proved to hold the user's device key.

use buslane_chassis::clock;
use buslane_shared::UnixMs;
use buslane_shared::choice::{CHOICE_VERSION, choose};
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::proof::{PROOF_KEY_BYTES, gate_proof_holds};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::token::{KeyRing, Purpose, TokenError};
use buslane_shared::wire;
use bytes::Bytes;

use crate::gate::{Gate, Peer};
use crate::limits::too_often;

/// When there is no session manager, or nothing has come from the backend yet: a restart takes about this long.
const RETRY_AFTER_MS: u32 = 1_000;

/// A device that has shown its credential and signed for this connection.
struct Proven {
    user: UserId,
    device: DeviceId,
    credential: wire::CredentialBody,
}

/// A ticket for the device, or why not.
pub fn enter(
    gate: &Gate,
    peer: &Peer,
    request: &wire::Enter,
    now_ms: UnixMs,
) -> Result<wire::Ticket, Refusal> {
    let keys = gate.feed.keys();
    let proven = prove(&keys, peer, request, now_ms)?;
    if gate.feed.is_revoked(&proven.device, proven.credential.issued_at_ms) {
        return Err(Refusal::of(Code::Revoked));
    }
    gate.tickets_by_user.take(&proven.user).map_err(|wait| too_often("of this user", wait))?;
    ticket(gate, &keys, &proven, now_ms)
}

/// The keys to seal with; there are none before the backend was heard for the first time.
pub fn not_ready() -> Refusal {
    Refusal::new(Code::Unavailable, "the gateway is starting; try again in a moment")
        .retry_after_ms(RETRY_AFTER_MS)
}

fn prove(keys: &KeyRing, peer: &Peer, request: &wire::Enter, now_ms: UnixMs) -> Result<Proven, Refusal> {
    if keys.is_empty() {
        return Err(not_ready());
    }
    let credential: wire::CredentialBody =
        keys.open(Purpose::Credential, &request.credential, now_ms).map_err(|error| match error {
            TokenError::Expired => Refusal::of(Code::CredentialExpired),
            _ => Refusal::of(Code::BadCredential),
        })?;
    if !gate_proof_holds(&credential.device_key, &peer.exporter, &request.proof) {
        return Err(Refusal::of(Code::BadProof));
    }
    let user = credential.user.parse().map_err(|_| Refusal::of(Code::BadCredential))?;
    let device = DeviceId::try_from(&credential.device).map_err(|_| Refusal::of(Code::BadCredential))?;
    Ok(Proven { user, device, credential })
}

fn ticket(gate: &Gate, keys: &KeyRing, proven: &Proven, now_ms: UnixMs) -> Result<wire::Ticket, Refusal> {
    let nodes = gate.feed.nodes();
    let chosen = choose(&proven.user, &nodes);
    if chosen.is_empty() {
        let detail = "no session manager is up; try again in a moment";
        return Err(Refusal::new(Code::Unavailable, detail).retry_after_ms(RETRY_AFTER_MS));
    }
    let renewed = renewal(&proven.credential, now_ms);
    let credential = renewed.as_ref().unwrap_or(&proven.credential);
    // A ticket never outlives the enrolment behind it.
    let expires_ms = credential.expires_ms.min(now_ms + gate.ticket_life_ms);
    let proof_key: Bytes = clock::random::<PROOF_KEY_BYTES>().to_vec().into();
    let body = wire::TicketBody {
        user: proven.credential.user.clone(),
        device: proven.credential.device.clone(),
        proof_key: proof_key.clone(),
        issued_at_ms: proven.credential.issued_at_ms,
        expires_ms,
        nodes: chosen.iter().map(|node| node.name.clone()).collect(),
        choice_version: CHOICE_VERSION,
    };
    let sealed = keys.seal(Purpose::Ticket, &body, clock::random(), now_ms).map_err(|_| not_ready())?;
    let address = |node: &&wire::Node| wire::Address {
        server_name: node.server_name.clone(),
        front: node.front.clone(),
        wake: node.wake.clone(),
    };
    let mut ticket = wire::Ticket {
        ticket: sealed,
        proof_key,
        valid_ms: u32::try_from(expires_ms - now_ms).unwrap_or(u32::MAX),
        addresses: chosen.iter().map(address).collect(),
        ..Default::default()
    };
    if let Some(renewed) = renewed {
        let sealed = keys.seal(Purpose::Credential, &renewed, clock::random(), now_ms);
        ticket.credential = sealed.map_err(|_| not_ready())?;
        ticket.credential_expires_ms = renewed.expires_ms;
    }
    Ok(ticket)
}

/// The credential to hand out in place of this one: with a new end, once half of its life is over. Its time of issue stays
/// the time of the enrolment: that is what a revocation is compared with, both by the backend's clock, so a gateway whose
/// clock is ahead cannot lift a revocation by renewing.
fn renewal(credential: &wire::CredentialBody, now_ms: UnixMs) -> Option<wire::CredentialBody> {
    let life_ms = u64::from(credential.renew_s) * 1_000;
    let left_ms = credential.expires_ms.saturating_sub(now_ms);
    (life_ms > 0 && left_ms < life_ms / 2)
        .then(|| wire::CredentialBody { expires_ms: now_ms + life_ms, ..credential.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(expires_ms: u64, renew_s: u32) -> wire::CredentialBody {
        wire::CredentialBody { issued_at_ms: 1_000, expires_ms, renew_s, ..Default::default() }
    }

    #[test]
    fn a_credential_is_renewed_in_the_second_half_of_its_life() {
        let young = credential(101_000, 100);
        assert_eq!(renewal(&young, 51_000), None);
        let renewed = renewal(&young, 51_001).unwrap();
        assert_eq!(renewed.expires_ms, 151_001);
        assert_eq!(renewed.issued_at_ms, 1_000, "a revocation must still apply to it");
    }

    #[test]
    fn what_an_identity_provider_vouched_for_is_never_renewed() {
        assert_eq!(renewal(&credential(101_000, 0), 100_999), None);
    }
}
