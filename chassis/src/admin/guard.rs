//! Finds out who asks, and lets nobody in who does not show it.
//!
//! Why it exists: one place decides for all routes, those that do not exist included: a stranger does not learn which there are. A right token always
//! passes, whatever others have tried. What a browser sends by itself (a cookie, a certificate) is believed only for names of ours, and changes
//! something only for pages of ours. It must never let a stream outlive the right that it was opened with.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use buslane_shared::UnixMs;
use parking_lot::Mutex;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cookie::Cookie;
use super::failures::{Failures, Verdict};
use super::lease::Lease;
use super::logins::Logins;
use super::origin::{self, Hosts};
use super::pages::Pages;
use super::peer::Peer;
use super::principal::Principal;
use super::{Token, Tokens, body, error, may};
use crate::audit::{self, Entry};
use crate::clock;

/// What a page sends with everything that changes something.
const CSRF: HeaderName = HeaderName::from_static("x-buslane-csrf");

/// Everything that rights are decided from.
pub(super) struct Guard {
    root: Lease,
    token: Token,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) pages: Pages,
    pub(super) cookie: Cookie,
    hosts: Hosts,
    failures: Mutex<Failures>,
    logins: Mutex<Logins>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Shows nothing, or a page session that is over.
    Nobody,
    /// Shows a token that is none.
    WrongToken,
    /// Means a name that is none of ours.
    UnknownHost,
    /// Comes from a foreign page.
    ForeignOrigin,
    /// Does not show what only our page knows.
    NoCsrf,
    /// Logs in more often than people do.
    TooOften {
        /// Seconds.
        wait_s: u64,
    },
}

impl Guard {
    pub(super) fn new(token: Token, tokens: Option<Arc<Tokens>>, hosts: Hosts, port: u16) -> Self {
        let root = Lease {
            principal: Principal::root(),
            alive: CancellationToken::new(),
            expires_ms: None,
            csrf: None,
        };
        let (pages, cookie) = (Pages::default(), Cookie::of_port(port));
        Self {
            root,
            token,
            tokens,
            pages,
            cookie,
            hosts,
            failures: Mutex::new(Failures::new(Instant::now())),
            logins: Mutex::default(),
        }
    }

    /// The right of whoever shows this token.
    pub(super) fn of_token(&self, shown: &str, now_ms: UnixMs) -> Option<Lease> {
        if self.token.is(shown) {
            return Some(self.root.clone());
        }
        self.tokens.as_ref()?.find(shown, now_ms)
    }

    /// Counts a login of somebody who may.
    pub(super) fn may_log_in(&self, lease: Lease) -> Result<Lease, Denied> {
        let right = format!("{} {}", lease.principal.how.name(), lease.principal.name);
        match self.logins.lock().on_login(&right, Instant::now()) {
            Ok(()) => Ok(lease),
            Err(wait_s) => Err(Denied::TooOften { wait_s }),
        }
    }

    fn identify(&self, request: &Request, now_ms: UnixMs) -> Result<Lease, Denied> {
        let headers = request.headers();
        if let Some(authorization) = headers.get(header::AUTHORIZATION) {
            let lease = bearer(authorization).and_then(|shown| self.of_token(shown, now_ms));
            return lease.ok_or(Denied::WrongToken);
        }
        let page = self.cookie.shown(headers).and_then(|cookie| self.pages.find(cookie, now_ms));
        let certificate = || Peer::of(request).certificate.filter(|lease| lease.holds(now_ms));
        let lease = page.or_else(certificate).ok_or(Denied::Nobody)?;
        self.is_ours(headers)?;
        match &lease.csrf {
            Some(csrf) if may::changes(request.method()) && !shows(headers, csrf) => Err(Denied::NoCsrf),
            _ => Ok(lease),
        }
    }

    /// Whether a browser means a name of ours.
    pub(super) fn is_for_us(&self, headers: &HeaderMap) -> Result<(), Denied> {
        if self.hosts.are_asked_by(headers) { Ok(()) } else { Err(Denied::UnknownHost) }
    }

    /// Whether a browser that sends this by itself is on a page of ours.
    pub(super) fn is_ours(&self, headers: &HeaderMap) -> Result<(), Denied> {
        self.is_for_us(headers)?;
        if origin::is_own(headers) { Ok(()) } else { Err(Denied::ForeignOrigin) }
    }

    /// The answer to whoever is not let in.
    pub(super) fn deny(&self, denied: Denied, from: IpAddr) -> Response {
        let slowed = match denied {
            Denied::WrongToken => self.on_failed_login(from),
            _ => None,
        };
        let why = if slowed.is_some() { "rate_limited" } else { denied.why() };
        metrics::counter!("buslane_admin_refused_total", "why" => why).increment(1);
        let wait = |wait_s| slow_down("too many wrong tokens; wait and use the right one", wait_s);
        slowed.map_or_else(|| denied.answer(), wait)
    }

    /// Whether this address has failed so often that nobody else is asked for it.
    pub(super) fn is_slowed(&self, from: IpAddr) -> bool {
        self.failures.lock().is_slowed(from, Instant::now())
    }

    /// Counts a wrong token or a sign-in that failed; the seconds to wait, if there were too many.
    pub(super) fn on_failed_login(&self, from: IpAddr) -> Option<u64> {
        let Verdict::Slowed { wait_s, burst } = self.failures.lock().on_failure(from, Instant::now()) else {
            return None;
        };
        if let Some(count) = burst {
            tracing::warn!(%from, count, "many wrong tokens or failed sign-ins at the admin address");
            self.note(
                audit::SELF,
                "access.failures",
                "many wrong tokens or failed sign-ins within a minute",
                json!({"from": from, "count": count}),
            );
        }
        Some(wait_s)
    }

    /// Writes down what is no change. Somebody who only wants to see is let in also where nothing can be written any more.
    pub(super) fn note(&self, author: &str, action: &str, reason: &str, after: Value) {
        let Some(tokens) = &self.tokens else { return };
        let audit = Arc::clone(tokens.audit());
        let entry = Entry {
            author: author.to_owned(),
            action: action.to_owned(),
            reason: reason.to_owned(),
            before: Value::Null,
            after,
        };
        tokio::spawn(async move {
            let action = entry.action.clone();
            if let Err(error) = audit.record(entry).await {
                tracing::error!(%error, action, "not recorded");
            }
        });
    }
}

impl Denied {
    fn why(self) -> &'static str {
        match self {
            Self::Nobody => "no_token",
            Self::WrongToken => "bad_token",
            Self::UnknownHost => "unknown_host",
            Self::ForeignOrigin => "foreign_origin",
            Self::NoCsrf => "csrf",
            Self::TooOften { .. } => "rate_limited",
        }
    }

    fn answer(self) -> Response {
        match self {
            Self::Nobody | Self::WrongToken => {
                let message = "send `Authorization: Bearer <token>` or log in at /login; the token of the machine is in the file \
                               admin.token of the data folder";
                let mut answer = error(StatusCode::UNAUTHORIZED, "unauthorized", message);
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                answer
            }
            Self::TooOften { wait_s } => {
                slow_down("too many logins with this token; wait, and stay logged in", wait_s)
            }
            Self::UnknownHost => forbidden(
                "unknown_host",
                "this name is none of this process: use its address, or add the name to `hosts` in its settings",
            ),
            Self::ForeignOrigin => forbidden("foreign_origin", "this was sent by a page of somebody else"),
            Self::NoCsrf => forbidden(
                "csrf",
                "a page sends the value `csrf` of GET /v1/whoami as X-Buslane-CSRF; load the page again",
            ),
        }
    }
}

fn slow_down(message: &str, wait_s: u64) -> Response {
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
    answer
}

/// Lets a request through that shows who sends it, and ends what it opened when the right ends.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let lease = match guard.identify(&request, clock::unix_ms()) {
        Ok(lease) => lease,
        Err(Denied::Nobody) if wants_page(&request) => return to_login(&request),
        Err(denied) => return guard.deny(denied, Peer::of(&request).ip),
    };
    Peer::of(&request).known.note();
    let mut request = match body::whole(request).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    request.extensions_mut().insert(lease.principal.clone());
    request.extensions_mut().insert(lease.clone());
    lease.bounds(next.run(request).await)
}

/// Whether a person's browser asks for a page.
fn wants_page(request: &Request) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|accepted| accepted.contains("text/html"));
    request.method() == Method::GET && request.headers().get_all(header::ACCEPT).iter().any(accepts)
}

fn to_login(request: &Request) -> Response {
    let asked = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
    Redirect::to(&format!("/login?next={}", escaped(asked))).into_response()
}

/// As part of a query.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into())
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn shows(headers: &HeaderMap, csrf: &str) -> bool {
    headers.get(CSRF).is_some_and(|shown| shown.as_bytes().ct_eq(csrf.as_bytes()).into())
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case("bearer ").then_some(token)
}

fn forbidden(code: &str, message: &str) -> Response {
    error(StatusCode::FORBIDDEN, code, message)
}
