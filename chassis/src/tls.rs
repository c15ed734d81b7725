//! TLS: one crypto provider, who this process is, whom it believes, and the certificates of a system that makes its own.
//!
//! Why it exists: QUIC, gRPC and the clients of both take their certificates from here, so that a certificate is renewed
//! in one place and a wrong path gives one good message. It must never accept a peer that it cannot verify: there is no
//! switch to turn verification off.

mod authority;
mod identity;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub use authority::{Authority, Pem};
pub use identity::Identity;

/// Why a certificate or a key cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there.
    #[error("{what} {} not found: {remedy}", path.display())]
    NotFound {
        /// What the file is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// A file is there and cannot be read.
    #[error("{what} {} cannot be read: {error}", path.display())]
    Unreadable {
        /// What the file is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file cannot be written.
    #[error("{what} {} cannot be written: {error}", path.display())]
    Unwritable {
        /// What the file is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The content is not what it should be.
    #[error("{what} is not usable: {reason}")]
    Invalid {
        /// What it is, with its path where it has one.
        what: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl TlsError {
    fn invalid(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid { what: what.into(), reason: reason.to_string() }
    }
}

/// The roles that call each other. A role proves itself by a certificate of the system's own authority that carries the
/// role's name; see [`Role::server_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The front door.
    Gateway,
    /// Keeper of sessions.
    SessionManager,
    /// Order, durability, delivery.
    Backend,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::SessionManager, Self::Backend];

    /// The name in the role's certificate. The domain is reserved for private use, so that no public authority ever
    /// vouches for it.
    pub fn server_name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway.buslane.internal",
            Self::SessionManager => "session-manager.buslane.internal",
            Self::Backend => "backend.buslane.internal",
        }
    }

    /// The roles that a certificate speaks for: none, if it is an ordinary one.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Vec<Self> {
        let names = identity::dns_names(certificate);
        Self::ALL.into_iter().filter(|role| names.iter().any(|name| name == role.server_name())).collect()
    }
}

/// Who this process is towards other roles, and whom it believes.
#[derive(Debug, Clone)]
pub struct Mtls {
    /// The certificate of this process; it names the role.
    pub identity: Identity,
    /// The authority that made the certificates of all roles.
    pub roots: Arc<RootCertStore>,
}

impl Mtls {
    /// From the files that `config init` writes.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, TlsError> {
        Ok(Self { identity: Identity::load(certificate, key)?, roots: Arc::new(roots(ca)?) })
    }
}

/// Makes aws-lc-rs the provider of this process. First thing in `main`; doing it twice changes nothing.
pub fn install_provider() {
    // An error means that there is one already, and there is only one kind in this program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The provider, for configurations that are built by hand.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// For a client that believes the authorities in a PEM file, and shows no certificate of its own.
pub fn client_config(ca: &Path) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::invalid("the TLS configuration", e))?;
    Ok(builder.with_root_certificates(roots(ca)?).with_no_client_auth())
}

/// The authorities in a PEM file, for verifying a server.
pub fn roots(ca: &Path) -> Result<RootCertStore, TlsError> {
    let pem = read("CA file", ca, "start `buslane up` first, or pass the system's CA with --ca")?;
    roots_from_pem(&pem).map_err(|e| match e {
        TlsError::Invalid { reason, .. } => TlsError::invalid(format!("CA file {}", ca.display()), reason),
        other => other,
    })
}

/// The authorities in a PEM text.
pub fn roots_from_pem(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "the CA")? {
        store.add(certificate).map_err(|e| TlsError::invalid("the CA", e))?;
    }
    Ok(store)
}

fn read(what: &'static str, path: &Path, remedy: &'static str) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TlsError::NotFound { what, path: path.to_owned(), remedy },
        _ => TlsError::Unreadable { what, path: path.to_owned(), error },
    })
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(TlsError::invalid(what, "there is no PEM block `BEGIN CERTIFICATE` in it")),
        Err(e) => Err(TlsError::invalid(what, format!("it is not PEM: {e}"))),
    }
}

#[cfg(test)]
mod tests;
