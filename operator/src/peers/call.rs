//! Asks another process at its admin address.
//!
//! Why it exists: every question has a limit in time and in bytes, and every failure is said in words that an operator understands. It
//! shows the token of the peers to the addresses of the configuration and to nobody else, and never writes it anywhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use buslane_chassis::admin::{Token, TokenError};
use buslane_chassis::tls::{self, TlsError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

/// How long an answer may take: an operator waits for it.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);

/// A connection that was not used for so long is not used again: the other side closes it after five seconds.
const IDLE: Duration = Duration::from_secs(3);

/// Largest answer: a day of samples.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why peers cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The token that they are shown cannot be used.
    #[error("peer_token: {0}")]
    Token(#[from] TokenError),
    /// The authority that their certificates are verified with cannot be used.
    #[error("peer_ca: {0}")]
    Authority(#[from] TlsError),
}

/// Why a peer did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no token to show.
    #[error("it cannot be asked: give `peer_token` under [console] a file with a token of the role operator")]
    NoToken,
    /// Nobody is there.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("it did not answer within {} ms", ANSWER_LIMIT.as_millis())]
    Late,
    /// It said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its stable name.
        code: String,
        /// In words.
        message: String,
    },
    /// It said something else than what it was asked.
    #[error("its answer is not understood; the versions do not fit")]
    Malformed,
}

/// The way to the peers.
pub struct Caller {
    way: ArcSwap<Way>,
    ca: Option<PathBuf>,
    /// What stood in that file.
    authority: Mutex<Vec<u8>>,
    token_file: Option<PathBuf>,
    token: ArcSwapOption<Token>,
}

/// In the open, or over TLS alone: a token that is meant for the one is never shown on the other.
enum Way {
    Open(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Way {
    fn open(ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(ANSWER_LIMIT));
        tcp.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let Some(ca) = ca else { return Ok(Self::Open(client.build(tcp))) };
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls::client_config(ca)?).https_only();
        Ok(Self::Tls(client.build(tls.enable_http1().wrap_connector(tcp))))
    }

    fn uri(&self, to: SocketAddr, path: &str) -> String {
        let scheme = if matches!(self, Self::Tls(_)) { "https" } else { "http" };
        format!("{scheme}://{to}{path}")
    }

    fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Self::Open(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<Why>,
}

#[derive(Deserialize)]
struct Why {
    code: String,
    message: String,
}

impl Caller {
    /// With the token in the one file, over TLS where the other has an authority.
    pub fn open(token_file: Option<&Path>, ca: Option<&Path>) -> Result<Self, OpenError> {
        let token = token_file.map(Token::load).transpose()?.map(Arc::new);
        Ok(Self {
            way: ArcSwap::from_pointee(Way::open(ca)?),
            ca: ca.map(Path::to_owned),
            authority: Mutex::new(ca.and_then(|ca| std::fs::read(ca).ok()).unwrap_or_default()),
            token_file: token_file.map(Path::to_owned),
            token: ArcSwapOption::from(token),
        })
    }

    /// Reads the authority of the peers' certificates again, and says whether it is another one. On an error everything stays as it is.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(ca) = &self.ca else { return Ok(false) };
        self.way.store(Arc::new(Way::open(Some(ca))?));
        let read = std::fs::read(ca).unwrap_or_default();
        let mut known = self.authority.lock();
        let is_other = *known != read;
        *known = read;
        Ok(is_other)
    }

    /// Asks, and takes the result out of the answer.
    pub async fn ask(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        let asking = async {
            let answer = self.send(to, method, path, body).await?;
            read(answer).await
        };
        let answered = tokio::time::timeout(ANSWER_LIMIT, asking).await.unwrap_or(Err(CallError::Late));
        if matches!(answered, Err(CallError::Refused { status: 401, .. })) {
            self.load_again().await;
        }
        answered
    }

    /// An answer that goes on, once it has begun: a stream.
    pub async fn pass_on(&self, to: SocketAddr, path: &str) -> Result<Response<Incoming>, CallError> {
        let sending = self.send(to, Method::GET, path, None);
        let answer = tokio::time::timeout(ANSWER_LIMIT, sending).await.unwrap_or(Err(CallError::Late))?;
        if answer.status() != StatusCode::OK {
            return Err(read(answer).await.err().unwrap_or(CallError::Malformed));
        }
        Ok(answer)
    }

    async fn send(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, CallError> {
        let token = self.token.load_full().ok_or(CallError::NoToken)?;
        let mut shown =
            HeaderValue::try_from(format!("Bearer {}", token.reveal())).map_err(|_| CallError::NoToken)?;
        shown.set_sensitive(true);
        let way = self.way.load_full();
        let request = Request::builder()
            .method(method)
            .uri(way.uri(to, path))
            .header(header::AUTHORIZATION, shown)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|_| CallError::Malformed)?;
        way.request(request).await.map_err(|error| CallError::Unreachable(root(&error)))
    }

    /// Tokens expire and are replaced in their file; no restart is needed for it.
    async fn load_again(&self) {
        let Some(path) = self.token_file.clone() else { return };
        let loaded = tokio::task::spawn_blocking(move || Token::load(&path)).await;
        if let Ok(Ok(token)) = loaded {
            self.token.store(Some(Arc::new(token)));
        }
    }
}

async fn read(answer: Response<Incoming>) -> Result<Value, CallError> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| CallError::Unreachable(error.to_string()))?.to_bytes();
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| CallError::Malformed)?;
    match (answer.result, answer.error) {
        (Some(result), _) if status.is_success() => Ok(result),
        (_, Some(why)) => {
            Err(CallError::Refused { status: status.as_u16(), code: why.code, message: why.message })
        }
        _ => Err(CallError::Malformed),
    }
}

/// What is at the bottom of an error: "connection refused" and not "client error".
fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
