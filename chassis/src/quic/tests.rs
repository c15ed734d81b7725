//! Endpoints as strangers and friends meet them.

use buslane_shared::limits::{ALPN_GATE, ALPN_SESSION};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError};

use super::*;
use crate::tls::{Authority, roots_from_pem};

struct Pair {
    server: Endpoint,
    client: Endpoint,
    config: ClientConfig,
}

const ANY: &str = "127.0.0.1:0";

fn identity(authority: &Authority) -> Identity {
    let pem = authority.issue("localhost", &[]).unwrap();
    Identity::from_pem(&pem.certificate, &pem.key).unwrap()
}

/// A server that speaks the session protocol, and a client that offers `alpn`.
fn pair(tuning: Tuning, alpn: &[&[u8]]) -> Pair {
    let authority = Authority::generate().unwrap();
    let server = server_endpoint(ANY.parse().unwrap(), &identity(&authority), ALPN_SESSION, tuning).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots_from_pem(authority.certificate()).unwrap())
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let client = Endpoint::client(ANY.parse().unwrap()).unwrap();
    Pair { server, client, config }
}

impl Pair {
    /// Both ends of a connection.
    async fn connect(&self) -> (Connection, Connection) {
        let (server, client) = tokio::join!(async { self.server.accept().await.unwrap().await }, self.dial());
        (server.unwrap(), client.unwrap())
    }

    async fn dial(&self) -> Result<Connection, ConnectionError> {
        let addr = self.server.local_addr().unwrap();
        self.client.connect_with(self.config.clone(), addr, "localhost").unwrap().await
    }
}

fn session() -> Tuning {
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
    let again = pair.client.connect_with(pair.config.clone(), addr, "localhost").unwrap();
    assert!(again.into_0rtt().is_err());
}

#[tokio::test]
async fn a_taken_port_is_told_apart() {
    let taken = std::net::UdpSocket::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap();
    let identity = identity(&Authority::generate().unwrap());
    let error = server_endpoint(addr, &identity, ALPN_SESSION, session()).unwrap_err();
    assert!(error.is_port_taken(), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot listen on {addr} (UDP): ")), "{error}");
}
