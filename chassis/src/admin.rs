//! The operator's door: health, readiness and metrics for anybody who can reach it, everything else behind a token.
//!
//! Why it exists: it works when the store and every other role are down, so that an operator sees why. Plain HTTP on
//! loopback by default; a proxy or a tunnel brings TLS. It must never answer with a secret, and never change anything
//! without the token.

mod may;
mod principal;
mod serve;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;

use crate::readiness::{Readiness, Verdict};
use crate::shutdown::Shutdown;

pub use principal::{How, Principal, Role};
pub use token::{Token, TokenError};

/// The admin surface before it listens.
pub struct Admin {
    open: Router,
    guarded: Router,
    guard: Arc<token::Guard>,
}

/// The admin surface, listening.
pub struct BoundAdmin {
    listener: TcpListener,
    router: Router,
    addr: SocketAddr,
}

#[derive(Clone)]
struct Facts {
    readiness: Readiness,
    metrics: PrometheusHandle,
}

impl Admin {
    /// `/healthz`, `/readyz` and `/metrics`.
    pub fn new(token: Token, readiness: Readiness, metrics: PrometheusHandle) -> Self {
        let open = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(print_metrics))
            .with_state(Facts { readiness, metrics });
        Self { open, guarded: Router::new(), guard: Arc::new(token::Guard::new(token)) }
    }

    /// Adds routes that viewers may GET; whatever else they take is for operators.
    pub fn merge(mut self, routes: Router) -> Self {
        self.guarded = self.guarded.merge(routes.layer(middleware::from_fn(may::look_or_operate)));
        self
    }

    /// Adds routes that are for admins only.
    pub fn merge_for_admins(mut self, routes: Router) -> Self {
        self.guarded = self.guarded.merge(routes.layer(middleware::from_fn(may::administrate)));
        self
    }

    /// Adds routes that nobody is asked for: the page on which one logs in, and the files that it needs.
    pub fn open(mut self, routes: Router) -> Self {
        self.open = self.open.merge(routes);
        self
    }

    /// Takes the address (port 0: the system chooses).
    pub async fn bind(self, addr: SocketAddr) -> io::Result<BoundAdmin> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        // The guard answers for unknown paths as well: a stranger does not learn which routes there are.
        let guarded =
            self.guarded.fallback(unknown).layer(middleware::from_fn_with_state(self.guard, token::check));
        let router = self.open.merge(Router::new().fallback_service(guarded));
        Ok(BoundAdmin { listener, router, addr })
    }
}

impl BoundAdmin {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the shutdown. Answers that are under way then have a few seconds.
    pub async fn run(self, shutdown: &Shutdown) {
        serve::serve(self.listener, self.router, shutdown.token()).await;
    }
}

/// A JSON error: `{"error":{"code":…,"message":…}}`.
pub fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(facts): State<Facts>) -> Response {
    let ready = facts.readiness.is_ready();
    let checks: serde_json::Map<_, _> = facts
        .readiness
        .verdicts()
        .into_iter()
        .map(|(name, verdict)| {
            let said = match verdict {
                Verdict::Ready => json!({ "ready": true }),
                Verdict::NotReady(why) => json!({ "ready": false, "why": why }),
            };
            (name.to_owned(), said)
        })
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "checks": checks }))).into_response()
}

async fn print_metrics(State(facts): State<Facts>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], facts.metrics.render()).into_response()
}

async fn unknown() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "there is no such route; see docs/operations.md")
}

#[cfg(test)]
mod tests;
