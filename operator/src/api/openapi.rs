//! `GET /v1/openapi.json`: what this API is. It needs a right like everything else, so that a stranger does not learn which routes there are.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::openapi::OPENAPI;

/// The routes.
pub fn routes() -> Router {
    Router::new().route("/v1/openapi.json", get(show))
}

async fn show() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
