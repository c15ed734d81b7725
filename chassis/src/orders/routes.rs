//! The operator's questions and orders over the admin surface: `/v1/posture`, `/v1/lanes`, `/v1/orders`, `/v1/audit`.
//!
//! Everything works without the backend and the store: the answers are what this node knows. An order is written down under the name of
//! whoever has shown who he is, never under one that is only stated.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use buslane_shared::UnixMs;
use buslane_shared::overload::orders::{Kind, Order, Wish};
use buslane_shared::overload::posture::{self, Report};
use buslane_shared::wire::Posture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Book, Effective, GiveError, newest};
use crate::admin::{Principal, error};
use crate::audit::AuditError;
use crate::clock;
use crate::feed::{Feed, Heard};
use crate::oversee::{Overseer, PostureView};

/// How long the answer to an order waits for all nodes to obey it: five times what they may take.
const EFFECTIVE_LIMIT: Duration = Duration::from_secs(1);

/// Entries of the audit in one answer.
const ENTRIES_MAX: usize = 1_000;

/// What the routes ask.
#[derive(Clone)]
pub struct Desk {
    /// The node's order book.
    pub book: Arc<Book>,
    /// The node's own control of load, where it has any.
    pub overseer: Option<Arc<dyn Overseer>>,
    /// What is known of the others.
    pub feed: Arc<Feed>,
}

/// The routes.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/v1/posture", get(show_posture))
        .route("/v1/lanes", get(show_lanes))
        .route("/v1/orders", get(show_orders).post(give))
        .route("/v1/orders/merge", post(merge))
        .route("/v1/audit", get(show_audit))
        .with_state(desk)
}

async fn show_posture(State(desk): State<Desk>) -> Response {
    let now_ms = clock::unix_ms();
    let orders = Arc::clone(&desk.book.watch().borrow());
    let view = desk.overseer.as_ref().map(|overseer| overseer.posture());
    let order = orders.in_force(now_ms);
    let coming: Vec<&Order> = orders.iter().filter(|order| order.from_ms > now_ms).collect();
    let effective = order.is_some().then(|| desk.effective());
    result(&json!({
        "posture": view.as_ref().map(|view| posture::name(view.posture)),
        "source": if order.is_some() { "ordered" } else { "measured" },
        "order": order,
        "effective": effective,
        "coming": coming,
        "here": view,
        "nodes": desk.nodes(),
        "now_ms": now_ms,
    }))
}

async fn show_lanes(State(desk): State<Desk>) -> Response {
    match &desk.overseer {
        Some(overseer) => result(&json!(overseer.lanes())),
        None => error(
            StatusCode::NOT_FOUND,
            "no_lanes",
            "this role has no lanes: ask a session manager or the `up` process",
        ),
    }
}

async fn show_orders(State(desk): State<Desk>) -> Response {
    let now_ms = clock::unix_ms();
    let orders = Arc::clone(&desk.book.watch().borrow());
    let all: Vec<&Order> = orders.iter().collect();
    result(
        &json!({"orders": all, "in_force": orders.in_force(now_ms).map(|order| order.id), "now_ms": now_ms}),
    )
}

/// What an operator writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    kind: Kind,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    author: String,
    from_ms: Option<UnixMs>,
    duration_ms: Option<u64>,
    #[serde(default)]
    dry_run: bool,
}

async fn give(
    State(desk): State<Desk>,
    Extension(principal): Extension<Principal>,
    Json(wanted): Json<Wanted>,
) -> Response {
    let Wanted { kind, reason, author, from_ms, duration_ms, dry_run } = wanted;
    let author = principal.author(&author);
    let wish = Wish { kind, reason, author, from_ms, duration_ms };
    if dry_run {
        return match desk.book.plan(wish) {
            Ok(order) => result(&desk.would(&order)),
            Err(error) => refused(&error.into()),
        };
    }
    // In a task of its own: an order is not given by half because the operator's connection is lost.
    let book = Arc::clone(&desk.book);
    let given = match tokio::spawn(async move { book.give(wish).await }).await {
        Ok(Ok(given)) => given,
        Ok(Err(error)) => return refused(&error),
        Err(failed) => {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &failed.to_string());
        }
    };
    let effective = desk.until_effective(&given.order).await;
    result(&json!({"order": given.order, "effective": effective, "not_kept": given.not_kept}))
}

/// What another node hands over when the backend cannot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandedOver {
    orders: Vec<Order>,
}

async fn merge(
    State(desk): State<Desk>,
    Extension(principal): Extension<Principal>,
    Json(handed): Json<HandedOver>,
) -> Response {
    let book = Arc::clone(&desk.book);
    match tokio::spawn(async move { book.merge(handed.orders, principal.name).await }).await {
        Ok(Ok(merged)) => {
            let ids: Vec<u64> = merged.new.iter().map(|order| order.id).collect();
            let refused = merged.refused.map(|why| json!({"code": why.code(), "message": why.to_string()}));
            result(&json!({"new": ids, "refused": refused}))
        }
        Ok(Err(error)) => unwritable(&error),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &failed.to_string()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Page {
    limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 100 }
    }
}

async fn show_audit(State(desk): State<Desk>, Query(page): Query<Page>) -> Response {
    match desk.book.audit().look(page.limit.min(ENTRIES_MAX)).await {
        Ok((entries, report)) => result(&json!({"entries": entries, "report": report})),
        Err(error) => unwritable(&error),
    }
}

impl Desk {
    /// Every session manager that is known, this one included.
    fn managers(&self) -> Vec<String> {
        let mut names: Vec<String> = self.feed.nodes().iter().map(|node| node.name.clone()).collect();
        names.extend(self.overseer.as_ref().map(|overseer| overseer.posture().node));
        names.extend(self.book.direct(self.feed.freshness().borrow().connected));
        names.sort();
        names.dedup();
        names
    }

    fn effective(&self) -> Effective {
        let managers = self.managers();
        self.book.reach().borrow().among(managers.iter().map(String::as_str))
    }

    /// Waits a moment for all to obey. `None`: it has not begun.
    async fn until_effective(&self, order: &Order) -> Option<Effective> {
        if order.from_ms > clock::unix_ms() {
            return None;
        }
        let managers = self.managers();
        let mut reach = self.book.reach();
        let all = reach.wait_for(|reach| {
            let effective = reach.among(managers.iter().map(String::as_str));
            reach.order() == Some(order.id) && effective.nodes == effective.of
        });
        // What has not come in time is told as it is.
        let _ = tokio::time::timeout(EFFECTIVE_LIMIT, all).await;
        Some(self.effective())
    }

    fn nodes(&self) -> Vec<Value> {
        let (now, loads) = (Instant::now(), Arc::clone(&self.feed.loads().borrow()));
        let own = self.overseer.as_ref().map(|overseer| overseer.posture());
        let mut rows = Vec::new();
        for node in self.managers() {
            rows.push(match (&own, loads.of(&node)) {
                // What a node says about itself has not travelled.
                (Some(view), _) if view.node == node => {
                    node_row(&node, &Heard { report: view.into(), at: now }, now)
                }
                (_, Some(heard)) => node_row(&node, heard, now),
                (_, None) => json!({"node": node, "fresh": false}),
            });
        }
        rows
    }

    /// What an order would do, were it given and in force now.
    fn would(&self, order: &Order) -> Value {
        let view = self.overseer.as_ref().map(|overseer| overseer.posture());
        let then = match order.kind {
            Kind::Emergency => Some(Posture::Emergency),
            Kind::Normal => Some(Posture::Normal),
            Kind::Automatic => view.as_ref().map(|view| view.measured),
        };
        let refuse = then.zip(self.overseer.as_ref()).map(|(then, overseer)| overseer.would_refuse(then));
        let orders = Arc::clone(&self.book.watch().borrow());
        json!({
            "dry_run": true,
            "order": order,
            "posture_now": view.map(|view| posture::name(view.posture)),
            "posture_then": then.map(posture::name),
            "replaces": newest(&orders, clock::unix_ms()),
            "refuse": refuse,
        })
    }
}

fn node_row(node: &str, heard: &Heard, now: Instant) -> Value {
    let age_ms = now.saturating_duration_since(heard.at).as_millis();
    json!({
        "node": node,
        "posture": posture::name(heard.report.posture),
        "level": heard.report.level,
        "background_per_s": heard.report.background_per_s,
        "ledger_ms": heard.report.ledger_ms,
        "order": heard.report.order,
        "age_ms": u64::try_from(age_ms).unwrap_or(u64::MAX),
        "fresh": heard.is_fresh(now),
    })
}

impl From<&PostureView> for Report {
    fn from(view: &PostureView) -> Self {
        Self {
            posture: view.posture,
            level: view.level,
            background_per_s: view.background_per_s,
            ledger_ms: view.ledger_ms,
            order: view.order,
            ..Self::default()
        }
    }
}

fn result(value: &Value) -> Response {
    Json(json!({ "result": value })).into_response()
}

fn refused(why: &GiveError) -> Response {
    match why {
        GiveError::Order(order) => {
            metrics::counter!("buslane_orders_refused_total", "why" => order.code()).increment(1);
            error(StatusCode::BAD_REQUEST, order.code(), &order.to_string())
        }
        GiveError::Audit(audit) => unwritable(audit),
    }
}

fn unwritable(why: &AuditError) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "audit_unwritable", &why.to_string())
}
