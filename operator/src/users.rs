//! What this process knows of a user, and how it is put together with what others know.

use std::cmp::Reverse;

use buslane_chassis::oversee::{RefusalFacts, RequestFacts, SessionFacts};
use buslane_shared::UnixMs;
use buslane_shared::id::UserId;

use crate::seat::Seat;
use crate::view::{UserRefusal, UserRequest, UserSession, UserView};

/// Refusals in one answer: each node remembers a few of a user.
const REFUSALS_MAX: usize = 64;

/// What this process knows.
pub fn here(seat: &Seat, user: &UserId, now_ms: UnixMs) -> UserView {
    let overseer = seat.desk.overseer.as_ref();
    let mut refusals = overseer.map(|overseer| overseer.refusals(user.as_str())).unwrap_or_default();
    for remembered in &seat.refusals {
        refusals.extend(remembered.of(user.as_str()));
    }
    let sessions = overseer.map(|overseer| overseer.sessions(user.as_str())).unwrap_or_default();
    let mut view = UserView {
        user: user.as_str().to_owned(),
        sessions: sessions.into_iter().map(|facts| session(&seat.node, facts)).collect(),
        refusals: refusals.into_iter().map(|facts| refusal(&seat.node, facts)).collect(),
        nameless: seat.turned_away.view(&seat.node).into_iter().collect(),
        silent: Vec::new(),
        now_ms,
    };
    sort(&mut view);
    view
}

/// Adds what another process knows.
pub fn add(view: &mut UserView, said: UserView) {
    view.sessions.extend(said.sessions);
    view.refusals.extend(said.refusals);
    view.nameless.extend(said.nameless);
}

/// The newest first, and no more than anybody reads.
pub fn sort(view: &mut UserView) {
    view.sessions.sort_by_key(|session| Reverse(session.since_ms));
    view.refusals.sort_by_key(|refusal| Reverse(refusal.at_ms));
    view.refusals.truncate(REFUSALS_MAX);
    view.silent.sort();
    view.silent.dedup();
}

fn session(node: &str, facts: SessionFacts) -> UserSession {
    UserSession {
        node: node.to_owned(),
        device: facts.device,
        port: facts.port.to_owned(),
        app_state: facts.app_state.to_owned(),
        connected: facts.connected,
        since_ms: facts.since_ms,
        last: facts.last.into_iter().map(request).collect(),
    }
}

fn request(facts: RequestFacts) -> UserRequest {
    UserRequest {
        at_ms: facts.at_ms,
        protocol: facts.protocol.to_owned(),
        class: facts.class.to_owned(),
        outcome: facts.outcome.to_owned(),
    }
}

fn refusal(node: &str, facts: RefusalFacts) -> UserRefusal {
    UserRefusal {
        at_ms: facts.at_ms,
        node: node.to_owned(),
        device: facts.device,
        what: facts.what.to_owned(),
        code: facts.code.to_owned(),
        class: facts.class.map(str::to_owned),
        level: facts.level,
        cut: facts.cut,
        posture: facts.posture.to_owned(),
        retry_at_ms: facts.retry_at_ms,
        slot_at_ms: facts.slot_at_ms,
        sentence: facts.sentence,
    }
}
