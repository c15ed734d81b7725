//! The system's own certificate authority: what makes `up` work without any set-up, and what `config init` hands out.
//!
//! Why it exists: clients and roles must verify each other from the first second, on a machine that has no name in the
//! DNS. The authority signs certificates for servers and roles of this system and for nothing else. Its key must never
//! leave its folder.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, TlsError, certificates, identity, read};
use crate::secret;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clients keep the CA file for years; renewing it means handing it out again.
const CA_LIFE: Duration = DAY.saturating_mul(3650);
/// A lost server key is worth at most this long.
const LEAF_LIFE: Duration = DAY.saturating_mul(365);
/// Renewed this long before its end, so that a system that starts once a month never serves an expired certificate.
const LEAF_RENEWAL: Duration = DAY.saturating_mul(30);
/// Certificates begin this long in the past: a phone's clock may be behind.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// A certificate (with its chain) and its private key, as PEM.
pub struct Pem {
    /// Certificate chain.
    pub certificate: String,
    /// Private key (PKCS #8). A secret.
    pub key: String,
}

/// A certificate authority whose key is at hand.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new authority.
    pub fn generate() -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        // Two systems on one machine must not have authorities of the same name: verification would pick either.
        let name = format!("Buslane {}", hex::encode(crate::clock::random::<4>()));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, CA_LIFE);
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(made)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The authority in `ca.pem` and `ca.key` of a folder.
    pub fn load(folder: &Path) -> Result<Self, TlsError> {
        const REMEDY: &str = "`buslane up` or `buslane config init` makes it";
        let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        let certificate = read("CA file", &certificate_path, REMEDY)?;
        let key = read("CA key file", &key_path, REMEDY)?;
        let key = KeyPair::from_pem(&key)
            .map_err(|e| TlsError::invalid(format!("CA key file {}", key_path.display()), e))?;
        let what = || format!("CA file {}", certificate_path.display());
        let first = certificates(&certificate, &what())?.into_iter().next();
        let first = first.ok_or_else(|| TlsError::invalid(what(), "it is empty"))?;
        let (_, parsed) = X509Certificate::from_der(&first).map_err(|e| TlsError::invalid(what(), e))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(TlsError::invalid(
                what(),
                format!("{} is the key of another CA", key_path.display()),
            ));
        }
        let issuer = Issuer::from_ca_cert_der(&first, key).map_err(|e| TlsError::invalid(what(), e))?;
        Ok(Self { issuer, certificate })
    }

    /// The authority of a folder, made on first use. A folder with only half of it is an error: a new CA would lock out
    /// every client that has the old one.
    pub fn load_or_generate(folder: &Path) -> Result<Self, TlsError> {
        let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if certificate_path.exists() || key_path.exists() {
            return Self::load(folder);
        }
        let authority = Self::generate()?;
        secret::folder(folder).map_err(|e| unwritable("certificate folder", folder, e))?;
        secret::create(&key_path, authority.issuer.key().serialize_pem().as_bytes())
            .map_err(|e| unwritable("CA key file", &key_path, e))?;
        secret::create(&certificate_path, authority.certificate.as_bytes())
            .map_err(|e| unwritable("CA file", &certificate_path, e))?;
        Ok(authority)
    }

    /// The authority's own certificate, as PEM: what clients and roles need to verify each other.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server or a role: `server_name` first, then the other names and addresses (`sans`) under which
    /// it is reached.
    pub fn issue(&self, server_name: &str, sans: &[String]) -> Result<Pem, TlsError> {
        self.issue_for(server_name, sans, LEAF_LIFE)
    }

    /// As [`Authority::issue`], for another time than the usual year.
    pub(super) fn issue_for(
        &self,
        server_name: &str,
        sans: &[String],
        life: Duration,
    ) -> Result<Pem, TlsError> {
        let mut params = CertificateParams::new(all_names(server_name, sans))
            .map_err(|e| TlsError::invalid(format!("a name of the certificate for {server_name}"), e))?;
        params.distinguished_name.push(DnType::CommonName, server_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, life);
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?.pem();
        Ok(Pem { certificate, key: key.serialize_pem() })
    }

    /// The identity in `<name>.pem` and `<name>.key` of a folder; issued where it is missing, nearly over, of another
    /// authority, or not for all of the names.
    pub fn identity(
        &self,
        folder: &Path,
        name: &str,
        server_name: &str,
        sans: &[String],
    ) -> Result<Identity, TlsError> {
        let (certificate_path, key_path) =
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        if !self.still_good(&certificate_path, &key_path, &all_names(server_name, sans)) {
            let pem = self.issue(server_name, sans)?;
            secret::folder(folder).map_err(|e| unwritable("certificate folder", folder, e))?;
            secret::write(&key_path, pem.key.as_bytes()).map_err(|e| unwritable("key file", &key_path, e))?;
            secret::write(&certificate_path, pem.certificate.as_bytes())
                .map_err(|e| unwritable("certificate file", &certificate_path, e))?;
        }
        Identity::load(&certificate_path, &key_path)
    }

    fn still_good(&self, certificate: &Path, key: &Path, wanted: &[String]) -> bool {
        let Ok(pem) = std::fs::read_to_string(certificate) else { return false };
        if Identity::load(certificate, key).is_err() {
            return false;
        }
        let (Ok(chain), Ok(own)) = (certificates(&pem, "leaf"), certificates(&self.certificate, "CA")) else {
            return false;
        };
        let (Some(leaf_der), Some(ca_der)) = (chain.first(), own.first()) else { return false };
        let (Ok((_, leaf)), Ok((_, ca))) =
            (X509Certificate::from_der(leaf_der), X509Certificate::from_der(ca_der))
        else {
            return false;
        };
        let left = leaf.validity().time_to_expiration().map(|d| d.unsigned_abs());
        let names = identity::names(leaf_der);
        leaf.issuer() == ca.subject()
            && left.is_some_and(|left| left > LEAF_RENEWAL)
            && wanted.iter().all(|w| names.contains(w))
    }
}

fn new_key() -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)
}

fn set_life(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
}

fn all_names(server_name: &str, sans: &[String]) -> Vec<String> {
    let mut names = vec![server_name.to_owned()];
    for san in sans {
        if !names.contains(san) {
            names.push(san.clone());
        }
    }
    names
}

fn made(error: rcgen::Error) -> TlsError {
    TlsError::invalid("a new certificate", error)
}

fn unwritable(what: &'static str, path: &Path, error: std::io::Error) -> TlsError {
    TlsError::Unwritable { what, path: path.to_owned(), error }
}
