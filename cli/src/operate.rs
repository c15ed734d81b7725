//! What an operator may ask of the process that holds the store: codes, a backup, new keys.
//!
//! Every route lies behind the admin token. Long work answers in lines as it goes: `{"progress":{"done"}}`, then
//! one `{"result":…}` or `{"error":…}`. One piece of long work runs at a time, and it goes on if the asker goes away.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use buslane_backend::Service;
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::id::UserId;
use buslane_store::keywrap::KeyWrap;
use buslane_store::sealing::RewrapProgress;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::copy;
use crate::failure::{Exit, Failure};
use crate::sealed_store::SealedStore;

/// Lines of progress that wait for a slow reader; later ones are left out.
const LINES_MAX: usize = 64;

#[derive(Clone)]
struct Operator {
    store: SealedStore,
    service: Arc<Service>,
    shutdown: Shutdown,
    long_work: Arc<Semaphore>,
}

/// The routes.
pub fn routes(store: SealedStore, service: Arc<Service>, shutdown: &Shutdown) -> Router {
    let operator =
        Operator { store, service, shutdown: shutdown.clone(), long_work: Arc::new(Semaphore::new(1)) };
    Router::new()
        .route("/v1/enrol-codes", post(make_code))
        .route("/v1/keys/rotate", post(rotate))
        .route("/v1/backup", post(backup))
        .with_state(operator)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeFor {
    user: String,
}

async fn make_code(State(operator): State<Operator>, Json(wanted): Json<CodeFor>) -> Response {
    let user: UserId = match wanted.user.parse() {
        Ok(user) => user,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, &Failure::usage(format!("user: {e}"))),
    };
    match operator.service.make_code(&user).await {
        Ok(made) => {
            tracing::info!(%user, "an operator has made an enrolment code");
            Json(json!({"result": {"user": user.as_str(), "code": made.code, "valid_ms": made.valid_ms}}))
                .into_response()
        }
        Err(refusal) => refuse(StatusCode::CONFLICT, &refusal.into()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rotation {
    /// Forget the earlier keys afterwards.
    retire: bool,
}

async fn rotate(State(operator): State<Operator>, Json(wanted): Json<Rotation>) -> Response {
    let earlier = if wanted.retire { Earlier::Forget } else { Earlier::Keep };
    operator.long(move |operator, report| {
        async move {
            let result = rotate_keys(&operator.store, earlier, |now| report.progress(now.seen)).await?;
            tracing::info!("an operator has rotated the keys of the store");
            Ok(result)
        }
        .boxed()
    })
}

/// What becomes of the keys before a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// Kept: backups that were made before need them.
    Keep,
    /// Forgotten: what they wrapped and was not rewrapped, in any copy, is lost.
    Forget,
}

/// Makes a new key and wraps everything with it.
pub async fn rotate_keys(
    store: &SealedStore,
    earlier: Earlier,
    mut progress: impl FnMut(RewrapProgress) + Send,
) -> Result<Value, Failure> {
    let failed = |e: String| Failure::new(Exit::Keys, "rotation_failed", e);
    let mut last = RewrapProgress::default();
    let key = store
        .sealer
        .rotate(|now| {
            last = now;
            progress(now);
        })
        .await
        .map_err(|e| failed(e.to_string()))?;
    let retired = match earlier {
        Earlier::Keep => Vec::new(),
        Earlier::Forget => store.keys.retire().await.map_err(|e| failed(e.to_string()))?,
    };
    Ok(json!({"key": key, "rewrapped": last.rewrapped, "retired": retired}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupTo {
    to: PathBuf,
}

async fn backup(State(operator): State<Operator>, Json(wanted): Json<BackupTo>) -> Response {
    if !wanted.to.is_absolute() {
        return refuse(StatusCode::BAD_REQUEST, &Failure::usage("to: write the path from the root on"));
    }
    operator.long(move |operator, report| {
        async move {
            let result =
                copy::back_up(&operator.store, &wanted.to, move |done| report.progress(done)).await?;
            tracing::info!("an operator has made a backup");
            Ok(result)
        }
        .boxed()
    })
}

/// Long work that was not begun yet.
type Work = BoxFuture<'static, Result<Value, Failure>>;

impl Operator {
    /// Runs long work in a task of its own and answers with its lines.
    fn long(self, work: impl FnOnce(Self, Reporter) -> Work) -> Response {
        let Ok(turn) = Arc::clone(&self.long_work).try_acquire_owned() else {
            let message = "a backup or a rotation is going on: try again when it is done";
            return refuse(StatusCode::CONFLICT, &Failure::new(Exit::Refused, "busy", message).retryable());
        };
        let (lines, answer) = mpsc::channel::<Value>(LINES_MAX);
        let tracker = self.shutdown.tracker().clone();
        let reporter = Reporter { lines };
        tracker.spawn(run_long(work(self, reporter.clone()), turn, reporter));
        let body = stream::unfold(answer, |mut answer| async move {
            let line = answer.recv().await?;
            Some((Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))), answer))
        });
        Body::from_stream(body).into_response()
    }
}

async fn run_long(work: Work, turn: OwnedSemaphorePermit, reporter: Reporter) {
    let last = match work.await {
        Ok(result) => json!({"result": result}),
        Err(failure) => error_json(&failure),
    };
    drop(turn);
    // The asker may have gone away; the work is done all the same.
    let _ = reporter.lines.send(last).await;
}

/// Where long work says how far it is.
#[derive(Clone)]
struct Reporter {
    lines: mpsc::Sender<Value>,
}

impl Reporter {
    fn progress(&self, done: u64) {
        // A line that finds no room is left out: the next one says more.
        let _ = self.lines.try_send(json!({"progress": {"done": done}}));
    }
}

fn refuse(status: StatusCode, failure: &Failure) -> Response {
    (status, Json(error_json(failure))).into_response()
}

fn error_json(failure: &Failure) -> Value {
    json!({"error": {"code": failure.code, "message": failure.message, "retryable": failure.retryable}})
}
