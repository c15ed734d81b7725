//! The public keys of the identity provider: loaded from a file or a URL, kept, and replaced when the provider rotates.
//!
//! Why it exists: checking a token must not wait for the provider, and the provider must not feel how many strangers
//! knock here. One task owns all loading, so there is one fetch at a time by construction; a token with an unknown key
//! asks that task and waits a moment. When loading fails, the last good keys stay. It must never accept a key whose use or
//! algorithm is not on the list, and never a key set that came over a connection that others can write to.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Largest key set that is read: dozens of RSA keys with their certificate chains.
const JWKS_BYTES_MAX: usize = 256 * 1024;

/// Keys of a set that are kept: providers publish two or three, and a token without a key id never tries more than one.
const KEYS_MAX: usize = 64;

/// Longest fetch. It is shorter than the limit of a request, so that who waits for it still gets a typed answer.
const FETCH_LIMIT: Duration = Duration::from_secs(3);

/// After a failed load the next try comes this soon, or at the configured interval if that is shorter.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Why a key set could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The file cannot be read.
    #[error(
        "the key set {path} cannot be read: {source}; write the provider's JWKS there or correct jwks_file"
    )]
    File {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The URL is not one from which keys may be fetched.
    #[error("jwks_url {url} is not usable: {why}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The certificates for the URL are not usable.
    #[error("jwks_ca is not usable: {0}")]
    Ca(String),
    /// The fetch failed.
    #[error("fetching the key set failed: {0}")]
    Fetch(String),
    /// What was loaded is not a key set.
    #[error("what was loaded is not a JSON Web Key Set: {0}")]
    Format(String),
    /// It holds no key that may be used.
    #[error("the key set holds no signing key of RS256, ES256 or EdDSA")]
    NoKey,
}

/// A key of the provider, with the one algorithm that it is used with.
#[derive(Clone)]
pub struct ProviderKey {
    id: Option<String>,
    /// The algorithm. A token that names another one is refused, whatever its key could do.
    pub algorithm: Algorithm,
    /// The public key.
    pub key: DecodingKey,
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMiss {
    /// The keys are fresh and this one is not among them.
    Unknown,
    /// The keys cannot be loaded now, or were loaded so recently that this token causes no fetch; after this time it may
    /// be different.
    Later(Duration),
}

/// How the last load ended.
type Outcome = Result<(), KeyMiss>;

/// The provider's keys as every request sees them.
pub struct Jwks {
    keys: ArcSwap<Vec<Arc<ProviderKey>>>,
    wanted: Notify,
    loads: watch::Receiver<Outcome>,
}

impl Jwks {
    /// The key that a token names, or the only one of a set if it names none. Loads the keys again if it is not there.
    pub async fn key(&self, id: Option<&str>) -> Result<Arc<ProviderKey>, KeyMiss> {
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        let mut loads = self.loads.clone();
        loads.borrow_and_update();
        // A load may have ended between the first look and the line above; whatever ends from here on is noticed.
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        self.wanted.notify_one();
        let ended = timeout(FETCH_LIMIT, loads.changed()).await;
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        match ended {
            Ok(Ok(())) => Err(loads.borrow().err().unwrap_or(KeyMiss::Unknown)),
            _ => Err(KeyMiss::Later(FETCH_LIMIT)),
        }
    }

    fn known(&self, id: Option<&str>) -> Option<Arc<ProviderKey>> {
        let keys = self.keys.load();
        match id {
            Some(_) => keys.iter().find(|k| k.id.as_deref() == id).cloned(),
            None => match keys.as_slice() {
                [only] => Some(Arc::clone(only)),
                _ => None,
            },
        }
    }
}

/// Where the keys come from.
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url(Box<Fetcher>),
}

/// Fetches from one URL.
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: Uri,
}

impl Source {
    /// A URL, trusting the public certificate authorities or only those in `ca`.
    pub fn url(url: &str, ca: Option<&Path>) -> Result<Self, JwksError> {
        let refused = |why| JwksError::Url { url: url.to_owned(), why };
        let parsed: Uri = url.parse().map_err(|_| refused("it is not a URL"))?;
        let host = parsed.host().ok_or_else(|| refused("it names no host"))?;
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match parsed.scheme_str() {
            Some("https") => {}
            Some("http") if loopback => {}
            _ => return Err(refused("use https (http is accepted for a loopback address only)")),
        }
        let builder = HttpsConnectorBuilder::new();
        let builder = match ca {
            Some(path) => builder.with_tls_config(tls_config(path)?),
            None => builder
                .with_provider_and_webpki_roots(rustls::crypto::aws_lc_rs::default_provider())
                .map_err(|e| JwksError::Ca(e.to_string()))?,
        };
        let connector = builder.https_or_http().enable_http1().build();
        // No idle connections: the next fetch is minutes away.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self::Url(Box::new(Fetcher { client, url: parsed })))
    }

    async fn load(&self) -> Result<Vec<Arc<ProviderKey>>, JwksError> {
        let bytes = match self {
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                read.map_err(|e| JwksError::Fetch(e.to_string()))??
            }
            Self::Url(fetcher) => timeout(FETCH_LIMIT, fetcher.fetch())
                .await
                .map_err(|_| JwksError::Fetch(format!("no answer within {FETCH_LIMIT:?}")))??,
        };
        parse(&bytes)
    }
}

fn read_file(path: &Path) -> Result<Bytes, JwksError> {
    let failed = |source| JwksError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(JwksError::Format(format!("the file has more than {JWKS_BYTES_MAX} bytes")));
    }
    Ok(bytes.into())
}

/// Trusts the authorities in `ca`, and nobody else.
fn tls_config(ca: &Path) -> Result<rustls::ClientConfig, JwksError> {
    let roots = buslane_chassis::tls::roots(ca).map_err(|e| JwksError::Ca(e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| JwksError::Ca(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl Fetcher {
    async fn fetch(&self) -> Result<Bytes, JwksError> {
        let answer = self.client.get(self.url.clone()).await.map_err(|e| JwksError::Fetch(chain(&e)))?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(JwksError::Fetch(format!("the provider answered {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), JWKS_BYTES_MAX).collect().await;
        Ok(body.map_err(|e| JwksError::Fetch(e.to_string()))?.to_bytes())
    }
}

/// The whole chain of causes: hyper's own message is only "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The usable keys of a set. One that is not usable (of another kind, or damaged) does not spoil the others.
fn parse(bytes: &[u8]) -> Result<Vec<Arc<ProviderKey>>, JwksError> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|e| JwksError::Format(e.to_string()))?;
    let keys: Vec<_> = set
        .keys
        .into_iter()
        .filter_map(|key| usable(&serde_json::from_value(key).ok()?))
        .take(KEYS_MAX)
        .map(Arc::new)
        .collect();
    if keys.is_empty() { Err(JwksError::NoKey) } else { Ok(keys) }
}

/// The key, if it is for signatures and of an allowed algorithm. The algorithm follows from the kind of key, never from a
/// token. A shared secret is never usable: whoever can read it could make tokens.
fn usable(jwk: &Jwk) -> Option<ProviderKey> {
    if matches!(&jwk.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    if matches!(jwk.common.key_algorithm, Some(named) if named != KeyAlgorithm::from(algorithm)) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(ProviderKey { id: jwk.common.key_id.clone(), algorithm, key })
}

/// The task that owns all loading.
pub struct Refresher {
    jwks: Arc<Jwks>,
    source: Source,
    loads: watch::Sender<Outcome>,
    refresh: Duration,
    refetch: Duration,
}

/// The keys and the task that loads them. A file is read at once, so that a wrong path is noticed at start; a provider
/// that is away at start is no reason not to start.
pub fn keys(
    source: Source,
    refresh: Duration,
    refetch: Duration,
) -> Result<(Arc<Jwks>, Refresher), JwksError> {
    let first = match &source {
        Source::File(path) => parse(&read_file(path)?)?,
        Source::Url(_) => Vec::new(),
    };
    let (sender, loads) = watch::channel(Ok(()));
    let jwks = Arc::new(Jwks { keys: ArcSwap::from_pointee(first), wanted: Notify::new(), loads });
    let refresher = Refresher { jwks: Arc::clone(&jwks), source, loads: sender, refresh, refetch };
    Ok((jwks, refresher))
}

impl Refresher {
    /// Loads now, at every interval, and when a token needs it, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut loaded_at: Option<Instant> = None;
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
                () = self.jwks.wanted.notified() => {
                    let allowed_at = loaded_at.map_or(due, |at| at + self.refetch);
                    let wait = allowed_at.saturating_duration_since(Instant::now());
                    if !wait.is_zero() {
                        self.announce(Err(KeyMiss::Later(wait)));
                        continue;
                    }
                }
            }
            loaded_at = Some(Instant::now());
            let loaded = tokio::select! {
                () = stop.cancelled() => return,
                loaded = self.source.load() => loaded,
            };
            due = Instant::now() + self.on_loaded(loaded);
        }
    }

    /// Takes over what was loaded; returns after what time to load again.
    fn on_loaded(&self, loaded: Result<Vec<Arc<ProviderKey>>, JwksError>) -> Duration {
        let result = if loaded.is_ok() { "ok" } else { "failed" };
        metrics::counter!("buslane_gateway_jwks_loads_total", "result" => result).increment(1);
        match loaded {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "loaded the identity provider's keys");
                self.jwks.keys.store(Arc::new(keys));
                self.announce(Ok(()));
                self.refresh
            }
            Err(error) => {
                tracing::warn!(%error, "the identity provider's keys cannot be loaded; the last ones stay");
                let again = RETRY_AFTER_FAILURE.min(self.refresh);
                self.announce(Err(KeyMiss::Later(self.refetch.min(again))));
                again
            }
        }
    }

    fn announce(&self, outcome: Outcome) {
        // The value before this one interests nobody.
        let _ = self.loads.send_replace(outcome);
    }
}

#[cfg(test)]
mod tests;
