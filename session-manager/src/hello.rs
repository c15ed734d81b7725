//! Who may open a session: everything that is checked in a hello, as one decision over facts.
//!
//! Why it exists: a login must cost little beyond its handshake, and must need nobody else. The ticket carries what is
//! needed, the keys are here already, and the proof binds it to this very connection. It must never tell a stranger more
//! than the code of the refusal, and never look at a proof before its token has opened.

use buslane_chassis::trace::Context;
use buslane_shared::UnixMs;
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::limits::DEVICE_NAME_CHARS_MAX;
use buslane_shared::proof::{EXPORTER_BYTES, session_proof_holds};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::token::{KeyRing, Purpose, TokenError};
use buslane_shared::wire::{self, hello::Token};
use bytes::Bytes;

/// Lowest minor version of the protocol that is still spoken. There was none before 1.
const VERSION_MIN: u32 = 1;

/// A session that is opened so soon after its ticket was given belongs to the same login: a phone comes at once, by a bad network within
/// seconds.
const SAME_LOGIN_MS: UnixMs = 10_000;

/// What a hello is judged by.
pub(crate) struct Facts<'a> {
    /// The keys of this moment.
    pub(crate) keys: &'a KeyRing,
    /// The name of this node.
    pub(crate) node: &'a str,
    /// Unix milliseconds.
    pub(crate) now_ms: UnixMs,
    /// Bytes that only the two ends of this connection know.
    pub(crate) exporter: &'a [u8; EXPORTER_BYTES],
    /// Whether what was issued to a device at a time has been revoked.
    pub(crate) is_revoked: &'a dyn Fn(&DeviceId, UnixMs) -> bool,
}

/// A hello that was accepted.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Whose session it is.
    pub(crate) user: UserId,
    /// The device.
    pub(crate) device: DeviceId,
    /// Goes on into the next resume token.
    pub(crate) proof_key: Bytes,
    /// When the right was given, for revocations that come later.
    pub(crate) issued_at_ms: UnixMs,
    /// When the ticket expires; no resume token outlives it.
    pub(crate) expires_ms: UnixMs,
    /// The session to continue, and the last event that the client took over.
    pub(crate) resume: Option<(SessionId, u64)>,
    /// What the app does.
    pub(crate) app_state: wire::AppState,
    /// Where the ticket was given, if that is traced and was a moment ago.
    pub(crate) parent: Context,
}

/// A hello that was not.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// Why.
    pub(crate) refusal: Refusal,
    /// Who it was, where that was shown.
    pub(crate) who: Option<(UserId, DeviceId)>,
}

impl From<Refusal> for Box<Rejected> {
    fn from(refusal: Refusal) -> Self {
        Self::new(Rejected { refusal, who: None })
    }
}

/// What both kinds of token say.
struct Right {
    user: String,
    device: Bytes,
    proof_key: Bytes,
    issued_at_ms: UnixMs,
    expires_ms: UnixMs,
    resume: Option<(SessionId, u64)>,
    parent: Context,
}

/// Accepts or refuses a hello.
pub(crate) fn verify(hello: &wire::Hello, facts: &Facts<'_>) -> Result<Verified, Box<Rejected>> {
    let right = right(hello, facts)?;
    // What a sealed token says was checked by who sealed it; a defect there must still not become a session.
    let user: UserId = right.user.parse().map_err(|_| Refusal::of(Code::BadTicket))?;
    let device = DeviceId::try_from(&right.device).map_err(|_| Refusal::of(Code::BadTicket))?;
    if (facts.is_revoked)(&device, right.issued_at_ms) {
        let who = Some((user, device));
        return Err(Box::new(Rejected { refusal: Refusal::of(Code::Revoked), who }));
    }
    Ok(Verified {
        user,
        device,
        proof_key: right.proof_key,
        issued_at_ms: right.issued_at_ms,
        expires_ms: right.expires_ms,
        resume: right.resume,
        app_state: hello.app_state(),
        parent: right.parent,
    })
}

/// What the hello's token says, when the proof shows that it is its bearer's.
fn right(hello: &wire::Hello, facts: &Facts<'_>) -> Result<Right, Refusal> {
    if hello.version < VERSION_MIN {
        return Err(Refusal::of(Code::BadVersion));
    }
    if hello.agent.chars().count() > DEVICE_NAME_CHARS_MAX {
        return Err(Refusal::field("agent", format!("at most {DEVICE_NAME_CHARS_MAX} characters")));
    }
    if facts.keys.is_empty() {
        return Err(Refusal::new(Code::Unavailable, "this node has no keys yet; try again in a moment"));
    }
    let right = match &hello.token {
        Some(Token::Ticket(token)) => ticket(token, facts)?,
        Some(Token::Resume(token)) => resume(token, hello.seen, facts)?,
        None => return Err(Refusal::field("token", "a hello carries a ticket or a resume token")),
    };
    match session_proof_holds(&right.proof_key, facts.exporter, &hello.proof) {
        true => Ok(right),
        false => Err(Refusal::of(Code::BadProof)),
    }
}

fn ticket(token: &[u8], facts: &Facts<'_>) -> Result<Right, Refusal> {
    let body: wire::TicketBody = facts.keys.open(Purpose::Ticket, token, facts.now_ms).map_err(refuse)?;
    if !body.nodes.iter().any(|node| node == facts.node) {
        let detail = "the ticket is for another node; ask the gateway for a new one";
        return Err(Refusal::new(Code::BadTicket, detail));
    }
    let parent = parent(&body, facts.now_ms);
    Ok(Right {
        user: body.user,
        device: body.device,
        proof_key: body.proof_key,
        issued_at_ms: body.issued_at_ms,
        expires_ms: body.expires_ms,
        resume: None,
        parent,
    })
}

fn resume(token: &[u8], seen: u64, facts: &Facts<'_>) -> Result<Right, Refusal> {
    let body: wire::ResumeBody = facts.keys.open(Purpose::Resume, token, facts.now_ms).map_err(refuse)?;
    if body.node != facts.node {
        return Err(Refusal::new(Code::BadTicket, "the session was at another node; use the ticket"));
    }
    let session = SessionId::try_from(&body.session).map_err(|_| Refusal::of(Code::BadTicket))?;
    Ok(Right {
        user: body.user,
        device: body.device,
        proof_key: body.proof_key,
        issued_at_ms: body.issued_at_ms,
        expires_ms: body.expires_ms,
        resume: Some((session, seen)),
        parent: Context::NONE,
    })
}

/// A ticket is used again when the connection is lost: that is another login than the one that it was given for.
fn parent(ticket: &wire::TicketBody, now_ms: UnixMs) -> Context {
    match now_ms.saturating_sub(ticket.traced_at_ms) {
        0..=SAME_LOGIN_MS => Context::of_wire(&ticket.trace, ticket.span),
        _ => Context::NONE,
    }
}

fn refuse(error: TokenError) -> Refusal {
    match error {
        TokenError::Expired => Refusal::of(Code::TicketExpired),
        TokenError::Malformed | TokenError::UnknownKey | TokenError::Forged | TokenError::NoKey => {
            Refusal::of(Code::BadTicket)
        }
    }
}

#[cfg(test)]
mod tests;
