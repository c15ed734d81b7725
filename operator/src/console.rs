//! The page: what an operator looks at, served from the binary, without a build chain and without anything from elsewhere.
//!
//! The node renders what holds now, so that the page can be read at once and without JavaScript; scripts of our own then keep
//! it true. Everything that is shown goes through the escaping of the templates, or through `textContent`. Whoever has not
//! shown who he is sees the page for that, and the files that a page is made of, and nothing else.

mod assets;
mod door;
mod first;
mod rows;
mod shell;
mod story;
mod words;

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use buslane_chassis::admin::{Principal, error};
use buslane_chassis::clock;
use serde::Deserialize;

use self::first::{Facts, Now};
use self::rows::{Case, CaseWithTimeline, Wrong};
use self::shell::{Page, Shell};
use crate::api;
use crate::seat::Seat;

/// The routes for those who have shown who they are.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new()
        .route("/", get(traffic))
        .route("/lanes", get(lanes))
        .route("/status", get(status))
        .route("/incidents", get(incidents))
        .route("/incidents/{no}", get(incident))
        .route("/users", get(users))
        .route("/drills", get(drills))
        .route("/audit", get(audit))
        .with_state(Arc::clone(seat))
}

/// The routes for everybody. `provider` is the name of whoever else knows people, if anybody does.
pub fn open_routes(provider: Option<&str>) -> Router {
    door::routes(provider).route("/assets/{name}", get(assets::serve))
}

/// Of which node the page is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    node: String,
}

/// What every page needs.
type Who = Extension<Principal>;

async fn traffic(State(seat): State<Arc<Seat>>, Extension(who): Who, Query(asked): Query<Asked>) -> Response {
    let now = Now::of(&facts(&seat, &asked.node));
    page(&TrafficPage { shell: Shell::of(&seat, &who, Page::Traffic, &asked.node), now })
}

async fn lanes(State(seat): State<Arc<Seat>>, Extension(who): Who, Query(asked): Query<Asked>) -> Response {
    page(&LanesPage { shell: Shell::of(&seat, &who, Page::Lanes, &asked.node) })
}

async fn status(State(seat): State<Arc<Seat>>, Extension(who): Who, Query(asked): Query<Asked>) -> Response {
    let status = Wrong::of(&seat.status.view());
    page(&StatusPage { shell: Shell::of(&seat, &who, Page::Status, &asked.node), status })
}

async fn incidents(
    State(seat): State<Arc<Seat>>,
    Extension(who): Who,
    Query(asked): Query<Asked>,
) -> Response {
    let incidents = seat.incidents.open_ones().iter().map(Case::of).collect();
    page(&IncidentsPage { shell: Shell::of(&seat, &who, Page::Incidents, &asked.node), incidents })
}

async fn incident(
    State(seat): State<Arc<Seat>>,
    Extension(who): Who,
    Path(no): Path<u64>,
    Query(asked): Query<Asked>,
) -> Response {
    match seat.incidents.show(no).await {
        Ok(view) => {
            let mut shell = Shell::of(&seat, &who, Page::Incident, &asked.node);
            shell.no = no.to_string();
            page(&IncidentPage { shell, incident: CaseWithTimeline::of(&view) })
        }
        Err(why) => *api::incidents::refused(&why),
    }
}

async fn users(State(seat): State<Arc<Seat>>, Extension(who): Who, Query(asked): Query<Asked>) -> Response {
    page(&UsersPage { shell: Shell::of(&seat, &who, Page::Users, &asked.node) })
}

async fn drills(State(seat): State<Arc<Seat>>, Extension(who): Who, Query(asked): Query<Asked>) -> Response {
    page(&DrillsPage { shell: Shell::of(&seat, &who, Page::Drills, &asked.node) })
}

async fn audit(State(seat): State<Arc<Seat>>, Extension(who): Who, Query(asked): Query<Asked>) -> Response {
    page(&AuditPage { shell: Shell::of(&seat, &who, Page::Audit, &asked.node) })
}

/// What this process knows now; of another node, what is known here is left out rather than shown under its name.
fn facts(seat: &Seat, node: &str) -> Facts {
    let is_ours = node.is_empty() || node == seat.node;
    Facts {
        sample: seat.history.last().filter(|_| is_ours),
        posture: seat.desk.overseer.as_ref().filter(|_| is_ours).map(|overseer| overseer.posture()),
        order: seat.desk.book.watch().borrow().in_force(clock::unix_ms()).cloned(),
        status: seat.status.view(),
        incidents: seat.incidents.open_ones(),
        nodes: seat.nodes(),
        now_ms: clock::unix_ms(),
    }
}

fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &why.to_string()),
    }
}

#[derive(Template)]
#[template(path = "traffic.html")]
struct TrafficPage {
    shell: Shell,
    now: Now,
}

#[derive(Template)]
#[template(path = "lanes.html")]
struct LanesPage {
    shell: Shell,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    shell: Shell,
    status: Wrong,
}

#[derive(Template)]
#[template(path = "incidents.html")]
struct IncidentsPage {
    shell: Shell,
    incidents: Vec<Case>,
}

#[derive(Template)]
#[template(path = "incident.html")]
struct IncidentPage {
    shell: Shell,
    incident: CaseWithTimeline,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersPage {
    shell: Shell,
}

#[derive(Template)]
#[template(path = "drills.html")]
struct DrillsPage {
    shell: Shell,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
}

#[cfg(test)]
mod tests;
