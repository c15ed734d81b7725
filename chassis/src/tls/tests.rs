//! Certificates of our own making, from the first start to their renewal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::*;

/// The certificate that a client with `roots` sees when it asks for `name`, or why it refuses.
fn meet(identity: &Identity, roots: RootCertStore, name: &str) -> Result<Vec<u8>, rustls::Error> {
    Ok(shake_hands(identity, roots, name)?.peer_certificates().unwrap()[0].to_vec())
}

fn shake_hands(
    identity: &Identity,
    roots: RootCertStore,
    name: &str,
) -> Result<ClientConnection, rustls::Error> {
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = Arc::new(identity.server_config(&[]).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(client)
}

#[test]
fn a_handshake_takes_the_cheapest_suite_whatever_the_client_prefers() {
    let authority = Authority::generate().unwrap();
    let pem = authority.issue("localhost", &hosts()).unwrap();
    let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
    let client = shake_hands(&identity, trust(&authority), "localhost").unwrap();
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
}

fn trust(authority: &Authority) -> RootCertStore {
    roots_from_pem(authority.certificate()).unwrap()
}

fn hosts() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec()
}

#[test]
fn a_missing_ca_file_says_what_to_do() {
    let message = roots(Path::new("/nowhere/ca.pem")).unwrap_err().to_string();
    assert_eq!(
        message,
        "CA file /nowhere/ca.pem not found: start `buslane up` first, or pass the system's CA with --ca"
    );
}

#[test]
fn files_that_hold_something_else_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, "hello").unwrap();
    let message = roots(&path).unwrap_err().to_string();
    assert!(message.contains("ca.pem is not usable: there is no PEM block"), "{message}");
    let Pem { certificate, .. } = Authority::generate().unwrap().issue("localhost", &[]).unwrap();
    fs::write(&path, &certificate).unwrap();
    let message = Identity::load(&path, &path).unwrap_err().to_string();
    assert!(message.contains("ca.pem is not usable: there is no private key"), "{message}");
    assert!(matches!(Identity::load(&folder.path().join("no.pem"), &path), Err(TlsError::NotFound { .. })));
}

#[test]
fn a_certificate_and_the_key_of_another_are_refused() {
    let authority = Authority::generate().unwrap();
    let one = authority.issue("localhost", &[]).unwrap();
    let two = authority.issue("localhost", &[]).unwrap();
    let message = Identity::from_pem(&one.certificate, &two.key).unwrap_err().to_string();
    assert!(message.contains("do not fit together"), "{message}");
}

#[test]
fn an_issued_certificate_is_believed_for_its_names_only() {
    let authority = Authority::generate().unwrap();
    let pem = authority.issue("node-1.example", &hosts()).unwrap();
    let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
    for name in ["node-1.example", "localhost", "127.0.0.1", "::1"] {
        meet(&identity, trust(&authority), name).unwrap();
    }
    for name in ["node-2.example", "127.0.0.2"] {
        assert!(meet(&identity, trust(&authority), name).is_err(), "{name}");
    }
    let other = Authority::generate().unwrap();
    assert!(meet(&identity, trust(&other), "localhost").is_err());
}

#[test]
fn the_folder_is_made_once_private_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls");
    let first = Authority::load_or_generate(&tls).unwrap();
    let identity = first.identity(&tls, "node", "localhost", &hosts()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&tls), 0o700);
    for file in ["ca.pem", "ca.key", "node.pem", "node.key"] {
        assert_eq!(mode(&tls.join(file)), 0o600, "{file}");
    }

    let second = Authority::load_or_generate(&tls).unwrap();
    assert_eq!(first.certificate(), second.certificate());
    let again = second.identity(&tls, "node", "localhost", &hosts()).unwrap();
    let seen = meet(&identity, trust(&second), "localhost").unwrap();
    assert_eq!(seen, meet(&again, trust(&first), "localhost").unwrap());

    // What the loaded authority issues is believed by whoever has its file.
    let wider = [hosts(), vec!["chat.example".to_owned()]].concat();
    let renamed = second.identity(&tls, "node", "localhost", &wider).unwrap();
    let renewed = meet(&renamed, roots(&tls.join("ca.pem")).unwrap(), "chat.example").unwrap();
    assert_ne!(seen, renewed, "a new name needs a new certificate");
}

#[test]
fn a_certificate_of_another_authority_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let old = Authority::generate().unwrap();
    old.identity(folder.path(), "node", "localhost", &[]).unwrap();
    let new = Authority::load_or_generate(folder.path()).unwrap();
    let identity = new.identity(folder.path(), "node", "localhost", &[]).unwrap();
    meet(&identity, trust(&new), "localhost").unwrap();
}

#[test]
fn a_certificate_near_its_end_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_generate(folder.path()).unwrap();
    const DAY_S: u64 = 24 * 3600;
    let short = authority.issue_for("localhost", &[], Duration::from_secs(29 * DAY_S)).unwrap();
    fs::write(folder.path().join("node.pem"), &short.certificate).unwrap();
    fs::write(folder.path().join("node.key"), &short.key).unwrap();
    let identity = authority.identity(folder.path(), "node", "localhost", &[]).unwrap();
    let now = UnixTime::now().as_secs() as i64;
    assert!(identity.expires_unix_s().unwrap() > now + 364 * DAY_S as i64);
}

#[test]
fn half_an_authority_is_an_error_and_not_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    Authority::load_or_generate(folder.path()).unwrap();
    fs::remove_file(folder.path().join("ca.key")).unwrap();
    let error = Authority::load_or_generate(folder.path()).err().unwrap();
    assert!(error.to_string().contains("ca.key not found"), "{error}");

    let elsewhere = tempfile::tempdir().unwrap();
    Authority::load_or_generate(elsewhere.path()).unwrap();
    fs::copy(elsewhere.path().join("ca.key"), folder.path().join("ca.key")).unwrap();
    let error = Authority::load_or_generate(folder.path()).err().unwrap();
    assert!(error.to_string().contains("is the key of another CA"), "{error}");
}

#[test]
fn a_reload_is_seen_by_new_handshakes_and_a_failed_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("node.pem"), folder.path().join("node.key"));
    let authority = Authority::generate().unwrap();
    let write = |pem: &Pem| {
        fs::write(&certificate, &pem.certificate).unwrap();
        fs::write(&key, &pem.key).unwrap();
    };
    write(&authority.issue("localhost", &[]).unwrap());
    let identity = Identity::load(&certificate, &key).unwrap();
    let clone = identity.clone();
    let first = meet(&clone, trust(&authority), "localhost").unwrap();

    write(&authority.issue("localhost", &[]).unwrap());
    assert_eq!(first, meet(&clone, trust(&authority), "localhost").unwrap());
    identity.reload().unwrap();
    let second = meet(&clone, trust(&authority), "localhost").unwrap();
    assert_ne!(first, second);

    fs::write(&key, "nothing").unwrap();
    assert!(identity.reload().is_err());
    assert_eq!(second, meet(&clone, trust(&authority), "localhost").unwrap());
}

#[test]
fn a_certificate_speaks_for_the_roles_that_it_names() {
    let authority = Authority::generate().unwrap();
    let roles = |name: &str, sans: &[String]| {
        let pem = authority.issue(name, sans).unwrap();
        Role::of_certificate(&certificates(&pem.certificate, "test").unwrap()[0])
    };
    assert_eq!(roles("gateway.buslane.internal", &hosts()), [Role::Gateway]);
    let both = roles("localhost", &["backend.buslane.internal".into(), "gateway.buslane.internal".into()]);
    assert_eq!(both, [Role::Gateway, Role::Backend]);
    assert_eq!(roles("localhost", &hosts()), []);
    assert_eq!(roles("xgateway.buslane.internal", &[]), []);
    assert_eq!(Role::of_certificate(&CertificateDer::from(vec![1, 2, 3])), []);
}
