//! `enter`: a device that is enrolled asks for a ticket.
//!
//! Why it exists: this is the way in for every session, so it touches neither backend nor store; what it needs is in the
//! credential and in the feed. The stages are types: a ticket is written for a [`Proven`] device and for nothing else. It
//! must never tell anything about a user to somebody who has not proved to hold the user's device key.

use buslane_chassis::clock;
use buslane_chassis::oversee::Refused;
use buslane_chassis::trace::Context;
use buslane_shared::UnixMs;
use buslane_shared::choice::{CHOICE_VERSION, choose};
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::mark::{Kind, Mark, MarkError, NodeTag, PASS_LIFE_MS, Use};
use buslane_shared::proof::{PROOF_KEY_BYTES, gate_proof_holds};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::slots::Asker;
use buslane_shared::token::{KeyRing, Purpose, TokenError};
use buslane_shared::wire;
use bytes::Bytes;

use crate::arrival::class;
use crate::gate::{Gate, Peer};
use crate::limits::too_often;
use crate::managers::{Managers, loads};
use crate::shed::{self, Lane, Slot, Verdict};

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
    traced: Context,
) -> Result<wire::Ticket, Refusal> {
    let keys = gate.feed.keys();
    let proven = prove(&keys, peer, request, now_ms).inspect_err(|refusal| {
        // Of one that is only too late it is known whose it was; it proves nothing any more but that.
        if refusal.code == Code::CredentialExpired
            && let Ok(late) = prove(&keys, peer, request, 0)
        {
            remember(gate, refusal, &late, now_ms);
        }
    })?;
    let given = give(gate, peer, request, &keys, &proven, (now_ms, traced));
    given.inspect_err(|refusal| remember(gate, refusal, &proven, now_ms))
}

/// For operators. The level of a refusal is that at which the session manager cuts: nothing was ranked here.
fn remember(gate: &Gate, refusal: &Refusal, who: &Proven, now_ms: UnixMs) {
    let posture = refusal.busy.as_ref().map_or_else(Default::default, |busy| busy.posture);
    let refused = Refused::of(refusal, (&who.user, Some(who.device)), "enter", posture, now_ms);
    if let Some(refused) = refused {
        gate.refusals.note(Refused { level: None, cut: refused.level, ..refused });
    }
}

/// A ticket for a device that has proved to be one, or why not.
fn give(
    gate: &Gate,
    peer: &Peer,
    request: &wire::Enter,
    keys: &KeyRing,
    proven: &Proven,
    (now_ms, traced): (UnixMs, Context),
) -> Result<wire::Ticket, Refusal> {
    if gate.feed.is_revoked(&proven.device, proven.credential.issued_at_ms) {
        return Err(Refusal::of(Code::Revoked));
    }
    let lane = lane(gate, &proven.user, request.app_state());
    let share = match lane {
        Lane::Foreground => &gate.tickets_by_user,
        Lane::Background => &gate.background_by_user,
    };
    share.take(&proven.user).map_err(|wait| too_often("of this user", wait))?;
    let nodes = gate.feed.nodes();
    let chosen = choose(&proven.user, &nodes);
    let first = chosen.first().ok_or_else(nobody_serves)?;
    // Only who has proved to be a device of this system is given a place in a ledger, or a stranger could fill it.
    let asker = Asker::of(proven.device);
    admit(gate, peer, keys, lane, &first.name, (&request.slot, asker), now_ms)?;
    let passes = passes(gate, keys, lane, asker, now_ms);
    ticket(gate, keys, proven, &chosen, now_ms, traced)
        .map(|ticket| wire::Ticket { passes: Some(passes), ..ticket })
}

/// In whose name the device comes. That somebody looks is a claim: beyond a user's share it does not count.
fn lane(gate: &Gate, user: &UserId, app_state: wire::AppState) -> Lane {
    if app_state != wire::AppState::Foreground {
        return Lane::Background;
    }
    match gate.claims_by_user.take(user) {
        Ok(()) => Lane::Foreground,
        Err(_) => {
            metrics::counter!("buslane_gateway_claims_demoted_total").increment(1);
            Lane::Background
        }
    }
}

/// Whether the ticket is given now, seen from the session manager that it is for.
fn admit(
    gate: &Gate,
    peer: &Peer,
    keys: &KeyRing,
    lane: Lane,
    node: &str,
    (slot, asker): (&Bytes, Asker),
    now_ms: UnixMs,
) -> Result<(), Refusal> {
    let loads = loads(&gate.feed);
    let slot_is = match lane {
        Lane::Foreground => Slot::Absent,
        Lane::Background => judge(gate, peer, keys, node, slot, now_ms),
    };
    let verdict = shed::decide(lane, Managers::standing(&loads, node), slot_is);
    metrics::counter!("buslane_gateway_enters_total", "lane" => lane.name(), "verdict" => verdict.name())
        .increment(1);
    if slot_is == Slot::Due {
        gate.managers.on_slot(node, asker);
    }
    match verdict {
        Verdict::Ticket => Ok(()),
        Verdict::Defer => Err(gate.managers.defer(&loads, node, keys, asker, now_ms)),
        Verdict::Wait(wait_ms) => Err(gate.managers.wait(&loads, node, slot, wait_ms)),
        Verdict::BadSlot => Err(Refusal::of(Code::BadSlot)),
    }
}

/// What the slot is worth that somebody shows who wants to this manager.
fn judge(gate: &Gate, peer: &Peer, keys: &KeyRing, node: &str, slot: &Bytes, now_ms: UnixMs) -> Slot {
    if slot.is_empty() {
        return Slot::Absent;
    }
    let judged = match keys.marks().read_at(slot, NodeTag::of(node), now_ms) {
        Ok(Mark { kind: Kind::Pass, .. }) => Slot::Bad("pass"),
        Ok(Mark { kind: Kind::Slot, .. }) => spend(gate, peer, slot, now_ms),
        // The rest of the wait leads to the middle of its time.
        Err(MarkError::Early { wait_ms }) => {
            let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
            Slot::Early(wait_ms.saturating_add(gate.managers.tolerance_ms()))
        }
        Err(MarkError::Late | MarkError::Expired) => Slot::Late,
        Err(error) => Slot::Bad(error.name()),
    };
    metrics::counter!("buslane_gateway_slots_total", "what" => judged.name()).increment(1);
    judged
}

/// A slot counts once: for the connection that showed it in its first packet, or for the first that names it.
fn spend(gate: &Gate, peer: &Peer, slot: &Bytes, now_ms: UnixMs) -> Slot {
    if peer.arrival.has_shown(slot) {
        return Slot::Due;
    }
    let Ok(mark) = slot.as_ref().try_into() else { return Slot::Bad(MarkError::Malformed.name()) };
    match gate.spent.take(mark, now_ms) {
        Use::First => Slot::Due,
        Use::Again => Slot::Bad(Use::Again.name()),
        // What cannot be remembered is not honoured.
        Use::Full => Slot::Absent,
    }
}

/// Passes for the next connections; none where no key is valid, which the next step finds too.
fn passes(gate: &Gate, keys: &KeyRing, lane: Lane, asker: Asker, now_ms: UnixMs) -> wire::Passes {
    // Two batches of one moment differ.
    let [first] = clock::random();
    let nonces = (0..gate.passes_per_batch).zip(0..).map(|(_, n)| Mark::nonce(asker, first.wrapping_add(n)));
    let marks = nonces.filter_map(|nonce| keys.marks().make(&Mark::pass(class(lane), now_ms, nonce), now_ms));
    let marks: Vec<Bytes> = marks.map(|mark| Bytes::copy_from_slice(&mark)).collect();
    metrics::counter!("buslane_gateway_passes_total", "lane" => lane.name()).increment(marks.len() as u64);
    wire::Passes { marks, valid_ms: u32::try_from(PASS_LIFE_MS).unwrap_or(u32::MAX) }
}

fn nobody_serves() -> Refusal {
    Refusal::new(Code::Unavailable, "no session manager is up; try again in a moment")
        .retry_after_ms(RETRY_AFTER_MS)
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

fn ticket(
    gate: &Gate,
    keys: &KeyRing,
    proven: &Proven,
    chosen: &[&wire::Node],
    now_ms: UnixMs,
    traced: Context,
) -> Result<wire::Ticket, Refusal> {
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
        trace: traced.trace_wire(),
        span: traced.span_wire(),
        traced_at_ms: if traced.is_traced() { now_ms } else { 0 },
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
