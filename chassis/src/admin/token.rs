//! The operator's token: where it lies, how it is compared, and what guessing costs.
//!
//! Why it exists: whoever has the token may make codes, copy the data and rotate keys. The token is 256 random bits, so
//! guessing is hopeless; the limit is there so that trying is also quiet and cheap for us. It must never be logged.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::secret;

/// Shortest token that is accepted from a file: 128 bits in hexadecimal.
const TOKEN_CHARS_MIN: usize = 32;

/// Wrong tokens that are looked at within [`WINDOW`]; then nobody without the right one is answered for the rest of it. A
/// person who mistypes has tries enough; a script gets one answer a second.
const FAILURES_MAX: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("token file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds something that can be guessed.
    #[error(
        "token file {}: a token has at least {TOKEN_CHARS_MIN} printable characters; remove the file and a good one is made",
        .0.display()
    )]
    Weak(PathBuf),
}

/// The secret that operators show.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// From its file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let file = |error| TokenError::File { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let text = text.trim();
        if text.len() < TOKEN_CHARS_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::Weak(path.to_owned()));
        }
        if secret::is_exposed(path).map_err(file)? {
            tracing::warn!(path = %path.display(), "the token file is readable by others: chmod 600 it");
        }
        Ok(Self(text.into()))
    }

    /// From its file, which is made on first use (0600).
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let made = format!("{}\n", hex::encode(crate::clock::random::<32>()));
        match secret::create(path, made.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(TokenError::File { path: path.to_owned(), error })
            }
            _ => Self::load(path),
        }
    }

    /// The token itself, for the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Compares tokens and counts failures.
pub(super) struct Guard {
    token: Token,
    failures: Mutex<Failures>,
}

struct Failures {
    since: Instant,
    count: u32,
}

impl Guard {
    pub(super) fn new(token: Token) -> Self {
        Self { token, failures: Mutex::new(Failures { since: Instant::now(), count: 0 }) }
    }

    /// Counts a failure; the seconds to wait if there were too many.
    fn on_failure(&self, now: Instant) -> Option<u64> {
        let mut failures = self.failures.lock();
        let passed = now.duration_since(failures.since);
        if passed >= WINDOW {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        (failures.count > FAILURES_MAX).then(|| WINDOW.saturating_sub(passed).as_secs().max(1))
    }
}

/// Lets a request through that shows the token. The right token always passes, whatever others have tried.
pub(super) async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(bearer);
    if shown.is_some_and(|shown| guard.token.is(shown)) {
        request.extensions_mut().insert(super::Principal::root());
        return next.run(request).await;
    }
    if let Some(wait_s) = guard.on_failure(Instant::now()) {
        metrics::counter!("buslane_admin_refused_total", "why" => "rate_limited").increment(1);
        let mut answer = super::error(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many wrong tokens; wait and use the right one",
        );
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        return answer;
    }
    metrics::counter!("buslane_admin_refused_total", "why" => "bad_token").increment(1);
    let mut answer = super::error(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send `Authorization: Bearer <token>`; the token is in the file admin.token of the data folder",
    );
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}
