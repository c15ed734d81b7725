//! The API of the seat: HTTP and JSON, the same for the page, `ctl`, `top` and other processes.
//!
//! Every answer is `{"result": …}` or `{"error": {"code", "message"}}`. Every change has a reason and an author and is written
//! into the audit before it is made.

pub mod answer;
mod incidents;
mod status;

use std::sync::Arc;

use axum::Router;

use crate::seat::Seat;

/// Every route that needs to know who asks.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().merge(status::routes(seat)).merge(incidents::routes(seat))
}
