//! The API of the seat: HTTP and JSON, the same for the page, `ctl`, `top` and other processes.
//!
//! Every answer is `{"result": …}` or `{"error": {"code", "message"}}`. Every change has a reason and an author and is written
//! into the audit before it is made.

pub mod answer;
mod drain;
mod drills;
mod forward;
pub(crate) mod incidents;
mod live;
mod marks;
mod nodes;
mod openapi;
mod status;
mod traffic;
mod users;

use std::sync::Arc;

use axum::{Router, middleware};

use crate::seat::Seat;

/// Every route that needs to know who asks.
pub fn routes(seat: &Arc<Seat>) -> Router {
    let of_here = [
        drain::routes(seat),
        drills::routes(seat),
        incidents::routes(seat),
        live::routes(seat),
        marks::routes(seat),
        nodes::routes(seat),
        openapi::routes(),
        status::routes(seat),
        traffic::routes(seat),
        users::routes(seat),
    ];
    forwarding(seat, of_here.into_iter().fold(Router::new(), Router::merge))
}

/// The same routes, where `?node=NAME` asks another process.
pub fn forwarding(seat: &Arc<Seat>, routes: Router) -> Router {
    routes.layer(middleware::from_fn_with_state(Arc::clone(seat), forward::forward))
}

#[cfg(test)]
mod tests;
