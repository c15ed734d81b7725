//! TLS on the admin address, and operators who show a certificate: `[admin_tls]` in the configuration file.
//!
//! Why it exists: beyond loopback a token must not travel in clear text, and where people have certificates of their own nobody hands out tokens. The
//! role is the organizational unit (OU) of a client's certificate, its name the common name (CN). A certificate without a role of ours gives no right:
//! those of the system's own roles never do. It must never take a certificate that its authority did not sign.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use garde::Validate;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::lease::Lease;
use super::principal::{How, Principal, ROOT, Role};
use crate::audit;
use crate::tls::{self, Identity, TlsError};

/// The only protocol that is spoken here.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Longest common name that is taken as a name.
const NAME_CHARS_MAX: usize = 64;

/// Settings: `[admin_tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// PEM file with the certificate chain. Paths are relative to the configuration file.
    #[garde(custom(is_named))]
    pub certificate: PathBuf,
    /// PEM file with its key.
    #[garde(custom(is_named))]
    pub key: PathBuf,
    /// PEM file with the authority of operators' certificates, where they have any. Whoever shows none may still show a token.
    #[serde(default)]
    #[garde(inner(custom(is_named)))]
    pub client_ca: Option<PathBuf>,
}

impl Settings {
    /// Makes the paths relative to the folder of the configuration file.
    pub fn relative_to(&mut self, folder: &Path) {
        let paths = [Some(&mut self.certificate), Some(&mut self.key), self.client_ca.as_mut()];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

fn is_named(path: &Path, (): &()) -> garde::Result {
    if path.as_os_str().is_empty() {
        Err(garde::Error::new("is empty: write the path of a PEM file"))
    } else {
        Ok(())
    }
}

/// What the admin address shows and whom it believes; replaceable while it listens.
#[derive(Debug)]
pub struct AdminTls {
    settings: Settings,
    current: ArcSwap<Current>,
}

/// What holds until it is read again.
#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    leaf: Option<Vec<u8>>,
    /// The authority of operators' certificates.
    authority: Option<Arc<RootCertStore>>,
    /// Cancelled when that authority is another one: what was believed because of it is believed no longer.
    believed: CancellationToken,
}

impl AdminTls {
    /// Reads the files.
    pub fn load(settings: Settings) -> Result<Arc<Self>, TlsError> {
        let current = ArcSwap::from_pointee(read(&settings)?);
        Ok(Arc::new(Self { settings, current }))
    }

    /// Reads the files again. New connections use what is in them; on an error everything stays as it is. Where the authority of
    /// operators' certificates is another one, connections with a certificate end, and come back if it is believed still. Says
    /// whether anything is another than before.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut next = read(&self.settings)?;
        let before = self.current.load_full();
        let roots = |current: &Current| current.authority.as_ref().map(|authority| authority.roots.clone());
        let is_other = roots(&next) != roots(&before);
        if !is_other {
            next.believed = before.believed.clone();
        }
        let changes = is_other || next.leaf != before.leaf;
        self.current.store(Arc::new(next));
        if is_other {
            before.believed.cancel();
        }
        Ok(changes)
    }

    /// What a new connection is accepted with, and what ends the right of its certificate.
    pub(super) fn acceptor(&self) -> (TlsAcceptor, CancellationToken) {
        let current = self.current.load();
        (TlsAcceptor::from(Arc::clone(&current.config)), current.believed.clone())
    }
}

fn read(settings: &Settings) -> Result<Current, TlsError> {
    let identity = Identity::load(&settings.certificate, &settings.key)?;
    let (config, authority) = match &settings.client_ca {
        Some(ca) => {
            let roots = Arc::new(tls::roots(ca)?);
            (identity.asking_server_config(Arc::clone(&roots), ALPN)?, Some(roots))
        }
        None => (identity.server_config(ALPN)?, None),
    };
    Ok(Current {
        leaf: identity.leaf(),
        config: Arc::new(config),
        authority,
        believed: CancellationToken::new(),
    })
}

/// The right that a verified certificate gives, as long as its authority is believed.
pub(super) fn right_of(certificate: &CertificateDer<'_>, believed: &CancellationToken) -> Option<Lease> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let mut units = subject.iter_organizational_unit().filter_map(|unit| unit.as_str().ok());
    let role = units.find_map(Role::named)?;
    let name = subject.iter_common_name().next()?.as_str().ok()?.trim();
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && !name.chars().any(char::is_control)
        && ![ROOT, audit::SELF].contains(&name);
    if !is_name {
        return None;
    }
    let end_s = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(Lease {
        principal: Principal { name: name.to_owned(), role, how: How::Certificate },
        alive: believed.clone(),
        expires_ms: Some(end_s.saturating_mul(1_000)),
        csrf: None,
    })
}
