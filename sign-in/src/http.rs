//! Asks the provider: HTTP within bounds of time and size.
//!
//! Why it exists: a person waits for the answer, and the provider may be slow, gone or somebody else. Codes and secrets go over TLS, or to this machine
//! itself. It must never follow a redirection: what is sent goes where the provider's own document says, or nowhere.

use std::path::Path;
use std::time::Duration;

use buslane_chassis::admin::sign_in::is_private;
use buslane_chassis::tls::{self, TlsError};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use tokio::time::timeout;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Largest answer: the keys and the document of a large provider have some 10 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0} is not https: nothing is sent there")]
    Open(String),
    #[error("no answer within {} s", LIMIT.as_secs())]
    Late,
    #[error("{0}")]
    Broken(String),
    #[error("status {0}")]
    Failing(u16),
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
}

/// The way to the provider.
pub(crate) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Http {
    /// Believes the public authorities, or this one alone.
    pub(crate) fn open(ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(LIMIT));
        let tls = HttpsConnectorBuilder::new();
        let tls = match ca {
            Some(ca) => tls.with_tls_config(tls::client_config(ca)?),
            None => tls.with_webpki_roots(),
        };
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        // Sign-ins are rare: a connection that was kept would be closed by the other side.
        Ok(Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri();
        if !is_private(uri) {
            return Err(HttpError::Open(uri.authority().map(ToString::to_string).unwrap_or_default()));
        }
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let asking = async {
            let answer = self.0.request(request).await.map_err(|error| HttpError::Broken(cause(&error)))?;
            // What it says then is no answer to what was asked, whatever it looks like.
            if answer.status().is_server_error() {
                return Err(HttpError::Failing(answer.status().as_u16()));
            }
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| match error.downcast::<http_body_util::LengthLimitError>() {
                Ok(_) => HttpError::TooLong,
                Err(error) => HttpError::Broken(cause(error.as_ref())),
            })?;
            Ok(HttpResponse::from_parts(parts, body.to_bytes().to_vec()))
        };
        timeout(LIMIT, asking).await.unwrap_or(Err(HttpError::Late))
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        self.ask(request).boxed()
    }
}

/// The innermost reason.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}
