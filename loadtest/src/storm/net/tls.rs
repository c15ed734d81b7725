//! TLS of the driver, made cheap: it measures a server that it has verified already.
//!
//! The first handshake with each certificate is checked in full: chain, name and signature. From then on the same certificate
//! under the same name is taken as it is, which saves the driver three signature checks for each login. One X25519 key serves
//! all handshakes of the process, which saves making one. Neither is fit for anything but a load generator: somebody on the
//! path who knows the certificate could pretend to be the server.
//!
//! It must never accept a certificate that was not checked in full once, nor change what the server has to do.

use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use anyhow::Context;
use aws_lc_rs::agreement::{self, PrivateKey, PublicKey, UnparsedPublicKey};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::{DigitallySignedStruct, Error, NamedGroup, PeerMisbehaved, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Certificates that are known again: one for each node of a system, and as many again when nodes come back with others.
const KNOWN_MAX: usize = 64;

/// Whom the driver trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    provider: Arc<CryptoProvider>,
    verifier: Arc<OnceVerifier>,
}

impl Trust {
    /// The authorities in a PEM file, and nobody else.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let pem = std::fs::read(path).with_context(|| {
            format!("the authority's certificate {shown} cannot be read; name the CA file of the server")
        })?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.with_context(|| format!("{shown} is not valid PEM"))?;
            roots.add(certificate).with_context(|| format!("{shown} holds an unusable certificate"))?;
        }
        anyhow::ensure!(!roots.is_empty(), "{shown} holds no certificate; it must be PEM");
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![&STANDING_KEY];
        let provider = Arc::new(provider);
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        Ok(Self { provider, verifier: Arc::new(OnceVerifier::new(inner)) })
    }

    /// What a connection with this protocol begins with.
    pub fn client(&self, alpn: &[u8]) -> anyhow::Result<Arc<QuicClientConfig>> {
        let mut tls = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(Arc::new(QuicClientConfig::try_from(tls)?))
    }
}

/// Checks each certificate in full once.
#[derive(Debug)]
struct OnceVerifier {
    inner: Arc<WebPkiServerVerifier>,
    /// Chain and name were checked.
    chains: RwLock<Vec<(CertificateDer<'static>, ServerName<'static>)>>,
    /// The server has proved that it holds the key.
    proved: RwLock<Vec<CertificateDer<'static>>>,
}

impl OnceVerifier {
    fn new(inner: Arc<WebPkiServerVerifier>) -> Self {
        Self { inner, chains: RwLock::default(), proved: RwLock::default() }
    }
}

impl ServerCertVerifier for OnceVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let known = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|(certificate, name)| certificate == end_entity && name == server_name) {
            return Ok(ServerCertVerified::assertion());
        }
        drop(known);
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let known = (end_entity.clone().into_owned(), server_name.to_owned());
        remember(&self.chains, known);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.proved.read().unwrap_or_else(PoisonError::into_inner).contains(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let verified = self.inner.verify_tls13_signature(message, certificate, signature)?;
        remember(&self.proved, certificate.clone().into_owned());
        Ok(verified)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The oldest gives way.
fn remember<T>(known: &RwLock<Vec<T>>, new: T) {
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN_MAX {
        known.remove(0);
    }
    known.push(new);
}

/// X25519 (RFC 7748) with one key for all handshakes of this process.
#[derive(Debug)]
struct StandingKey {
    pair: OnceLock<(PrivateKey, PublicKey)>,
}

static STANDING_KEY: StandingKey = StandingKey { pair: OnceLock::new() };

impl StandingKey {
    fn pair(&self) -> Result<&(PrivateKey, PublicKey), Error> {
        if let Some(pair) = self.pair.get() {
            return Ok(pair);
        }
        let failed = |_| Error::General("no X25519 key could be made".to_owned());
        let private = PrivateKey::generate(&agreement::X25519).map_err(failed)?;
        let public = private.compute_public_key().map_err(failed)?;
        Ok(self.pair.get_or_init(|| (private, public)))
    }
}

impl SupportedKxGroup for StandingKey {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let (private, public) = STANDING_KEY.pair()?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    private: &'static PrivateKey,
    public: &'static PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        let wrong = Error::from(PeerMisbehaved::InvalidKeyShare);
        agreement::agree(self.private, peer, wrong, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
