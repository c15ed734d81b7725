//! TLS on the admin address, with certificates that give rights and some that do not.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::{Authority, roots_from_pem};

/// Who vouches for operators.
struct Office {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

type Shown = Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>;

impl Office {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Office");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn vouch(&self, name: &str, unit: &str) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        Some((vec![certificate.der().clone()], key))
    }
}

struct Secure {
    world: World,
    authority: Authority,
    office: Office,
    tls: Arc<AdminTls>,
    folder: tempfile::TempDir,
}

fn write(folder: &Path, authority: &Authority) {
    let pem = authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("admin.pem"), pem.certificate).unwrap();
    crate::secret::write(&folder.join("admin.key"), pem.key.as_bytes()).unwrap();
}

async fn secure() -> Secure {
    let (authority, office) = (Authority::generate().unwrap(), Office::new());
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &authority);
    std::fs::write(folder.path().join("office.pem"), &office.pem).unwrap();
    let mut settings = tls::Settings {
        certificate: "admin.pem".into(),
        key: "admin.key".into(),
        client_ca: Some("office.pem".into()),
    };
    settings.relative_to(folder.path());
    let tls = AdminTls::load(settings).unwrap();
    let shown = Arc::clone(&tls);
    let world = world_with(|mut bound| {
        bound.serving.tls = Some(shown);
        bound
    })
    .await;
    Secure { world, authority, office, tls, folder }
}

impl Secure {
    /// Status, head and body; none where there was no connection.
    async fn ask(&self, shown: Shown, method: &str, path: &str, lines: &[&str]) -> Option<Answer> {
        let roots = roots_from_pem(self.authority.certificate()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let tcp = TcpStream::connect(self.world.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nContent-Length: 0\r\n{lines}\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // The server says goodbye to TCP, not always to TLS.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    async fn me(&self, shown: Shown) -> Option<(u16, String)> {
        self.ask(shown, "GET", "/v1/me", &[]).await.map(|answer| (answer.status, answer.body))
    }
}

#[tokio::test]
async fn a_certificate_gives_the_role_that_it_names_and_no_other() {
    let secure = secure().await;
    let said = |text: &str| Some((200, text.to_owned()));
    assert_eq!(secure.me(secure.office.vouch("kim", "operator")).await, said("kim operator"));
    assert_eq!(secure.me(secure.office.vouch("eve", "viewer")).await, said("eve viewer"));
    for (name, unit) in
        [("kim", "janitor"), ("kim", ""), ("root", "admin"), ("buslane", "admin"), ("", "admin")]
    {
        let (status, _) = secure.me(secure.office.vouch(name, unit)).await.unwrap();
        assert_eq!(status, 401, "{name} {unit}");
    }
    let (eve, kim) = (secure.office.vouch("eve", "viewer"), secure.office.vouch("kim", "operator"));
    assert_eq!(secure.ask(eve, "POST", "/v1/echo", &[]).await.unwrap().code(), "forbidden");
    let foreign = secure.ask(kim, "POST", "/v1/echo", &["Origin: https://evil.example"]).await.unwrap();
    assert_eq!(foreign.code(), "foreign_origin", "a browser shows a certificate by itself");
    secure.world.end().await;
}

#[tokio::test]
async fn who_shows_no_certificate_shows_a_token_and_a_forged_one_is_refused() {
    let secure = secure().await;
    assert_eq!(secure.me(None).await.unwrap().0, 401);
    let root = bearer(secure.world.token.reveal());
    let me = secure.ask(None, "GET", "/v1/me", &[&root]).await.unwrap();
    assert_eq!((me.status, me.body.as_str()), (200, "root admin"));
    assert_eq!(secure.me(Office::new().vouch("kim", "admin")).await, None, "of another authority");
    let login = secure.ask(None, "POST", "/v1/login", &["Content-Type: application/json"]).await.unwrap();
    assert_eq!(login.status, 400);
    let out = secure.ask(None, "POST", "/v1/logout", &[]).await.unwrap();
    assert!(out.header("set-cookie").unwrap().ends_with("; secure"), "{}", out.head);
    secure.world.end().await;
}

#[tokio::test]
async fn certificates_are_read_again_and_a_wrong_file_changes_nothing() {
    let mut secure = secure().await;
    let before = Authority::generate().unwrap();
    let before = std::mem::replace(&mut secure.authority, before);
    assert_eq!(secure.me(None).await, None, "the new authority did not sign the old certificate");
    write(secure.folder.path(), &secure.authority);
    secure.tls.reload().unwrap();
    assert_eq!(secure.me(None).await.unwrap().0, 401);
    secure.authority = before;
    assert_eq!(secure.me(None).await, None);
    std::fs::write(secure.folder.path().join("admin.pem"), "nothing").unwrap();
    assert!(secure.tls.reload().unwrap_err().to_string().contains("admin.pem"));
    secure.world.end().await;
}

#[tokio::test]
async fn whoever_speaks_no_tls_or_nothing_at_all_holds_up_nobody() {
    let secure = secure().await;
    let silent = TcpStream::connect(secure.world.addr).await.unwrap();
    let mut plain = TcpStream::connect(secure.world.addr).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    assert_eq!(secure.me(None).await.unwrap().0, 401);
    drop(silent);
    secure.world.end().await;
}

#[tokio::test]
async fn with_another_authority_the_right_of_a_certificate_ends_on_open_connections_too() {
    let secure = secure().await;
    let roots = roots_from_pem(secure.authority.certificate()).unwrap();
    let (chain, key) = secure.office.vouch("kim", "viewer").unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let tcp = TcpStream::connect(secure.world.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut open = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    open.write_all(b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut begin = [0; 15];
    open.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    assert!(!secure.tls.reload().unwrap(), "the same authority again changes nothing");
    assert_eq!(secure.world.streams.load(Ordering::SeqCst), 1);
    std::fs::write(secure.folder.path().join("office.pem"), Office::new().pem).unwrap();
    assert!(secure.tls.reload().unwrap());
    until("the stream has ended", || secure.world.streams.load(Ordering::SeqCst) == 0).await;
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
    secure.world.end().await;
}
