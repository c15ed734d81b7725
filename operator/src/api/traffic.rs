//! `GET /v1/traffic?span=1m|10m|3h|24h`: what was asked for and what became of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use buslane_chassis::clock;
use serde::Deserialize;

use super::answer::{result, wrong};
use crate::history::Stretch;
use crate::seat::Seat;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/traffic", get(show)).with_state(Arc::clone(seat))
}

#[derive(Debug, Deserialize)]
struct Asked {
    span: Option<String>,
}

async fn show(State(seat): State<Arc<Seat>>, Query(asked): Query<Asked>) -> Response {
    let name = asked.span.as_deref().unwrap_or(Stretch::TenMinutes.name());
    match Stretch::named(name) {
        Some((stretch, length)) => result(seat.history.view(stretch, length, &seat.node, clock::unix_ms())),
        None => wrong("bad_span", "span is one of 1m, 10m, 3h and 24h"),
    }
}
