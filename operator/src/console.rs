//! The page.

use std::sync::Arc;

use axum::Router;

use crate::seat::Seat;

/// The routes for those who have shown who they are.
pub fn routes(_seat: &Arc<Seat>) -> Router {
    Router::new()
}

/// The routes for everybody.
pub fn open_routes() -> Router {
    Router::new()
}
