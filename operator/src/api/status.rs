//! `/v1/status` and `/v1/probe`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use buslane_chassis::admin::error;

use super::answer::result;
use crate::seat::Seat;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/status", get(show)).route("/v1/probe", post(probe)).with_state(Arc::clone(seat))
}

async fn show(State(seat): State<Arc<Seat>>) -> Response {
    result(seat.status.view())
}

/// Goes through the system from outside now. It changes nothing that an operator has set, so it needs no reason.
async fn probe(State(seat): State<Arc<Seat>>) -> Response {
    match seat.status.probe().now().await {
        Some(view) => result(view),
        None => {
            let why = seat.status.probe().off().unwrap_or("the probe that is under way did not end in time");
            error(StatusCode::CONFLICT, "no_probe", why)
        }
    }
}
