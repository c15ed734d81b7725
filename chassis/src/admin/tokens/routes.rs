//! `/v1/tokens`: who has a right of his own; for admins.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{TokenWish, Tokens, TokensError};
use crate::admin::{Principal, error};

pub(in crate::admin) fn routes(tokens: Arc<Tokens>) -> Router {
    Router::new()
        .route("/v1/tokens", get(list).post(make))
        .route("/v1/tokens/{id}", delete(revoke))
        .with_state(tokens)
}

async fn list(State(tokens): State<Arc<Tokens>>) -> Response {
    Json(json!({ "result": { "tokens": tokens.list() } })).into_response()
}

async fn make(
    State(tokens): State<Arc<Tokens>>,
    Extension(principal): Extension<Principal>,
    Json(wish): Json<TokenWish>,
) -> Response {
    let author = principal.author(&wish.author);
    done(tokio::spawn(async move { tokens.make(wish, author).await }).await)
}

/// Why a token is taken back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Because {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    author: String,
}

async fn revoke(
    State(tokens): State<Arc<Tokens>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(because): Query<Because>,
) -> Response {
    let author = principal.author(&because.author);
    done(tokio::spawn(async move { tokens.revoke(&id, because.reason, author).await }).await)
}

fn done<T: Serialize>(outcome: Result<Result<T, TokensError>, tokio::task::JoinError>) -> Response {
    match outcome {
        Ok(Ok(done)) => Json(json!({ "result": done })).into_response(),
        Ok(Err(refused)) => error(status(&refused), refused.code(), &refused.to_string()),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &failed.to_string()),
    }
}

fn status(refused: &TokensError) -> StatusCode {
    match refused {
        TokensError::Name | TokensError::Life | TokensError::Reason => StatusCode::BAD_REQUEST,
        TokensError::Taken | TokensError::TooMany => StatusCode::CONFLICT,
        TokensError::Unknown => StatusCode::NOT_FOUND,
        TokensError::Audit(_) | TokensError::Unreadable(_) | TokensError::Unwritable(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
