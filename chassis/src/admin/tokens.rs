//! Tokens that were made for somebody: a name, a role, perhaps an end.
//!
//! Why it exists: the token of the folder belongs to the machine. A person or a script gets one of its own, so that the audit says who it was and one
//! can be taken back without the others. Only hashes are kept, in `tokens.json` of the folder (0600). A token that is made or taken back is recorded first;
//! one that is taken back holds no longer, at once and also where nothing can be recorded or written any more. A file that is damaged is put aside: it must never let
//! anybody in. One that cannot be read now is read again when a token is shown, and is not written over before.

mod again;
mod file;
mod routes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use buslane_shared::UnixMs;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use super::principal::{How, Principal, ROOT, Role};
use super::secrets::{self, Hash};
use crate::audit::{self, Audit, AuditError, Entry};
use crate::clock;

pub(super) use routes::routes;

/// Tokens at a time: more of them nobody keeps in mind.
const TOKENS_MAX: usize = 256;

/// Longest name.
const NAME_CHARS_MAX: usize = 64;

/// Longest reason.
const REASON_CHARS_MAX: usize = 500;

/// Longest life of a token that ends: ten years.
const LIFE_S_MAX: u64 = 3_650 * 24 * 3_600;

/// So that a token is known as one wherever it is found.
const PREFIX: &str = "buslane_";

/// What somebody wants a token for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenWish {
    /// Whose it is: the author of what is done with it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// For how long; otherwise until it is taken back.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Who, where the token of the folder is shown.
    #[serde(default)]
    pub author: String,
}

/// A token as it is shown: never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Which.
    pub id: String,
    /// Whose.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub made_ms: UnixMs,
    /// By whom.
    pub made_by: String,
    /// When it ends by itself.
    pub expires_ms: Option<UnixMs>,
}

/// A token that was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The secret: shown this once.
    pub token: String,
    /// The rest.
    #[serde(flatten)]
    pub view: TokenView,
}

/// A token that was taken back.
#[derive(Debug, Serialize)]
pub struct Revoked {
    /// Which.
    pub revoked: TokenView,
    /// Why it would hold again after a restart, if so.
    pub not_kept: Option<String>,
    /// Why the audit has nothing of it, if so.
    pub not_recorded: Option<String>,
}

/// Why a token was not made or taken back.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// Not a name.
    #[error(
        "the name of a token has 1 to {NAME_CHARS_MAX} printable characters and is neither `{ROOT}` nor `{}`: choose another",
        audit::SELF
    )]
    Name,
    /// Somebody else's.
    #[error("there is a token of that name: choose another name, or take that one back first")]
    Taken,
    /// Not a time.
    #[error(
        "a token lives 1 second to 10 years: give another time, or none for one that is taken back by hand"
    )]
    Life,
    /// No reason, or not one line.
    #[error("say why, in one line of at most {REASON_CHARS_MAX} characters (`reason`)")]
    Reason,
    /// Too many.
    #[error("there are {TOKENS_MAX} tokens: take back those that nobody needs")]
    TooMany,
    /// Not there.
    #[error("there is no such token: it was taken back or has ended")]
    Unknown,
    /// Nothing is done that is not recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Those that are there are not known.
    #[error("the file of the tokens cannot be read: {0}; see to the disk, and try again")]
    Unreadable(String),
    /// It would not survive.
    #[error("the token was not made, its file cannot be written: {0}; see to the disk")]
    Unwritable(String),
}

impl TokensError {
    /// Its stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name => "token_name",
            Self::Taken => "token_name_taken",
            Self::Life => "token_life",
            Self::Reason => "no_reason",
            Self::TooMany => "too_many_tokens",
            Self::Unknown => "no_such_token",
            Self::Audit(_) => "audit_unwritable",
            Self::Unreadable(_) => "tokens_unreadable",
            Self::Unwritable(_) => "tokens_unwritable",
        }
    }
}

/// All of them.
pub struct Tokens {
    path: PathBuf,
    audit: Arc<Audit>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    live: Mutex<BTreeMap<String, Live>>,
    /// When reading the file was tried last, while it could not be read; none: it was read.
    unread: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Live {
    view: TokenView,
    hash: Hash,
    alive: CancellationToken,
}

impl Tokens {
    /// The tokens of a folder.
    pub fn open(folder: &Path, audit: Arc<Audit>) -> Arc<Self> {
        let path = folder.join("tokens.json");
        let (live, unread) = match file::read(&path) {
            Ok(live) => (live, None),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the tokens cannot be read now: none of them holds until they can be");
                (BTreeMap::new(), Some(Instant::now()))
            }
        };
        let (live, unread) = (Mutex::new(live), Mutex::new(unread));
        Arc::new(Self { path, audit, turn: tokio::sync::Mutex::default(), live, unread })
    }

    pub(super) fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// Those that hold.
    pub fn list(&self) -> Vec<TokenView> {
        let now_ms = clock::unix_ms();
        self.live.lock().values().filter(|live| live.holds(now_ms)).map(|live| live.view.clone()).collect()
    }

    /// The right of whoever shows this.
    pub(super) fn find(self: &Arc<Self>, shown: &str, now_ms: UnixMs) -> Option<Lease> {
        let (id, _) = shown.strip_prefix(PREFIX)?.split_once('_')?;
        self.hurry();
        let live = self.live.lock().get(id)?.clone();
        let is_it: bool = live.hash.ct_eq(&secrets::hash(shown)).into();
        (is_it && live.holds(now_ms)).then(|| live.lease())
    }

    /// Makes a token. To be run in a task of its own: dropped half-way it may have been recorded and not made.
    pub async fn make(self: &Arc<Self>, wish: TokenWish, author: String) -> Result<Made, TokensError> {
        let _turn = self.turn.lock().await;
        self.known().await?;
        let now_ms = clock::unix_ms();
        let token = format!("{PREFIX}{}_{}", hex::encode(clock::random::<6>()), secrets::random());
        let live = self.plan(&wish, &author, &token, now_ms)?;
        let view = live.view.clone();
        self.record("token.make", author, wish.reason, Value::Null, json!(view)).await?;
        let mut next = self.live.lock().clone();
        next.retain(|_, live| live.holds(now_ms));
        next.insert(view.id.clone(), live);
        if let Some(why) = self.keep(&next).await {
            return Err(TokensError::Unwritable(why));
        }
        *self.live.lock() = next;
        Ok(Made { token, view })
    }

    /// Takes a token back. What was begun with it (page sessions, streams) ends. It is recorded first; where that cannot be, it is taken back
    /// all the same: a disk that is full must not keep a stolen token alive.
    pub async fn revoke(
        self: &Arc<Self>,
        id: &str,
        reason: String,
        author: String,
    ) -> Result<Revoked, TokensError> {
        let _turn = self.turn.lock().await;
        self.known().await?;
        checked(&reason)?;
        let known = self.live.lock().get(id).cloned();
        let revoked = known.filter(|live| live.holds(clock::unix_ms())).ok_or(TokensError::Unknown)?.view;
        let recorded = self.record("token.revoke", author.clone(), reason, json!(revoked), Value::Null).await;
        let not_recorded = recorded.err().map(|error| error.to_string());
        if let Some(why) = &not_recorded {
            tracing::error!(id, ?author, why, "a token was taken back, and the audit has nothing of it");
        }
        let next = {
            let mut live = self.live.lock();
            if let Some(gone) = live.remove(id) {
                gone.alive.cancel();
            }
            live.clone()
        };
        let not_kept = self.keep(&next).await;
        Ok(Revoked { revoked, not_kept, not_recorded })
    }

    fn plan(&self, wish: &TokenWish, author: &str, token: &str, now_ms: UnixMs) -> Result<Live, TokensError> {
        let name = wish.name.trim();
        let is_name = (1..=NAME_CHARS_MAX).contains(&name.chars().count())
            && !name.chars().any(char::is_control)
            && ![ROOT, audit::SELF].contains(&name);
        if !is_name {
            return Err(TokensError::Name);
        }
        checked(&wish.reason)?;
        if wish.expires_in_s.is_some_and(|life_s| !(1..=LIFE_S_MAX).contains(&life_s)) {
            return Err(TokensError::Life);
        }
        let live = self.live.lock();
        let mut others = live.values().filter(|live| live.holds(now_ms));
        if others.clone().count() >= TOKENS_MAX {
            return Err(TokensError::TooMany);
        }
        if others.any(|live| live.view.name == name) {
            return Err(TokensError::Taken);
        }
        let id = token.split('_').nth(1).unwrap_or_default().to_owned();
        let view = TokenView {
            id,
            name: name.to_owned(),
            role: wish.role,
            made_ms: now_ms,
            made_by: author.to_owned(),
            expires_ms: wish.expires_in_s.map(|life_s| now_ms.saturating_add(life_s * 1_000)),
        };
        Ok(Live { view, hash: secrets::hash(token), alive: CancellationToken::new() })
    }

    async fn record(
        &self,
        action: &str,
        author: String,
        reason: String,
        before: Value,
        after: Value,
    ) -> Result<(), TokensError> {
        let entry = Entry { author, action: action.to_owned(), reason, before, after };
        self.audit.record(entry).await?;
        Ok(())
    }

    /// Writes the file; why that could not be, if so.
    async fn keep(&self, next: &BTreeMap<String, Live>) -> Option<String> {
        let (path, next) = (self.path.clone(), next.clone());
        let written = tokio::task::spawn_blocking(move || file::write(&path, &next)).await;
        let why = match written {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(path = %self.path.display(), why, "the tokens were not written");
        Some(why)
    }
}

impl Live {
    fn holds(&self, now_ms: UnixMs) -> bool {
        self.view.expires_ms.is_none_or(|end| now_ms < end)
    }

    fn lease(self) -> Lease {
        let TokenView { id, name, role, expires_ms, .. } = self.view;
        let principal = Principal { name, role, how: How::Token { id } };
        Lease { principal, alive: self.alive, expires_ms, csrf: None }
    }
}

fn checked(reason: &str) -> Result<(), TokensError> {
    let is_reason = (1..=REASON_CHARS_MAX).contains(&reason.trim().chars().count())
        && !reason.chars().any(char::is_control);
    if is_reason { Ok(()) } else { Err(TokensError::Reason) }
}

#[cfg(test)]
mod tests;
