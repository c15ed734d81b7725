//! The two steps of a sign-in: `GET /v1/login/oidc` sends a browser to the provider, `GET /v1/login/oidc/callback` takes it back.
//!
//! Why it exists: the second step comes from a foreign site, so nothing that is not sent along for one can be relied on, and anybody can write a link
//! to it. It counts only with a state of ours and the cookie that the same browser got in the first step. It must never send anybody to an address that
//! came with the request, nor ask the provider for somebody whom this process did not send there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::super::cookie::Cookie;
use super::super::guard::{Guard, escaped};
use super::super::lease::Lease;
use super::super::login::{begin_page, local, with_cookie};
use super::super::peer::Peer;
use super::super::principal::{How, Principal};
use super::super::secrets;
use super::pending::{Kept, LIFE, Pending};
use super::{Answer, BEGIN, CALLBACK, Person, Provider, ProviderError, Question, SignIn};
use crate::clock;

/// How long the provider may take in all, for a person who waits. Each of its answers has a limit of its own.
const LIMIT: Duration = Duration::from_secs(15);

/// Browsers for which the provider is asked at a time. Operators are few; strangers must not make this process flood it.
const ASKED_MAX: usize = 16;

/// Longest path that one is led to after the sign-in.
const NEXT_BYTES_MAX: usize = 1_024;

/// What is remembered of what a provider says went wrong: a code of RFC 6749 is far shorter.
const ERROR_CHARS_MAX: usize = 64;

/// Signing in at one process.
pub(in super::super) struct Door {
    guard: Arc<Guard>,
    provider: Arc<dyn Provider>,
    session: Duration,
    /// Where browsers come back to.
    back: String,
    pending: Pending,
    cookie: Cookie,
    asked: Semaphore,
}

impl Door {
    pub(in super::super) fn new(guard: Arc<Guard>, sign_in: SignIn, back: String, port: u16) -> Self {
        let SignIn { provider, session, .. } = sign_in;
        let cookie = Cookie::of_sign_in(port, BEGIN, LIFE);
        let (pending, asked) = (Pending::default(), Semaphore::new(ASKED_MAX));
        Self { guard, provider, session, back, pending, cookie, asked }
    }
}

pub(in super::super) fn routes(door: Door) -> Router {
    Router::new()
        .route("/v1/login/oidc", get(begin))
        .route("/v1/login/oidc/callback", get(finish))
        .with_state(Arc::new(door))
}

/// Why nobody was signed in, as the login page is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// The provider does not answer.
    Unreachable,
    /// What it says is of no use.
    Refused,
    /// It, or the person, said no.
    Declined,
    /// Nothing was begun, or it is over, or it was begun elsewhere.
    Over,
    /// The person has no role.
    NoRole,
    /// Too many tries.
    TooMany,
}

impl Failed {
    fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "provider_unreachable",
            Self::Refused => "provider_refused",
            Self::Declined => "sign_in_declined",
            Self::Over => "sign_in_over",
            Self::NoRole => "no_role",
            Self::TooMany => "rate_limited",
        }
    }

    /// Back to the login page, which says why in words.
    fn answer(self, next: &str) -> Response {
        metrics::counter!("buslane_admin_refused_total", "why" => self.code()).increment(1);
        Redirect::to(&format!("/login?failed={}&next={}", self.code(), escaped(next))).into_response()
    }
}

impl From<&ProviderError> for Failed {
    fn from(error: &ProviderError) -> Self {
        match error {
            ProviderError::Unreachable(_) => Self::Unreachable,
            ProviderError::Refused(_) => Self::Refused,
        }
    }
}

/// What the first step is asked with.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wish {
    /// Where to be then.
    next: String,
    /// Whether the browser was led to the name that it will come back to.
    led: bool,
}

async fn begin(State(door): State<Arc<Door>>, Query(wish): Query<Wish>, request: Request) -> Response {
    let (peer, headers) = (Peer::of(&request), request.headers());
    if let Err(denied) = door.guard.is_ours(headers) {
        return door.guard.deny(denied, peer.ip);
    }
    let next = bounded(&wish.next);
    // A cookie of another name would not come back.
    if !wish.led && !is_at(&door.back, headers) {
        return Redirect::to(&there(&door.back, next)).into_response();
    }
    if door.guard.is_slowed(peer.ip) {
        return Failed::TooMany.answer(next);
    }
    let question = Question::new(&door.back);
    match door.ask(door.provider.way(&question)).await {
        Ok(way) => {
            let cookie = secrets::random();
            let kept = Kept { question, next: next.to_owned() };
            door.pending.open(kept, &cookie, peer.ip, Instant::now());
            with_cookie(Redirect::to(&way).into_response(), door.cookie.set(&cookie, peer.tls))
        }
        Err(failed) => failed.answer(next),
    }
}

/// What a browser brings back.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Brought {
    state: String,
    code: String,
    error: String,
    iss: Option<String>,
}

async fn finish(State(door): State<Arc<Door>>, Query(brought): Query<Brought>, request: Request) -> Response {
    let (peer, headers) = (Peer::of(&request), request.headers());
    if let Err(denied) = door.guard.is_for_us(headers) {
        return door.guard.deny(denied, peer.ip);
    }
    let cookie = door.cookie.shown(headers);
    let Some(kept) = door.pending.take(&brought.state, cookie, Instant::now()) else {
        // A foreign page can make a browser ask here as often as it likes, without this cookie: that is no try of whoever sits before it.
        let has_tried = cookie.is_some();
        return if has_tried { door.fail(Failed::Over, &peer, "/") } else { Failed::Over.answer("/") };
    };
    let answer = match door.person(brought, &kept.question, peer.ip).await {
        Ok(person) => door.admit(person, &kept.next, &peer, headers),
        Err(failed) => door.fail(failed, &peer, &kept.next),
    };
    with_cookie(answer, door.cookie.clear(peer.tls))
}

impl Door {
    async fn person(&self, brought: Brought, question: &Question, from: IpAddr) -> Result<Person, Failed> {
        let Brought { code, error, iss, .. } = brought;
        if !error.is_empty() || code.is_empty() {
            let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
            tracing::info!(?error, "the provider sent somebody back without an answer");
            return Err(Failed::Declined);
        }
        // Sign-ins that were begun before are many: codes that were made up are not redeemed at the provider for ever.
        if self.guard.is_slowed(from) {
            return Err(Failed::TooMany);
        }
        let answer = Answer { code, issuer: iss };
        self.ask(self.provider.person(question, &answer)).await
    }

    /// What the provider says, within bounds.
    async fn ask<T>(&self, asking: impl Future<Output = Result<T, ProviderError>>) -> Result<T, Failed> {
        let Ok(_place) = self.asked.try_acquire() else { return Err(Failed::TooMany) };
        let late = || Err(ProviderError::Unreachable(format!("no answer within {} s", LIMIT.as_secs())));
        timeout(LIMIT, asking).await.unwrap_or_else(|_| late()).map_err(|error| {
            tracing::warn!(%error, "nobody was signed in; tokens are taken as ever");
            Failed::from(&error)
        })
    }

    /// Counts what went wrong on the side of whoever asks.
    fn fail(&self, failed: Failed, peer: &Peer, next: &str) -> Response {
        let is_ours = matches!(failed, Failed::Unreachable | Failed::TooMany);
        if !is_ours && self.guard.on_failed_login(peer.ip).is_some() {
            return Failed::TooMany.answer(next);
        }
        failed.answer(next)
    }

    /// Begins the page session of a person who has a role.
    fn admit(&self, person: Person, next: &str, peer: &Peer, headers: &HeaderMap) -> Response {
        let Some(role) = person.role else { return self.refuse(&person, peer, next) };
        let now_ms = clock::unix_ms();
        let life_ms = u64::try_from(self.session.as_millis()).unwrap_or(u64::MAX);
        let lease = Lease {
            principal: Principal { name: person.name, role, how: How::Provider },
            alive: CancellationToken::new(),
            expires_ms: Some(now_ms.saturating_add(life_ms)),
            csrf: None,
        };
        let Ok(lease) = self.guard.may_log_in(lease) else { return Failed::TooMany.answer(next) };
        let by = [("how", json!("oidc")), ("subject", json!(person.subject))];
        let by = by.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let opened = begin_page(&self.guard, &lease, peer, headers, by);
        // The cookie of a page session is not sent where a foreign site leads to, but it is where a page of ours does.
        let to = format!("/login/done?next={}", escaped(next));
        with_cookie(Redirect::to(&to).into_response(), self.guard.cookie.set(&opened.cookie, peer.tls))
    }

    fn refuse(&self, person: &Person, peer: &Peer, next: &str) -> Response {
        let Person { name, subject, .. } = person;
        tracing::warn!(name, subject, from = %peer.ip, "somebody without a role wanted to sign in");
        let slowed = self.guard.on_failed_login(peer.ip).is_some();
        if slowed {
            return Failed::TooMany.answer(next);
        }
        let after = json!({"from": peer.ip, "how": "oidc", "subject": subject});
        self.guard.note(name, "page.refused", "signed in at the provider, and has no role here", after);
        Failed::NoRole.answer(next)
    }
}

fn bounded(next: &str) -> &str {
    if next.len() > NEXT_BYTES_MAX { "/" } else { local(next) }
}

/// Whether the browser is where it will come back to.
fn is_at(back: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = back.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority);
    authority.zip(host).is_some_and(|(authority, host)| authority.as_str().eq_ignore_ascii_case(host))
}

/// The first step where the browser will come back to. Once: behind a proxy that changes names it would go on for ever.
fn there(back: &str, next: &str) -> String {
    let origin = back.strip_suffix(CALLBACK).unwrap_or_default();
    format!("{origin}{BEGIN}?led=true&next={}", escaped(next))
}
