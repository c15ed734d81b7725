//! The operator's door: health, readiness and metrics for anybody who can reach it, everything else behind a token.
//!
//! Why it exists: it works when the store and every other role are down, so that an operator sees why. Plain HTTP on
//! loopback by default, TLS where it is configured. It must never show a secret again, and never answer a question or change anything for
//! somebody who has not shown who he is, on loopback neither.

mod body;
mod cookie;
mod crowd;
mod failures;
mod guard;
mod headers;
mod lease;
mod login;
mod logins;
mod may;
mod origin;
mod pages;
mod patience;
mod peer;
mod principal;
mod secrets;
mod serve;
mod shape;
pub mod sign_in;
pub mod tls;
mod token;
mod tokens;

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

use guard::Guard;
use origin::Hosts;
use serve::Serving;
use sign_in::{Door, SignIn};
use tls::AdminTls;

pub use principal::{How, Principal, Role};
pub use token::{Token, TokenError};
pub use tokens::{Made, Revoked, TokenView, TokenWish, Tokens, TokensError};

/// Name of the check that is not ready while the node drains.
const DRAIN: &str = "drain";

/// Says why a process is not to be sent anybody now; none: it may be.
type WhyNot = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The admin surface before it listens.
pub struct Admin {
    facts: Facts,
    open: Router,
    guarded: Router,
    token: Token,
    tokens: Option<Arc<Tokens>>,
    hosts: Hosts,
    tls: Option<Arc<AdminTls>>,
    sign_in: Option<SignIn>,
}

/// The admin surface, listening.
pub struct BoundAdmin {
    listener: TcpListener,
    serving: Serving,
    addr: SocketAddr,
}

#[derive(Clone)]
struct Facts {
    readiness: Readiness,
    metrics: PrometheusHandle,
    drain: Option<WhyNot>,
}

impl Admin {
    /// `/healthz`, `/readyz` and `/metrics`.
    pub fn new(token: Token, readiness: Readiness, metrics: PrometheusHandle) -> Self {
        let facts = Facts { readiness, metrics, drain: None };
        let (open, guarded) = (Router::new(), Router::new());
        let hosts = Hosts::default();
        Self { facts, open, guarded, token, tokens: None, hosts, tls: None, sign_in: None }
    }

    /// Not ready, whatever the checks say, while this says why. It is asked each time: what an operator wants holds at once.
    pub fn draining(mut self, why: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.facts.drain = Some(Arc::new(why));
        self
    }

    /// Lets in whoever shows one of these tokens, and adds `/v1/tokens`. Their audit also has who logs in on the page.
    pub fn keeping(mut self, tokens: Arc<Tokens>) -> Self {
        self = self.merge_for_admins(tokens::routes(Arc::clone(&tokens)));
        self.tokens = Some(tokens);
        self
    }

    /// Names, besides addresses and those of loopback, under which browsers may be logged in here.
    pub fn known_as(mut self, names: &[String]) -> Self {
        self.hosts = Hosts::new(names);
        self
    }

    /// Speaks TLS instead of plain HTTP.
    pub fn with_tls(mut self, tls: Arc<AdminTls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets in whoever a provider knows as somebody with a role here, beside those who show a token.
    pub fn signing_in(mut self, sign_in: SignIn) -> Self {
        self.sign_in = Some(sign_in);
        self
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
        let back = self.sign_in.map(|sign_in| (sign_in.back.url(addr), sign_in));
        let hosts = back.iter().fold(self.hosts, |hosts, (back, _)| hosts.with_that_of(back));
        let guard = Arc::new(Guard::new(self.token, self.tokens, hosts, addr.port()));
        // The guard answers for unknown paths as well: a stranger does not learn which routes there are.
        let guarded = self
            .guarded
            .merge(login::routes())
            .fallback(unknown)
            .layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::check));
        let mut open = self.open.merge(probes(self.facts)).merge(login::open_routes(Arc::clone(&guard)));
        if let Some((back, sign_in)) = back {
            open = open.merge(sign_in::routes(Door::new(guard, sign_in, back, addr.port())));
        }
        let open = open.fallback_service(guarded);
        let shaped = open.layer(middleware::map_response(shape::of_errors));
        let router = shaped.layer(middleware::map_response(headers::protect));
        Ok(BoundAdmin { listener, serving: Serving::new(router, self.tls), addr })
    }
}

impl BoundAdmin {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the shutdown. Answers that are under way then have a few seconds.
    pub async fn run(self, shutdown: &Shutdown) {
        self.serving.serve(self.listener, shutdown.token()).await;
    }
}

/// A JSON error: `{"error":{"code":…,"message":…}}`.
pub fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

fn probes(facts: Facts) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(print_metrics))
        .with_state(facts)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(facts): State<Facts>) -> Response {
    let mut verdicts = facts.readiness.verdicts();
    if let Some(drain) = &facts.drain {
        verdicts.insert(DRAIN, drain().map_or(Verdict::Ready, Verdict::NotReady));
    }
    let ready = verdicts.values().all(|verdict| *verdict == Verdict::Ready);
    let checks: serde_json::Map<_, _> = verdicts
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
