//! Whether a role suffices for a request.
//!
//! Why it exists: the rule is one for all routes, so that a new route is guarded without anybody thinking of it: to look is for viewers,
//! to change is for operators, and what is for admins is registered as such. It must never let a request pass that has no principal.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::{Principal, Role};

/// Looking is for viewers, everything else for operators.
pub(super) async fn look_or_operate(request: Request, next: Next) -> Response {
    let least = if changes(request.method()) { Role::Operator } else { Role::Viewer };
    with(least, request, next).await
}

/// All of it is for admins.
pub(super) async fn administrate(request: Request, next: Next) -> Response {
    with(Role::Admin, request, next).await
}

/// Whether a request of this method may change something.
pub(super) fn changes(method: &Method) -> bool {
    *method != Method::GET && *method != Method::HEAD
}

async fn with(least: Role, request: Request, next: Next) -> Response {
    match request.extensions().get::<Principal>() {
        Some(principal) if principal.role >= least => next.run(request).await,
        principal => forbidden(least, principal),
    }
}

fn forbidden(least: Role, principal: Option<&Principal>) -> Response {
    metrics::counter!("buslane_admin_refused_total", "why" => "forbidden").increment(1);
    let have = principal.map_or("nobody", |principal| principal.role.name());
    let message = format!(
        "this needs the role {}, and you are {have}; an admin makes tokens with `buslane ctl token`",
        least.name()
    );
    super::error(StatusCode::FORBIDDEN, "forbidden", &message)
}
