//! Signing in with a provider of the company (OpenID Connect) in place of a token: what the door does of it.
//!
//! Why it exists: where people have accounts elsewhere, nobody hands out tokens to them or forgets to take them back. The door sends a browser away with
//! a question, takes it back with the answer, and begins the page session; the question is put and the answer understood by a [`Provider`], which only
//! some binaries have. It must never depend on one: whoever shows a token gets in whatever the provider does.

mod pending;
mod routes;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::principal::{ROOT, Role};
use super::secrets;
use crate::audit;

pub(super) use routes::{Door, routes};
pub use settings::{Settings, is_private};

/// Where a sign-in begins.
pub const BEGIN: &str = "/v1/login/oidc";

/// Where a browser comes back to.
pub const CALLBACK: &str = "/v1/login/oidc/callback";

/// Longest name of a person.
const NAME_CHARS_MAX: usize = 64;

/// Longest name of an account (OpenID Connect Core, section 2).
const SUBJECT_CHARS_MAX: usize = 255;

/// Somebody elsewhere who knows people.
pub trait Provider: Send + Sync + 'static {
    /// The address to which a browser goes with this question. Fails where the provider is not there to answer it.
    fn way<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<String, ProviderError>>;

    /// Who it is that came back with this answer to the question.
    fn person<'a>(
        &'a self,
        question: &'a Question,
        answer: &'a Answer,
    ) -> BoxFuture<'a, Result<Person, ProviderError>>;
}

/// What one sign-in is told from all others by. Each part is random and used once.
#[derive(Clone)]
pub struct Question {
    /// Comes back with the browser.
    pub state: String,
    /// Comes back in what the provider has signed.
    pub nonce: String,
    /// Shows that whoever redeems the code has asked for it (RFC 7636).
    pub verifier: String,
    /// Where the browser comes back to.
    pub back: String,
}

impl Question {
    fn new(back: &str) -> Self {
        let [state, nonce, verifier] = [(); 3].map(|()| secrets::random());
        Self { state, nonce, verifier, back: back.to_owned() }
    }
}

/// What a browser brings back.
pub struct Answer {
    /// To be redeemed at the provider, once.
    pub code: String,
    /// Who says that he has given it (RFC 9207), where that is said.
    pub issuer: Option<String>,
}

/// Somebody whom the provider knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    name: String,
    subject: String,
    role: Option<Role>,
}

impl Person {
    /// Somebody with the first of these names that can be written down, or else with that of the account (`subject`, which the provider never gives to
    /// another). The role is the highest that the settings give, if any. None: not even the account has a name.
    pub fn named(names: &[&str], subject: &str, role: Option<Role>) -> Option<Self> {
        let subject = written(subject, SUBJECT_CHARS_MAX);
        let mut names = names.iter().map(|name| written(name, NAME_CHARS_MAX));
        let name = names.find(|name| is_free(name));
        let name = name.or_else(|| Some(written(&subject, NAME_CHARS_MAX)).filter(|name| is_free(name)))?;
        Some(Self { name, subject, role })
    }
}

/// As it may stand in the audit and in a log: nothing that is not seen, turns the line around or looks like markup.
fn written(name: &str, chars_max: usize) -> String {
    let is_kept = |c: char| c.is_alphanumeric() || "@.-_+' |:".contains(c);
    let kept = name.trim().chars().map(|c| if is_kept(c) { c } else { '_' });
    kept.take(chars_max).collect::<String>().trim().to_owned()
}

/// Whether this is the name of nobody else here.
fn is_free(name: &str) -> bool {
    !name.is_empty() && ![ROOT, audit::SELF].iter().any(|taken| taken.eq_ignore_ascii_case(name))
}

/// Why a provider has said nothing that is of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer.
    #[error("the provider does not answer: {0}")]
    Unreachable(String),
    /// It says no, or what it says does not hold.
    #[error("the provider's answer is of no use: {0}")]
    Refused(String),
}

/// Where browsers come back to, before the port is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// There, whatever the admin address is.
    Url(String),
    /// To the admin address itself.
    Address {
        /// "http" or "https".
        scheme: &'static str,
    },
}

impl Back {
    /// The address, once the admin address is known.
    pub(super) fn url(&self, admin: SocketAddr) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::Address { scheme } => format!("{scheme}://{admin}{CALLBACK}"),
        }
    }
}

/// Signing in, as the admin surface is given it.
pub struct SignIn {
    /// Who is asked.
    pub provider: Arc<dyn Provider>,
    /// Where browsers come back to.
    pub back: Back,
    /// How long a page session lives that is begun so.
    pub session: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_the_first_name_that_can_be_written_down() {
        let name =
            |names: &[&str], subject: &str| Person::named(names, subject, None).map(|person| person.name);
        for (names, subject, expected) in [
            (&["kim@example.org", "kim"][..], "17", Some("kim@example.org")),
            (&["  김 지수 "], "17", Some("김 지수")),
            (&["", " \t"], "17", Some("17")),
            (&["Root", "buslane"], "17", Some("17")),
            (&["root\u{200b}"], "17", Some("root_")),
            (&["<b>kim\n\u{202e}"], "17", Some("_b_kim__")),
            (&[], "root", None),
            (&[], "", None),
        ] {
            assert_eq!(name(names, subject).as_deref(), expected, "{names:?} {subject}");
        }
        let long = Person::named(&[&"x".repeat(1_000)], &"y".repeat(1_000), None).unwrap();
        assert_eq!((long.name.len(), long.subject.len()), (64, 255));
    }
}
