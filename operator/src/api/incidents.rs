//! `/v1/incidents`.

use std::sync::Arc;

use axum::Router;

use crate::seat::Seat;

/// The routes.
pub fn routes(_seat: &Arc<Seat>) -> Router {
    Router::new()
}
