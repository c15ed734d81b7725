//! The way in: the page on which one logs in, and the one that leads on after a sign-in.
//!
//! Both are for everybody, so neither says anything about this system but how one gets in. What the last try failed of comes as a code and is said in
//! words of ours: nobody can write a link that makes this page say something else.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::get;
use buslane_chassis::admin::sign_in;
use serde::Deserialize;

use super::{page, shell, words};

/// The pages for everybody. `provider` is who else knows people, if anybody does.
pub(super) fn routes(provider: Option<&str>) -> Router {
    let provider = provider.map(str::to_owned);
    Router::new()
        .route("/login", get(move |Query(wanted): Query<Wanted>| async move { login(&wanted, provider) }))
        .route("/login/done", get(done))
}

/// Where one wants to be once one is logged in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    next: String,
    /// Why the last try failed: its code.
    failed: String,
}

fn login(wanted: &Wanted, provider: Option<String>) -> Response {
    let next = shell::local(&wanted.next);
    let way = format!("{}?next={}", sign_in::BEGIN, words::in_query(&next));
    page(&LoginPage { next, failed: failed(&wanted.failed), provider, way })
}

/// The cookie of a page session is sent where a page of ours leads to, and not where a foreign one does: so this page lies between.
async fn done(Query(wanted): Query<Wanted>) -> Response {
    page(&DonePage { next: shell::local(&wanted.next) })
}

/// Why a login without JavaScript failed, in words.
fn failed(code: &str) -> &'static str {
    match code {
        "" => "",
        "rate_limited" => "Too many tries failed. Wait a minute and try again.",
        "provider_unreachable" => {
            "The sign-in service does not answer. Log in with a token, or try again in a moment."
        }
        "provider_refused" => {
            "The sign-in service gave no answer that can be used; the log of this process says why. Log in with a token."
        }
        "sign_in_declined" => "Nobody was signed in. Try again, or log in with a token.",
        "sign_in_over" => {
            "This sign-in is over, or was begun in another browser or window. Begin again with the button."
        }
        "no_role" => {
            "Your account has no role here. Ask whoever administrates this system to name one of your groups under [oidc.roles], \
             or for a token."
        }
        _ => "This token is not known, or it holds no longer.",
    }
}

#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct LoginPage {
    pub(super) next: String,
    pub(super) failed: &'static str,
    pub(super) provider: Option<String>,
    /// Where a sign-in begins.
    pub(super) way: String,
}

#[derive(Template)]
#[template(path = "done.html")]
pub(super) struct DonePage {
    pub(super) next: String,
}
