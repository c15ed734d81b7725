//! `GET /v1/node`: this process, for the others. `GET /v1/nodes`: all processes that are known here.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use buslane_chassis::clock;
use buslane_shared::UnixMs;
use serde::Deserialize;

use super::answer::result;
use crate::happening::{Happening, What};
use crate::peers::{HAPPENINGS_MAX, Report};
use crate::seat::Seat;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/node", get(here)).route("/v1/nodes", get(all)).with_state(Arc::clone(seat))
}

#[derive(Debug, Deserialize)]
struct Since {
    /// Happenings after this are told; none: no happenings.
    since_ms: Option<UnixMs>,
}

async fn here(State(seat): State<Arc<Seat>>, Query(asked): Query<Since>) -> Response {
    let now_ms = clock::unix_ms();
    let happenings = asked.since_ms.map(|since_ms| own(&seat, since_ms, now_ms)).unwrap_or_default();
    let incidents = Some(seat.incidents.claims());
    result(Report { view: seat.here(), now_ms, happenings, incidents })
}

async fn all(State(seat): State<Arc<Seat>>) -> Response {
    result(seat.nodes())
}

/// What this process did or was done to it. Those of the millisecond that goes on come with the next answer, all of them.
fn own(seat: &Seat, since_ms: UnixMs, now_ms: UnixMs) -> Vec<Happening> {
    let mut own = seat.history.happenings(since_ms.saturating_add(1));
    own.retain(|happening| {
        happening.node == seat.node && happening.at_ms < now_ms && is_for_others(&happening.what)
    });
    own.truncate(HAPPENINGS_MAX);
    own
}

/// Orders reach every process by themselves, and each judges alerts for itself: told twice they would be there twice.
fn is_for_others(what: &What) -> bool {
    match what {
        What::Posture { .. }
        | What::Reloaded { .. }
        | What::Mark { .. }
        | What::Process { .. }
        | What::IncidentSaid(_)
        | What::Drain { .. } => true,
        What::OrderGiven { .. } | What::OrderEnded { .. } | What::AlertRaised(_) | What::AlertCleared(_) => {
            false
        }
    }
}
