//! `POST /v1/marks`: a deploy, or anything else that explains what the charts show.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Json, Router};
use buslane_chassis::admin::Principal;
use buslane_chassis::clock;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{internal, result, text, unwritable};
use crate::happening::What;
use crate::seat::Seat;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/marks", post(make)).with_state(Arc::clone(seat))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    mark: Kind,
    text: String,
    #[serde(default)]
    author: String,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Deploy,
    Config,
    Drill,
    Note,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Config => "config",
            Self::Drill => "drill",
            Self::Note => "note",
        }
    }
}

async fn make(
    State(seat): State<Arc<Seat>>,
    Extension(principal): Extension<Principal>,
    Json(wanted): Json<Wanted>,
) -> Response {
    let text = match text("text", &wanted.text) {
        Ok(text) => text,
        Err(answer) => return *answer,
    };
    let (mark, author) = (wanted.mark.name(), principal.author(&wanted.author));
    // In a task of its own: what was recorded is told, also if whoever deploys has hung up.
    let told = tokio::spawn(async move { tell(&seat, mark, text, author).await });
    told.await.unwrap_or_else(|failed| internal(&failed))
}

async fn tell(seat: &Seat, mark: &str, text: String, author: String) -> Response {
    if let Err(error) = seat.record(&author, &format!("mark.{mark}"), &text, json!(null)).await {
        return unwritable(&error);
    }
    seat.tell(What::Mark { mark: mark.to_owned(), text: text.clone(), author: author.clone() });
    result(json!({"mark": mark, "text": text, "author": author, "at_ms": clock::unix_ms()}))
}
