//! `/v1/status` and `/v1/probe`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::answer::result;
use crate::seat::Seat;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/status", get(show)).with_state(Arc::clone(seat))
}

async fn show(State(seat): State<Arc<Seat>>) -> Response {
    result(seat.status.view())
}
