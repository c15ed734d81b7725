//! Logging in and out on the page, and who one is: `/v1/login`, `/v1/logout`, `/v1/whoami`.
//!
//! Why it exists: a person shows his token once, and works with a cookie from then on. Works with a plain form as with a script. It must never send
//! anybody to another site, nor begin a session for a foreign page.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Json, RequestExt, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::body;
use super::error;
use super::guard::{Denied, Guard, escaped};
use super::lease::Lease;
use super::pages::Opened;
use super::peer::Peer;
use super::principal::Role;
use crate::clock;

/// What nobody needs a right for.
pub(super) fn open_routes(guard: Arc<Guard>) -> Router {
    Router::new().route("/v1/login", post(login)).route("/v1/logout", post(logout)).with_state(guard)
}

/// What everybody may who has any.
pub(super) fn routes() -> Router {
    Router::new().route("/v1/whoami", get(whoami))
}

/// `GET /v1/whoami`, and the answer to a login.
#[derive(Debug, Serialize)]
struct WhoAmI<'a> {
    name: &'a str,
    role: Role,
    how: &'static str,
    csrf: Option<&'a str>,
    expires_ms: Option<u64>,
}

async fn whoami(Extension(lease): Extension<Lease>) -> Response {
    show(&lease)
}

fn show(lease: &Lease) -> Response {
    let principal = &lease.principal;
    let who = WhoAmI {
        name: &principal.name,
        role: principal.role,
        how: principal.how.name(),
        csrf: lease.csrf.as_deref(),
        expires_ms: lease.expires_ms,
    };
    Json(json!({ "result": who })).into_response()
}

/// What is shown to log in.
#[derive(Deserialize)]
struct Shown {
    token: String,
    /// Where to go then.
    #[serde(default)]
    next: String,
}

async fn login(State(guard): State<Arc<Guard>>, request: Request) -> Response {
    let (peer, headers) = (Peer::of(&request), request.headers().clone());
    let is_form = is_form(&headers);
    let shown = match read(request, is_form).await {
        Ok(shown) => shown,
        Err(answer) => return answer,
    };
    let now_ms = clock::unix_ms();
    let lease = guard
        .is_ours(&headers)
        .and_then(|()| guard.of_token(shown.token.trim(), now_ms).ok_or(Denied::WrongToken))
        .and_then(|lease| guard.may_log_in(lease));
    let lease = match lease {
        Ok(lease) => lease,
        Err(denied) => return fail(guard.deny(denied, peer.ip), is_form, &shown.next),
    };
    let opened = begin_page(&guard, &lease, &peer, &headers, Map::new());
    let answer = if is_form { Redirect::to(local(&shown.next)).into_response() } else { show(&opened.lease) };
    with_cookie(answer, guard.cookie.set(&opened.cookie, peer.tls))
}

/// Begins the page session of a right in a browser; the one that it has there ends. `by` is recorded with it.
pub(super) fn begin_page(
    guard: &Guard,
    lease: &Lease,
    peer: &Peer,
    headers: &HeaderMap,
    by: Map<String, Value>,
) -> Opened {
    if let Some(old) = guard.cookie.shown(headers) {
        guard.pages.close(old);
    }
    let opened = guard.pages.open(lease, clock::unix_ms());
    let Lease { principal, expires_ms, .. } = &opened.lease;
    metrics::counter!("buslane_admin_logins_total").increment(1);
    let mut after = by;
    after.insert("from".to_owned(), json!(peer.ip));
    after.insert("role".to_owned(), json!(principal.role));
    after.insert("expires_ms".to_owned(), json!(expires_ms));
    guard.note(&principal.name, "page.login", "logged in on the page", Value::Object(after));
    opened
}

/// A form is answered with the page that it is on.
fn fail(answer: Response, is_form: bool, next: &str) -> Response {
    if !is_form {
        return answer;
    }
    let failed = match answer.status() {
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        StatusCode::UNAUTHORIZED => "unauthorized",
        _ => return answer,
    };
    Redirect::to(&format!("/login?failed={failed}&next={}", escaped(local(next)))).into_response()
}

async fn logout(State(guard): State<Arc<Guard>>, request: Request) -> Response {
    // A foreign page cannot do this: the cookie is not sent for one.
    let peer = Peer::of(&request);
    if let Err(denied) = guard.is_ours(request.headers()) {
        return guard.deny(denied, peer.ip);
    }
    let closed = guard.cookie.shown(request.headers()).and_then(|cookie| guard.pages.close(cookie));
    let answer = if is_form(request.headers()) {
        Redirect::to("/login").into_response()
    } else {
        Json(json!({ "result": { "logged_out": closed.is_some() } })).into_response()
    };
    with_cookie(answer, guard.cookie.clear(peer.tls))
}

async fn read(request: Request, is_form: bool) -> Result<Shown, Response> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(body, body::LOGIN_BYTES_MAX).await?;
    let request = Request::from_parts(parts, bytes.into());
    let shown = if is_form {
        request.extract::<Form<Shown>, _>().await.map(|Form(shown)| shown).map_err(|e| e.body_text())
    } else {
        request.extract::<Json<Shown>, _>().await.map(|Json(shown)| shown).map_err(|e| e.body_text())
    };
    shown.map_err(|why| {
        let message =
            format!("send {{\"token\": …}} as application/json, or a form with the field `token`: {why}");
        error(StatusCode::BAD_REQUEST, "bad_request", &message)
    })
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded"))
}

/// A path of ours: whoever writes a link to the login page chooses no other site.
pub(super) fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//");
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path && is_plain && !next.starts_with("/login") { next } else { "/" }
}

pub(super) fn with_cookie(mut answer: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_login_one_stays_here() {
        for path in ["/", "/posture", "/traffic?span=3h&node=a%20b"] {
            assert_eq!(local(path), path);
        }
        for path in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nSet-Cookie: x",
            "/login",
            "x",
        ] {
            assert_eq!(local(path), "/", "{path}");
        }
    }
}
