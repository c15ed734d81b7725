//! `/v1/users/{user}`: where a user is and why he was refused; `/disconnect` ends the session of a device.
//!
//! Every process that is known is asked: a refusal is remembered where it was said. A process that does not answer is named,
//! because "nobody remembers" is another answer than "sm2 was not asked".

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use buslane_chassis::admin::{Principal, error};
use buslane_chassis::clock;
use buslane_shared::id::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{TEXT_CHARS_MAX, absent, internal, result, text, unwritable, wrong};
use crate::peers::call::CallError;
use crate::seat::Seat;
use crate::users;
use crate::view::UserView;

/// Longest name of a device: a UUID with braces.
const DEVICE_CHARS_MAX: usize = 64;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new()
        .route("/v1/users/{user}", get(show))
        .route("/v1/users/{user}/disconnect", post(disconnect))
        .with_state(Arc::clone(seat))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scope {
    /// Only what this process knows.
    here: bool,
}

async fn show(
    State(seat): State<Arc<Seat>>,
    Path(user): Path<String>,
    Query(scope): Query<Scope>,
) -> Response {
    let user: UserId = match user.parse() {
        Ok(user) => user,
        Err(why) => return wrong("bad_user", &format!("user: {why}")),
    };
    let mut view = users::here(&seat, &user, clock::unix_ms());
    if !scope.here {
        let (answers, asked) = everywhere(&seat, Method::GET, &user, "?here=true", None).await;
        view.silent = unasked(&seat, &asked);
        for (node, answer) in answers {
            match answer
                .and_then(|said| serde_json::from_value::<UserView>(said).map_err(|_| CallError::Malformed))
            {
                Ok(said) => users::add(&mut view, said),
                Err(_) => view.silent.push(node),
            }
        }
        users::sort(&mut view);
    }
    result(view)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    device: String,
    reason: String,
    #[serde(default)]
    author: String,
    /// Only at this process: another has asked all of them.
    #[serde(default)]
    here: bool,
}

async fn disconnect(
    State(seat): State<Arc<Seat>>,
    Extension(principal): Extension<Principal>,
    Path(user): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Response {
    let user: UserId = match user.parse() {
        Ok(user) => user,
        Err(why) => return wrong("bad_user", &format!("user: {why}")),
    };
    let reason = match text("reason", &wanted.reason) {
        Ok(reason) => reason,
        Err(answer) => return *answer,
    };
    let is_device = |c: char| c.is_ascii_hexdigit() || c == '-';
    if wanted.device.is_empty()
        || wanted.device.len() > DEVICE_CHARS_MAX
        || !wanted.device.chars().all(is_device)
    {
        return wrong("bad_device", "device: write it as `GET /v1/users/{user}` shows it");
    }
    let author = principal.author(&wanted.author);
    // In a task of its own: what was recorded is done, also if the operator's connection is lost.
    let done = tokio::spawn(async move { end_session(&seat, &user, &wanted, &author, &reason).await });
    done.await.unwrap_or_else(|failed| internal(&failed))
}

async fn end_session(seat: &Seat, user: &UserId, wanted: &Wanted, author: &str, reason: &str) -> Response {
    let after = json!({"user": user.as_str(), "device": wanted.device});
    if let Err(error) = seat.record(author, "session.disconnect", reason, after).await {
        return unwritable(&error);
    }
    let mut nodes = Vec::new();
    if end_here(seat, user, &wanted.device).await {
        nodes.push(seat.node.clone());
    }
    let mut silent = Vec::new();
    if !wanted.here {
        let asked_by = format!(" (asked by {author} at {})", seat.node);
        // Both together may be no longer than one reason.
        let said = reason.chars().take(TEXT_CHARS_MAX.saturating_sub(asked_by.chars().count()));
        let passed_on: String = said.chain(asked_by.chars()).collect();
        let body = json!({"device": wanted.device, "reason": passed_on, "here": true});
        let (answers, asked) = everywhere(seat, Method::POST, user, "/disconnect", Some(&body)).await;
        silent = unasked(seat, &asked);
        for (node, answer) in answers {
            match answer {
                Ok(_) => nodes.push(node),
                // It has no session of this device.
                Err(CallError::Refused { status: 404, .. }) => {}
                Err(_) => silent.push(node),
            }
        }
    }
    match (nodes.is_empty(), silent.is_empty()) {
        (false, _) => {
            result(json!({"user": user.as_str(), "device": wanted.device, "nodes": nodes, "silent": silent}))
        }
        (true, true) => absent("no_session", "this device has no session at any node"),
        (true, false) => error(
            StatusCode::BAD_GATEWAY,
            "node_silent",
            &format!(
                "no node that answers has a session of this device; no answer from {}",
                silent.join(", ")
            ),
        ),
    }
}

/// Whether there was one here. The session may have a thread that runs only when nothing else wants to, and holds what is needed for
/// this: nobody else waits for it.
async fn end_here(seat: &Seat, user: &UserId, device: &str) -> bool {
    let Some(overseer) = seat.desk.overseer.clone() else { return false };
    let (user, device) = (user.clone(), device.to_owned());
    let ended = tokio::task::spawn_blocking(move || overseer.disconnect(user.as_str(), &device)).await;
    ended.unwrap_or_else(|failed| {
        tracing::error!(%failed, "a session was not ended");
        false
    })
}

/// Asks all peers about a user; what each said, and the names of those that were asked.
async fn everywhere(
    seat: &Seat,
    method: Method,
    user: &UserId,
    rest: &str,
    body: Option<&Value>,
) -> (Vec<(String, Result<Value, CallError>)>, BTreeSet<String>) {
    // A user's name has no character that means something in a path.
    let path = format!("/v1/users/{user}{rest}");
    let answers = seat.peers.ask_all(method, &path, body).await;
    let asked = answers.iter().map(|(node, _)| node.clone()).collect();
    (answers, asked)
}

/// Processes that are known and could not even be asked.
fn unasked(seat: &Seat, asked: &BTreeSet<String>) -> Vec<String> {
    let others = seat.nodes().into_iter().filter(|node| !node.here);
    others.map(|node| node.node).filter(|node| !asked.contains(node)).collect()
}
