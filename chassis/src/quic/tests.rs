//! Endpoints as strangers and friends meet them.

use buslane_shared::limits::{ALPN_GATE, ALPN_SESSION};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError};

use super::*;
use crate::tls::{Authority, roots_from_pem};

struct Pair {
    server: Endpoint,
    client: Endpoint,
}

pub(super) const ANY: &str = "127.0.0.1:0";

pub(super) fn identity(authority: &Authority) -> Identity {
    let pem = authority.issue("localhost", &[]).unwrap();
    Identity::from_pem(&pem.certificate, &pem.key).unwrap()
}

/// A server that speaks the session protocol, and a client that offers `alpn`.
fn pair(tuning: Tuning, alpn: &[&[u8]]) -> Pair {
    let authority = Authority::generate().unwrap();
    let server = server_endpoint(ANY.parse().unwrap(), &identity(&authority), ALPN_SESSION, tuning).unwrap();
    Pair { server, client: client_offering(&authority, alpn) }
}

/// A client of the session protocol.
pub(super) fn client(authority: &Authority) -> Endpoint {
    client_offering(authority, &[ALPN_SESSION])
}

pub(super) fn client_config(authority: &Authority, alpn: &[&[u8]]) -> ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots_from_pem(authority.certificate()).unwrap())
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

fn client_offering(authority: &Authority, alpn: &[&[u8]]) -> Endpoint {
    let mut client = Endpoint::client(ANY.parse().unwrap()).unwrap();
    client.set_default_client_config(client_config(authority, alpn));
    client
}

impl Pair {
    /// Both ends of a connection.
    async fn connect(&self) -> (Connection, Connection) {
        let (server, client) = tokio::join!(async { self.server.accept().await.unwrap().await }, self.dial());
        (server.unwrap(), client.unwrap())
    }

    async fn dial(&self) -> Result<Connection, ConnectionError> {
        let addr = self.server.local_addr().unwrap();
        self.client.connect(addr, "localhost").unwrap().await
    }
}

pub(super) fn session() -> Tuning {
    Tuning::session(Duration::from_secs(120), 3)
}

#[tokio::test]
async fn another_protocol_or_none_is_refused_in_the_handshake() {
    for alpn in [&[ALPN_GATE][..], &[]] {
        let pair = pair(session(), alpn);
        let accepting = async {
            let incoming = pair.server.accept().await.unwrap();
            assert!(incoming.await.is_err());
        };
        let ((), refused) = tokio::join!(accepting, pair.dial());
        let Err(ConnectionError::ConnectionClosed(close)) = refused else { panic!("{refused:?}") };
        // CRYPTO_ERROR with TLS alert 120, no_application_protocol (RFC 9001, 8.1).
        assert_eq!(u64::from(close.error_code), 0x100 + 120);
    }
}

#[tokio::test]
async fn both_ends_export_the_same_secret_and_every_connection_another() {
    let pair = pair(session(), &[ALPN_SESSION]);
    let (server, client) = pair.connect().await;
    let label = buslane_shared::proof::SESSION_EXPORTER;
    let secret = exporter(&server, label).unwrap();
    assert_eq!(Some(secret), exporter(&client, label));
    assert_ne!(Some(secret), exporter(&client, buslane_shared::proof::GATE_EXPORTER));
    let (_server, again) = pair.connect().await;
    assert_ne!(Some(secret), exporter(&again, label));
}

#[tokio::test]
async fn a_stranger_has_one_stream_and_16_kib_until_he_is_trusted() {
    let tuning = session();
    let pair = pair(tuning, &[ALPN_SESSION]);
    let (server, client) = pair.connect().await;
    let (mut send, _recv) = client.open_bi().await.unwrap();
    let moment = Duration::from_millis(200);
    assert!(tokio::time::timeout(moment, client.open_bi()).await.is_err(), "a second stream was granted");
    assert!(client.max_datagram_size().is_none());

    // Nothing is read by the server: what can be written is what it is ready to hold.
    let mut written = 0;
    while let Ok(n) = tokio::time::timeout(moment, send.write(&[0; 4096])).await {
        written += n.unwrap();
    }
    assert_eq!(written, tuning.stranger.receive_bytes as usize);

    tuning.trust(&server);
    let soon = Duration::from_secs(5);
    for _ in 0..3 {
        tokio::time::timeout(soon, client.open_bi()).await.expect("a bulk stream").unwrap();
    }
    while written < tuning.stream_receive_window as usize {
        written += tokio::time::timeout(soon, send.write(&[0; 4096])).await.expect("more window").unwrap();
    }
    assert!(tokio::time::timeout(moment, client.open_uni()).await.is_err(), "nobody needs these");
}

#[tokio::test]
async fn a_connection_from_which_nothing_comes_is_dropped() {
    let pair = pair(Tuning::session(Duration::from_millis(300), 0), &[ALPN_SESSION]);
    let (server, _client) = pair.connect().await;
    let end = tokio::time::timeout(Duration::from_secs(10), server.closed()).await.unwrap();
    assert_eq!(end, ConnectionError::TimedOut);
}

#[tokio::test]
async fn a_client_cannot_resume_because_no_tickets_are_given() {
    let pair = pair(session(), &[ALPN_SESSION]);
    let (_server, _client) = pair.connect().await;
    let addr = pair.server.local_addr().unwrap();
    let again = pair.client.connect(addr, "localhost").unwrap();
    assert!(again.into_0rtt().is_err());
}

#[tokio::test]
async fn a_taken_port_is_told_apart() {
    let taken = UdpSocket::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap();
    let identity = identity(&Authority::generate().unwrap());
    let error = server_endpoint(addr, &identity, ALPN_SESSION, session()).unwrap_err();
    assert!(error.is_port_taken(), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot listen on {addr} (UDP): ")), "{error}");
}

#[tokio::test]
async fn a_client_learns_at_once_that_its_server_was_restarted() {
    let authority = Authority::generate().unwrap();
    let identity = identity(&authority);
    // The first server lives on a runtime of its own and dies with it, without a word to its clients.
    let (addr_out, addr) = std::sync::mpsc::channel();
    let (die, dying) = tokio::sync::oneshot::channel::<()>();
    let mortal = identity.clone();
    let first = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let left = runtime.block_on(async {
            let server = server_endpoint(ANY.parse().unwrap(), &mortal, ALPN_SESSION, session()).unwrap();
            addr_out.send(server.local_addr().unwrap()).unwrap();
            let connection = server.accept().await.unwrap().await.unwrap();
            dying.await.unwrap();
            (server, connection)
        });
        // As in a killed process, nothing is sent any more: what sends is gone before the connection is.
        drop(runtime);
        drop(left);
    });
    let addr = addr.recv().unwrap();
    let client = client(&authority);
    let connection = client.connect(addr, "localhost").unwrap().await.unwrap();
    die.send(()).unwrap();
    first.join().unwrap();
    let _second = server_endpoint(addr, &identity, ALPN_SESSION, session()).unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(b"are you there?").await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), connection.closed()).await.unwrap();
    assert_eq!(end, ConnectionError::Reset);
}

#[test]
fn secrets_of_an_endpoint_belong_to_its_key_and_its_port() {
    let authority = Authority::generate().unwrap();
    let (one, two) = (identity(&authority), identity(&authority));
    let secret = one.derive(b"a", 7401);
    assert_eq!(secret, one.clone().derive(b"a", 7401));
    for other in [one.derive(b"a", 7402), one.derive(b"b", 7401), two.derive(b"a", 7401)] {
        assert_ne!(secret, other);
    }
}
