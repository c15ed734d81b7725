//! `/v1/incidents` and `/v1/notify/test`.
//!
//! | route | body | answer |
//! |---|---|---|
//! | `GET /v1/incidents?state=` | `open` (not over), a state's name, or nothing: all | `[IncidentView]`, newest first, without timelines |
//! | `POST /v1/incidents` | `title, severity, reason` | `IncidentView` |
//! | `GET /v1/incidents/{no}` | | `IncidentView` with its timeline |
//! | `POST /v1/incidents/{no}/acknowledge` | `reason` (may be left out) | `IncidentView` with its timeline, as below |
//! | `POST /v1/incidents/{no}/silence` | `duration_ms` (0 ends it, at most 24 h), `reason` | |
//! | `POST /v1/incidents/{no}/note` | `text` | |
//! | `POST /v1/incidents/{no}/state` | `state`, `reason` | |
//! | `POST /v1/incidents/{no}/severity` | `severity`, `reason` | |
//! | `GET /v1/incidents/{no}/export` | | the post-mortem, `text/markdown` |
//! | `POST /v1/notify/test` | `reason` | `[{to, ok, error}]`, one for each that is configured |
//!
//! Whatever changes an incident is in the audit before it is done, and its answer has `not_kept`: why it would not survive a
//! restart, or null.

mod asked;

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use buslane_chassis::admin::{Principal, error};
use buslane_chassis::clock;
use serde::Serialize;
use serde_json::{Value, json};

use asked::{Acknowledging, Grading, Moving, Noting, Opening, Silencing, Testing, Which};

use super::answer::{absent, internal, result, text, unwritable, wrong};
use crate::happening::What;
use crate::incidents::{ActError, Incidents, Word, WordError, state_named};
use crate::seat::Seat;
use crate::view::IncidentView;

/// Longest silence: nothing is wrong for longer than a day without anybody wanting to hear of it again.
const SILENCE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new()
        .route("/v1/incidents", get(list).post(open))
        .route("/v1/incidents/{no}", get(show))
        .route("/v1/incidents/{no}/export", get(export))
        .route("/v1/incidents/{no}/acknowledge", post(acknowledge))
        .route("/v1/incidents/{no}/silence", post(silence))
        .route("/v1/incidents/{no}/note", post(note))
        .route("/v1/incidents/{no}/state", post(state))
        .route("/v1/incidents/{no}/severity", post(severity))
        .route("/v1/notify/test", post(test))
        .with_state(Arc::clone(seat))
}

/// An incident after a change.
#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    incident: IncidentView,
    /// Why it would not survive a restart.
    not_kept: Option<String>,
}

/// What is answered to whoever asks for what cannot be.
pub(crate) type Refused = Box<Response>;

async fn list(State(seat): State<Arc<Seat>>, Query(which): Query<Which>) -> Response {
    match which.state.as_deref() {
        None => result(seat.incidents.list()),
        Some("open") => result(seat.incidents.open_ones()),
        Some(name) => match state_named(name) {
            Some(state) => {
                let mut list = seat.incidents.list();
                list.retain(|incident| incident.state == state);
                result(list)
            }
            None => wrong("bad_state", "state is open, detected, declared, handling, resolved or reviewed"),
        },
    }
}

async fn show(State(seat): State<Arc<Seat>>, Path(no): Path<u64>) -> Response {
    seat.incidents.show(no).await.map_or_else(|why| *refused(&why), result)
}

async fn export(State(seat): State<Arc<Seat>>, Path(no): Path<u64>) -> Response {
    match seat.incidents.export(no, &seat.node).await {
        Ok(report) => {
            let name = format!("attachment; filename=\"incident-{no}.md\"");
            let head = [
                (header::CONTENT_TYPE, "text/markdown; charset=utf-8"),
                (header::CONTENT_DISPOSITION, &name),
            ];
            (head, report).into_response()
        }
        Err(why) => *refused(&why),
    }
}

async fn open(
    State(seat): State<Arc<Seat>>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Opening>,
) -> Response {
    finished(in_full(async move { open_incident(&seat, &who, asked).await }).await)
}

async fn open_incident(seat: &Seat, who: &Principal, asked: Opening) -> Result<Changed, Refused> {
    let (title, reason) = (text("title", &asked.title)?, text("reason", &asked.reason)?);
    let author = who.author(&asked.author);
    seat.incidents.check_room().map_err(|why| refused(&why.into()))?;
    let after = json!({ "title": title, "severity": asked.severity });
    record(seat, &author, "incident.open", &reason, after).await?;
    let opened = seat.incidents.open_by_hand(&author, &title, asked.severity, &reason).await;
    let (incident, not_kept) = opened.map_err(|why| refused(&why))?;
    Ok(Changed { incident, not_kept })
}

async fn acknowledge(
    State(seat): State<Arc<Seat>>,
    Path(no): Path<u64>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Acknowledging>,
) -> Response {
    let said = if asked.reason.trim().is_empty() { Ok(String::new()) } else { text("reason", &asked.reason) };
    let word = said.map(|reason| Word::Acknowledge { reason });
    say(seat, no, who.author(&asked.author), "incident.acknowledge", word).await
}

async fn silence(
    State(seat): State<Arc<Seat>>,
    Path(no): Path<u64>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Silencing>,
) -> Response {
    if asked.duration_ms > SILENCE_MS_MAX {
        return wrong("bad_duration", "a silence lasts for 24 hours at most; it can be prolonged then");
    }
    let until_ms = (asked.duration_ms > 0).then(|| clock::unix_ms().saturating_add(asked.duration_ms));
    let word = text("reason", &asked.reason).map(|reason| Word::Silence { until_ms, reason });
    say(seat, no, who.author(&asked.author), "incident.silence", word).await
}

async fn note(
    State(seat): State<Arc<Seat>>,
    Path(no): Path<u64>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Noting>,
) -> Response {
    let word = text("text", &asked.text).map(|text| Word::Note { text });
    say(seat, no, who.author(&asked.author), "incident.note", word).await
}

async fn state(
    State(seat): State<Arc<Seat>>,
    Path(no): Path<u64>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Moving>,
) -> Response {
    let word = text("reason", &asked.reason).map(|reason| Word::State { to: asked.state, reason });
    say(seat, no, who.author(&asked.author), "incident.state", word).await
}

async fn severity(
    State(seat): State<Arc<Seat>>,
    Path(no): Path<u64>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Grading>,
) -> Response {
    let word = text("reason", &asked.reason).map(|reason| Word::Severity { to: asked.severity, reason });
    say(seat, no, who.author(&asked.author), "incident.severity", word).await
}

async fn say(
    seat: Arc<Seat>,
    no: u64,
    author: String,
    action: &'static str,
    word: Result<Word, Refused>,
) -> Response {
    let word = match word {
        Ok(word) => word,
        Err(refused) => return *refused,
    };
    finished(in_full(async move { say_word(&seat, no, &author, action, word).await }).await)
}

async fn say_word(seat: &Seat, no: u64, author: &str, action: &str, word: Word) -> Result<Changed, Refused> {
    seat.incidents.check(no, &word).await.map_err(|why| refused(&why))?;
    let (reason, after) = audited(no, &word);
    record(seat, author, action, reason, after).await?;
    let said = seat.incidents.say(no, author, word.clone()).await;
    let (incident, not_kept) = said.map_err(|why| refused(&why))?;
    if let Some(said) = Incidents::for_others(&incident, author, &word) {
        seat.tell(What::IncidentSaid(said));
    }
    Ok(Changed { incident, not_kept })
}

/// What is written into the audit: the reason, and what is to hold.
fn audited(no: u64, word: &Word) -> (&str, Value) {
    match word {
        Word::Acknowledge { reason } => (reason, json!({ "incident": no })),
        Word::Silence { until_ms, reason } => (reason, json!({ "incident": no, "until_ms": until_ms })),
        Word::Note { text } => (text, json!({ "incident": no })),
        Word::State { to, reason } => (reason, json!({ "incident": no, "state": to })),
        Word::Severity { to, reason } => (reason, json!({ "incident": no, "severity": to })),
    }
}

async fn test(
    State(seat): State<Arc<Seat>>,
    Extension(who): Extension<Principal>,
    Json(asked): Json<Testing>,
) -> Response {
    let reason = match text("reason", &asked.reason) {
        Ok(reason) => reason,
        Err(refused) => return *refused,
    };
    let author = who.author(&asked.author);
    if let Err(refused) = record(&seat, &author, "notify.test", &reason, Value::Null).await {
        return *refused;
    }
    match seat.messenger.test(&author, &reason, clock::unix_ms()).await {
        Some(told) => result(told),
        None => error(StatusCode::CONFLICT, "test_under_way", "another test is under way: wait for it"),
    }
}

async fn record(seat: &Seat, author: &str, action: &str, reason: &str, after: Value) -> Result<(), Refused> {
    let recorded = seat.record(author, action, reason, after).await;
    recorded.map(|_| ()).map_err(|why| Box::new(unwritable(&why)))
}

/// In a task of its own: what is in the audit is not done by half because a connection was lost.
async fn in_full(
    work: impl Future<Output = Result<Changed, Refused>> + Send + 'static,
) -> Result<Changed, Refused> {
    tokio::spawn(work).await.unwrap_or_else(|failed| Err(Box::new(internal(&failed))))
}

fn finished(done: Result<Changed, Refused>) -> Response {
    done.map_or_else(|refused| *refused, result)
}

/// What cannot be done with an incident, as it is answered.
pub(crate) fn refused(why: &ActError) -> Refused {
    let said = why.to_string();
    Box::new(match why {
        ActError::Word(WordError::Absent(_)) => absent("no_incident", &said),
        ActError::Word(WordError::State { .. }) => error(StatusCode::CONFLICT, "wrong_state", &said),
        ActError::Word(WordError::Over) => error(StatusCode::CONFLICT, "incident_over", &said),
        ActError::Word(WordError::Full) => error(StatusCode::CONFLICT, "incident_full", &said),
        ActError::Word(WordError::TooManyOpen(_)) => error(StatusCode::CONFLICT, "too_many_incidents", &said),
        ActError::Unreadable { .. } => error(StatusCode::SERVICE_UNAVAILABLE, "incident_unreadable", &said),
    })
}

#[cfg(test)]
mod tests;
