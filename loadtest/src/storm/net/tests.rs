//! Connections to a server of this process: what it sees of a driver, and what the driver hears.

use std::path::PathBuf;

use super::*;

struct Server {
    endpoint: quinn::Endpoint,
    folder: PathBuf,
}

impl Server {
    /// On loopback, with a certificate of its own for `name`.
    fn start(name: &str) -> (Self, Target) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN_SESSION.to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let folder = std::env::temp_dir().join(format!("buslane-net-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, made.cert.pem()).unwrap();
        let gate = endpoint.local_addr().unwrap().to_string();
        (Self { endpoint, folder }, Target { gate, ca })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_server_sees_addresses_and_marks_and_shares_a_secret() {
    let (server, target) = Server::start("manager-1");
    let net = Net::new(&target, 3).unwrap();
    let mut sources = std::collections::HashSet::new();
    for from in 0..4usize {
        let mark = [from as u8; 20];
        let connect = net.connect(from, Protocol::Session, &target.gate, "manager-1", Some(&mark), LIMIT);
        let accept = async {
            let incoming = server.endpoint.accept().await.unwrap();
            assert_eq!(incoming.orig_dst_cid().as_ref(), mark);
            incoming.await.unwrap()
        };
        let (connection, accepted) = tokio::join!(connect, accept);
        let (mut ours, mut theirs) = ([0; 32], [0; 32]);
        connection.unwrap().export_keying_material(&mut ours, b"x", b"").unwrap();
        accepted.export_keying_material(&mut theirs, b"x", b"").unwrap();
        assert_eq!(ours, theirs);
        sources.insert(accepted.remote_address().ip());
    }
    assert_eq!(sources.len(), 3, "the fourth has the address of the first: {sources:?}");
    assert!(sources.iter().all(|ip| ip.is_loopback()));
}

#[tokio::test]
async fn a_certificate_is_checked_the_first_time() {
    let (server, target) = Server::start("manager-1");
    let (_stranger, other) = Server::start("manager-1");
    tokio::spawn({
        let endpoint = server.endpoint.clone();
        async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move { incoming.await.map(|c| async move { c.closed().await }) });
            }
        }
    });
    let net = Net::new(&target, 1).unwrap();
    let connect = async |net: &Net, name| {
        net.connect(0, Protocol::Session, &target.gate, name, None, LIMIT).await.map(|_| ())
    };
    assert_eq!(connect(&net, "manager-1").await, Ok(()));
    assert_eq!(connect(&net, "manager-1").await, Ok(()));
    let wrong = Err(Turned::Failed("transport_error"));
    assert_eq!(connect(&net, "manager-2").await, wrong, "known, but not under this name");
    let trusts_another = Net::new(&Target { gate: target.gate.clone(), ca: other.ca }, 1).unwrap();
    assert_eq!(connect(&trusts_another, "manager-1").await, wrong);
}

#[tokio::test]
async fn silence_and_refusals_are_told_apart() {
    let (server, target) = Server::start("manager-1");
    let net = Net::new(&target, 1).unwrap();
    let connect = |limit| net.connect(0, Protocol::Session, &target.gate, "manager-1", None, limit);
    let silent = connect(Duration::from_millis(50)).await.map(|_| ());
    assert_eq!(silent, Err(Turned::Silence));
    let refuse = async {
        loop {
            server.endpoint.accept().await.unwrap().refuse();
        }
    };
    let refused = tokio::select! {
        refused = connect(LIMIT) => refused.map(|_| ()),
        () = refuse => Ok(()),
    };
    assert_eq!(refused, Err(Turned::Failed("connection_refused")));
    let short = net.connect(0, Protocol::Session, &target.gate, "manager-1", Some(&[1; 3]), LIMIT).await;
    assert_eq!(short.map(|_| ()), Err(Turned::Failed("not_a_mark")));
}

#[test]
fn a_missing_authority_says_what_to_do() {
    let target = Target { gate: "127.0.0.1:1".into(), ca: "/nowhere/ca.pem".into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async { format!("{:#}", Net::new(&target, 1).unwrap_err()) });
    assert!(error.contains("/nowhere/ca.pem") && error.contains("name the CA file"), "{error}");
}
