//! `/v1/drills`: storms on purpose, newest first; a drill adds itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use buslane_chassis::admin::{Principal, error};
use serde_json::json;

use super::answer::{internal, result, unwritable, wrong};
use crate::seat::Seat;
use crate::view::DrillView;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/drills", get(show).post(add)).with_state(Arc::clone(seat))
}

async fn show(State(seat): State<Arc<Seat>>) -> Response {
    result(seat.drills.all())
}

async fn add(
    State(seat): State<Arc<Seat>>,
    Extension(principal): Extension<Principal>,
    Json(drill): Json<DrillView>,
) -> Response {
    if let Err(why) = drill.check() {
        return wrong("bad_drill", why);
    }
    // In a task of its own: what was recorded is kept, also if the drill has hung up.
    let kept = tokio::spawn(async move { keep(&seat, &principal.name, drill).await });
    kept.await.unwrap_or_else(|failed| internal(&failed))
}

async fn keep(seat: &Arc<Seat>, author: &str, drill: DrillView) -> Response {
    if let Err(error) = seat.record(author, "drill.result", &drill.scenario, json!(drill)).await {
        return unwritable(&error);
    }
    let kept = tokio::task::spawn_blocking({
        let (seat, drill) = (Arc::clone(seat), drill.clone());
        move || seat.drills.add(drill)
    });
    match kept.await {
        Ok(Ok(())) => result(drill),
        Ok(Err(why)) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_kept",
            &format!("the drill cannot be written: {why}; see to the disk"),
        ),
        Err(failed) => internal(&failed),
    }
}
