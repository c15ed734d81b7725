//! `enrol`: a device registers its key under a user's name.
//!
//! Why it exists: it is the only request at the gate that reaches the backend and the store, and the only one a stranger
//! can make, so everything that can be checked here is checked here first, the cheapest first. It must never let the
//! answer, or the time it takes, tell a guesser how near he was.

use std::time::Duration;

use aws_lc_rs::signature::ED25519_PUBLIC_KEY_LEN;
use buslane_chassis::clock;
use buslane_shared::id::UserId;
use buslane_shared::limits::DEVICE_NAME_CHARS_MAX;
use buslane_shared::proof::gate_proof_holds;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::token::Purpose;
use buslane_shared::wire;
use tokio::time::{Instant, sleep_until};

use crate::config::Enrolment;
use crate::enter::not_ready;
use crate::gate::{Gate, Peer};
use crate::limits::too_often;

/// A wrong code is answered not earlier than this. It is longer than a look into the store takes, so "no such code",
/// "used" and "for another name" look the same from outside.
const WRONG_CODE_ANSWER_AFTER: Duration = Duration::from_millis(100);

/// Longest one-time code that is passed on; real ones are far shorter.
const CODE_BYTES_MAX: usize = 64;

/// The right by which a device is to be enrolled, allowed by the policy.
enum Right<'a> {
    Code(&'a str),
    Token(&'a str),
    Open,
}

/// Enrols the device, or says why not.
pub async fn enrol(gate: &Gate, peer: &Peer, request: &wire::Enrol) -> Result<wire::Enrolled, Refusal> {
    let user = check_fields(request)?;
    let right = allowed(gate, request)?;
    if gate.feed.keys().is_empty() {
        return Err(not_ready());
    }
    if !gate_proof_holds(&request.device_key, &peer.exporter, &request.proof) {
        return Err(Refusal::of(Code::BadProof));
    }
    gate.enrols_by_name.take(&user).map_err(|wait| too_often("to enrol under this name", wait))?;
    let device = wire::EnrolDevice {
        user: request.user.clone(),
        device_key: request.device_key.clone(),
        device_name: request.device_name.clone(),
        right: Some(backend_right(gate, right, &user).await?),
    };
    let vouched = matches!(device.right, Some(wire::enrol_device::Right::VouchedS(_)));
    let enrolled = ask_backend(gate, device).await?;
    credential(gate, request, &enrolled, vouched)
}

fn check_fields(request: &wire::Enrol) -> Result<UserId, Refusal> {
    let user = request.user.parse().map_err(|error| Refusal::field("user", error))?;
    if request.device_key.len() != ED25519_PUBLIC_KEY_LEN {
        return Err(Refusal::field("device_key", "an Ed25519 public key has 32 bytes"));
    }
    let name = &request.device_name;
    if name.chars().count() > DEVICE_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let detail = format!("at most {DEVICE_NAME_CHARS_MAX} characters, and no control characters");
        return Err(Refusal::field("device_name", detail));
    }
    Ok(user)
}

/// The right that the request names, if the policy lets it in at all.
fn allowed<'a>(gate: &Gate, request: &'a wire::Enrol) -> Result<Right<'a>, Refusal> {
    use wire::enrol::Right as Asked;
    let closed = |detail| Err(Refusal::new(Code::EnrolmentClosed, detail));
    match (&request.right, gate.enrolment) {
        (Some(Asked::Jwt(token)), _) if gate.jwt.is_some() => Ok(Right::Token(token)),
        (Some(Asked::Jwt(_)), _) => {
            closed("no identity provider is configured here; enrol with a one-time code")
        }
        (_, Enrolment::Jwt) => {
            closed("enrolment needs a token of the identity provider; sign in there first")
        }
        (Some(Asked::Code(code)), _) => Ok(Right::Code(code)),
        (Some(Asked::Open(true)), Enrolment::Open) => Ok(Right::Open),
        (Some(Asked::Open(true)), Enrolment::Code) => Err(Refusal::of(Code::EnrolmentClosed)),
        (Some(Asked::Open(false)) | None, _) => Err(Refusal::field(
            "right",
            "send a one-time code, a token of the identity provider, or open = true",
        )),
    }
}

/// The right as the backend wants it: a token has been checked by then.
async fn backend_right(
    gate: &Gate,
    right: Right<'_>,
    user: &UserId,
) -> Result<wire::enrol_device::Right, Refusal> {
    use wire::enrol_device::Right as Granted;
    match right {
        // Too long to be one: the backend need not see it, and the answer is the one for any wrong code.
        Right::Code(code) if code.len() > CODE_BYTES_MAX => Ok(Granted::Code(String::new())),
        Right::Code(code) => Ok(Granted::Code(code.to_owned())),
        Right::Open => Ok(Granted::Open(true)),
        Right::Token(token) => {
            let check = gate.jwt.as_ref().ok_or_else(|| Refusal::of(Code::EnrolmentClosed))?;
            check.vouches(token, user).await?;
            Ok(Granted::VouchedS(check.credential_life_s))
        }
    }
}

async fn ask_backend(gate: &Gate, device: wire::EnrolDevice) -> Result<wire::EnrolledDevice, Refusal> {
    let asked_at = Instant::now();
    let with_code = matches!(device.right, Some(wire::enrol_device::Right::Code(_)));
    match gate.backend.enrol(device).await {
        Err(refusal) if with_code && matches!(refusal.code, Code::BadCode | Code::UnknownUser) => {
            sleep_until(asked_at + WRONG_CODE_ANSWER_AFTER).await;
            Err(Refusal::of(Code::BadCode))
        }
        answer => answer,
    }
}

/// Seals the credential: the proof of the enrolment that any gateway accepts.
fn credential(
    gate: &Gate,
    request: &wire::Enrol,
    enrolled: &wire::EnrolledDevice,
    vouched: bool,
) -> Result<wire::Enrolled, Refusal> {
    let life_s = enrolled.expires_ms.saturating_sub(enrolled.enrolled_at_ms) / 1_000;
    let body = wire::CredentialBody {
        user: request.user.clone(),
        device: enrolled.device.clone(),
        device_key: request.device_key.clone(),
        issued_at_ms: enrolled.enrolled_at_ms,
        expires_ms: enrolled.expires_ms,
        // Whom the identity provider vouched for must show a fresh token at the end.
        renew_s: if vouched { 0 } else { u32::try_from(life_s).unwrap_or(u32::MAX) },
    };
    let keys = gate.feed.keys();
    let sealed = keys.seal(Purpose::Credential, &body, clock::random(), clock::unix_ms());
    Ok(wire::Enrolled {
        user: body.user,
        device: body.device,
        // The device is registered, only its credential is missing: asking again gives it.
        credential: sealed.map_err(|_| not_ready().maybe_applied())?,
        credential_expires_ms: body.expires_ms,
    })
}
