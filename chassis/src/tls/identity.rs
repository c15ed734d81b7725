//! The certificate of this process, replaceable while connections are alive.
//!
//! Why it exists: certificates expire, and a session manager with half a million sessions is not restarted for that. A
//! handshake takes the certificate that is current when it happens; connections that exist are not touched. A reload that
//! fails keeps the old certificate: it must never leave the process without one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientCertVerifierBuilder, ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig, SignatureScheme, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, certificates, provider, read};
use crate::secret;

/// A certificate chain and its key. Clones are the same identity: a reload is seen by all of them.
#[derive(Debug, Clone)]
pub struct Identity {
    source: Option<Arc<Source>>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Source {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Current(ArcSwap<Loaded>);

#[derive(Debug)]
struct Loaded {
    certified: Arc<CertifiedKey>,
    /// Made from the private key; see [`Identity::derive`].
    root: hmac::Key,
}

impl Identity {
    /// From a PEM file with the chain (the process's own certificate first) and one with the key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let source = Source { certificate: certificate.to_owned(), key: key.to_owned() };
        let current = Arc::new(Current(ArcSwap::new(source.read()?)));
        Ok(Self { source: Some(Arc::new(source)), current })
    }

    /// From PEM texts. Such an identity has nothing to reload.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let certified = certified(certificate, "the certificate", key, "its key")?;
        Ok(Self { source: None, current: Arc::new(Current(ArcSwap::new(certified))) })
    }

    /// Reads the files again. From now on handshakes use what is in them. On an error everything stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        if let Some(source) = &self.source {
            self.current.0.store(source.read()?);
        }
        Ok(())
    }

    /// The certificate itself in DER, without its chain: what others see of it.
    pub fn leaf(&self) -> Option<Vec<u8>> {
        self.current.0.load().certified.cert.first().map(|leaf| leaf.to_vec())
    }

    /// Unix seconds at which the certificate ends; `None` if it does not say so in a way that can be read.
    pub fn expires_unix_s(&self) -> Option<i64> {
        let current = self.current.0.load();
        let (_, leaf) = X509Certificate::from_der(current.certified.cert.first()?).ok()?;
        Some(leaf.validity().not_after.timestamp())
    }

    /// A secret that only this key's holder knows and that is the same after a restart, for one purpose (`label`) and place.
    pub(crate) fn derive(&self, label: &[u8], place: u16) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.current.0.load().root);
        context.update(b"buslane derived secret v1\0");
        context.update(label);
        context.update(&place.to_be_bytes());
        let tag = context.sign();
        // An HMAC-SHA256 has 32 bytes.
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// For a server that clients without certificates use. A client that offers none of `alpn` is refused.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(quick_first(&provider()))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|e| TlsError::invalid("the TLS configuration", e))?
            .with_no_client_auth();
        let mut config = tuned(builder.with_cert_resolver(self.current.clone()), alpn);
        config.ignore_client_order = true;
        Ok(config)
    }

    /// For a server that only serves peers with a certificate of `roots`.
    pub(crate) fn mutual_server_config(
        &self,
        roots: Arc<RootCertStore>,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, TlsError> {
        self.verifying_server_config(WebPkiClientVerifier::builder_with_provider(roots, provider()), alpn)
    }

    /// For a server that takes clients without a certificate, and those with one of `roots`; one of anybody else is refused.
    pub(crate) fn asking_server_config(
        &self,
        roots: Arc<RootCertStore>,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        self.verifying_server_config(verifier.allow_unauthenticated(), alpn)
    }

    fn verifying_server_config(
        &self,
        verifier: ClientCertVerifierBuilder,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, TlsError> {
        let verifier = verifier.build().map_err(|e| TlsError::invalid("the CA", e))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|e| TlsError::invalid("the TLS configuration", e))?
            .with_client_cert_verifier(verifier);
        Ok(tuned(builder.with_cert_resolver(self.current.clone()), alpn))
    }

    /// For a client that shows its own certificate.
    pub(crate) fn mutual_client_config(
        &self,
        roots: Arc<RootCertStore>,
        alpn: &[&[u8]],
    ) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|e| TlsError::invalid("the TLS configuration", e))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(self.current.clone());
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }
}

/// The same provider with the cheapest suite first. A handshake over QUIC derives some thirty keys, and processors have
/// instructions for SHA-256 that most of them lack for SHA-384: see docs/decisions/0013-the-suite-of-a-handshake.md.
fn quick_first(provider: &CryptoProvider) -> Arc<CryptoProvider> {
    let mut provider = provider.clone();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// Resumption is off: it saves nothing measurable against a P-256 handshake, and costs memory and a replay surface.
fn tuned(mut config: ServerConfig, alpn: &[&[u8]]) -> ServerConfig {
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Source {
    fn read(&self) -> Result<Arc<Loaded>, TlsError> {
        const REMEDY: &str =
            "`buslane config init` makes the files of all roles; check the path in the configuration";
        let certificate = read("certificate file", &self.certificate, REMEDY)?;
        let key = read("key file", &self.key, REMEDY)?;
        if secret::is_exposed(&self.key).unwrap_or(false) {
            tracing::warn!(path = %self.key.display(), "the key file is readable by others: chmod 600 it");
        }
        certified(
            &certificate,
            &format!("certificate file {}", self.certificate.display()),
            &key,
            &format!("key file {}", self.key.display()),
        )
    }
}

fn certified(
    certificate: &str,
    certificate_what: &str,
    key: &str,
    key_what: &str,
) -> Result<Arc<Loaded>, TlsError> {
    let chain = certificates(certificate, certificate_what)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|e| TlsError::invalid(key_what, format!("there is no private key in it as PEM: {e}")))?;
    let root = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| {
        TlsError::invalid(certificate_what, format!("it and {key_what} do not fit together: {e}"))
    })?;
    Ok(Arc::new(Loaded { certified: Arc::new(certified), root }))
}

/// The DNS names that a certificate is for; none, if it cannot be read.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    alternative_names(certificate, |name| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    })
}

/// The DNS names and addresses that a certificate is for, as text.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    alternative_names(certificate, |name| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => ip_text(bytes),
        _ => None,
    })
}

fn alternative_names(
    certificate: &CertificateDer<'_>,
    pick: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let Ok((_, leaf)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    match leaf.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(pick).collect(),
        _ => Vec::new(),
    }
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}
