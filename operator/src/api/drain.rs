//! `/v1/drain`: this node lets its sessions go, in time and without losing any, or takes them again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use buslane_chassis::admin::{Principal, error};
use buslane_chassis::oversee::{DrainFacts, DrainWish, Overseer};
use serde::Deserialize;
use serde_json::json;

use super::answer::{absent, result, text, unwritable, wrong};
use crate::happening::What;
use crate::seat::Seat;
use crate::view::DrainView;

/// Sessions that are asked to leave, per second, at most: more than any node holds.
const PER_S_MAX: f64 = 1e6;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/drain", get(show).post(change)).with_state(Arc::clone(seat))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    on: bool,
    per_s: Option<f64>,
    reason: String,
    #[serde(default)]
    author: String,
    #[serde(default)]
    dry_run: bool,
}

async fn show(State(seat): State<Arc<Seat>>) -> Response {
    match &seat.desk.overseer {
        Some(overseer) => result(view(&seat, overseer.drain_state())),
        None => no_sessions(),
    }
}

async fn change(
    State(seat): State<Arc<Seat>>,
    Extension(principal): Extension<Principal>,
    Json(wanted): Json<Wanted>,
) -> Response {
    let Some(overseer) = seat.desk.overseer.clone() else { return no_sessions() };
    let reason = match text("reason", &wanted.reason) {
        Ok(reason) => reason,
        Err(answer) => return *answer,
    };
    if wanted.per_s.is_some_and(|per_s| !(per_s > 0.0 && per_s <= PER_S_MAX)) {
        return wrong(
            "bad_rate",
            "per_s is a number above 0, at most 1000000; leave it out to take the time of a normal stop",
        );
    }
    if wanted.dry_run {
        return result(view(&seat, would(overseer.as_ref(), &wanted)));
    }
    let author = principal.author(&wanted.author);
    // In a task of its own: what was recorded is done, also if the operator's connection is lost.
    let done = tokio::spawn(async move { drain(&seat, overseer.as_ref(), &author, &reason, &wanted).await });
    done.await.unwrap_or_else(|failed| super::answer::internal(&failed))
}

async fn drain(
    seat: &Seat,
    overseer: &dyn Overseer,
    author: &str,
    reason: &str,
    wanted: &Wanted,
) -> Response {
    let action = if wanted.on { "drain.begin" } else { "drain.end" };
    if let Err(error) = seat.record(author, action, reason, json!({"per_s": wanted.per_s})).await {
        return unwritable(&error);
    }
    let wish = if wanted.on { DrainWish::Begin { per_s: wanted.per_s } } else { DrainWish::End };
    if let Err(why) = overseer.drain(wish) {
        return error(StatusCode::CONFLICT, "not_drained", &why);
    }
    seat.tell(What::Drain { begins: wanted.on, author: author.to_owned() });
    result(view(seat, overseer.drain_state()))
}

/// What would be, were it done.
fn would(overseer: &dyn Overseer, wanted: &Wanted) -> DrainFacts {
    let now = overseer.drain_state();
    let from_sessions = if now.draining { now.from_sessions } else { now.sessions };
    DrainFacts { draining: wanted.on, from_sessions, per_s: wanted.per_s.filter(|_| wanted.on), ..now }
}

fn view(seat: &Seat, facts: DrainFacts) -> DrainView {
    let left = facts.sessions as f64;
    let eta_ms = facts
        .per_s
        .filter(|per_s| facts.draining && *per_s > 0.0)
        .map(|per_s| (left / per_s * 1_000.0) as u64);
    DrainView {
        node: seat.node.clone(),
        draining: facts.draining,
        from_sessions: facts.from_sessions,
        sessions: facts.sessions,
        rate_per_s: facts.per_s,
        eta_ms,
    }
}

fn no_sessions() -> Response {
    absent("no_sessions", "this role has no sessions: ask a session manager or the `up` process")
}
