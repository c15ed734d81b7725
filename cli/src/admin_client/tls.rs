//! TLS to an admin surface that has it: whom the client believes, and the certificate that it may show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use buslane_chassis::tls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Address, unreachable};
use crate::failure::{Exit, Failure};
use crate::process::explain_tls;

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone)]
pub struct Own {
    /// The chain, the client's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Makes the handshake.
pub async fn wrap(
    tcp: TcpStream,
    to: &Address,
    ca: &Path,
    own: Option<&Own>,
) -> Result<TlsStream<TcpStream>, Failure> {
    tls::install_provider();
    let config = config(tls::roots(ca).map_err(|e| explain_tls(&e))?, own)?;
    let name = ServerName::try_from(to.host.clone())
        .map_err(|_| Failure::usage(format!("{} is no name that a certificate can have", to.host)))?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| {
        let remedy = "check --admin, and with --ca name the authority that made its certificate";
        unreachable(format!("no TLS with the admin address {to}: {e}; {remedy}"))
    })
}

fn config(roots: RootCertStore, own: Option<&Own>) -> Result<ClientConfig, Failure> {
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let Some(own) = own else { return Ok(builder.with_no_client_auth()) };
    let wrong = |path: &Path, why: String| {
        Failure::new(Exit::Keys, "bad_certificate", format!("{}: {why}", path.display()))
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&own.certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|e| wrong(&own.certificate, format!("it holds no certificate as PEM: {e}")))?;
    let key = PrivateKeyDer::from_pem_file(&own.key)
        .map_err(|e| wrong(&own.key, format!("it holds no key as PEM: {e}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| wrong(&own.certificate, format!("it and the key do not fit together: {e}")))
}
