//! The way out: one UDP socket for each address family, and what TLS and QUIC are told.
//!
//! Certificates are always checked against the given authority; there is no switch to turn that off. 0-RTT and session
//! resumption are off: they save nothing measurable here and 0-RTT data can be replayed.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::limits::{ALPN_GATE, ALPN_SESSION};
use buslane_shared::mark::MarkBytes;
use buslane_shared::put_off::PutOff;
use buslane_shared::refusal::Refusal;
use buslane_shared::wire;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionId, TransportErrorCode};
use rustls::client::Resumption;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::Error;
use crate::options::CaSource;

/// A handshake that takes longer than this is on a path that carries nothing.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// What a round trip is assumed to take before one was measured: a first packet that a starting server missed goes again
/// after three times this.
const INITIAL_RTT: Duration = Duration::from_millis(150);

/// How long an address of a name is tried alone.
const HEAD_START: Duration = Duration::from_millis(250);

/// Kernel buffers of a socket: a burst of answers to a full pipeline fits.
const SOCKET_BUFFER_BYTES: usize = 1024 * 1024;

/// Unread bytes of one stream: several batches, and little enough for a phone.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Above every server's own limit, also while it asks for patience, so that the server's decides.
const IDLE_LIMIT: Duration = Duration::from_secs(900);

/// Which of the two protocols a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `buslane-gate/1`
    Gate,
    /// `buslane/1`
    Session,
}

/// Opens connections. Cheap to clone; all clones share the sockets, so many clients of one process may share it.
#[derive(Debug, Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    gate: quinn::ClientConfig,
    session: quinn::ClientConfig,
    v4: Mutex<Option<quinn::Endpoint>>,
    v6: Mutex<Option<quinn::Endpoint>>,
}

impl Transport {
    /// A transport that trusts `ca`. Binds nothing yet.
    pub fn new(ca: &CaSource) -> Result<Self, Error> {
        let roots = roots(ca)?;
        Ok(Self {
            shared: Arc::new(Shared {
                gate: config(roots.clone(), ALPN_GATE)?,
                session: config(roots, ALPN_SESSION)?,
                v4: Mutex::new(None),
                v6: Mutex::new(None),
            }),
        })
    }

    /// Connects to `address` (`host:port`), whose certificate must be for `server_name`. The addresses of a name are tried
    /// in their order, each with a head start before the next one; the first that answers is taken (RFC 8305, section 5).
    pub async fn connect(
        &self,
        protocol: Protocol,
        address: &str,
        server_name: &str,
    ) -> Result<quinn::Connection, Error> {
        self.connect_with_mark(protocol, address, server_name, None).await
    }

    /// The same, and shows a mark (a pass or a slot) in the first packet. A mark serves one connection: of several addresses
    /// the first that takes it.
    pub async fn connect_with_mark(
        &self,
        protocol: Protocol,
        address: &str,
        server_name: &str,
        mark: Option<&[u8]>,
    ) -> Result<quinn::Connection, Error> {
        let config = self.config(protocol, mark)?;
        let resolved = tokio::net::lookup_host(address)
            .await
            .map_err(|e| Error::unreachable(format_args!("{address}: {e}")))?;
        let mut waiting: VecDeque<SocketAddr> = resolved.collect();
        let mut last = Error::unreachable(format_args!("{address} has no address"));
        let mut tries = FuturesUnordered::new();
        loop {
            if tries.is_empty() {
                let Some(addr) = waiting.pop_front() else { return Err(last) };
                tries.push(self.connect_one(&config, addr, server_name));
            }
            tokio::select! {
                Some(tried) = tries.next() => match tried {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error,
                },
                () = tokio::time::sleep(HEAD_START), if !waiting.is_empty() => {
                    tries.extend(waiting.pop_front().map(|addr| self.connect_one(&config, addr, server_name)));
                }
            }
        }
    }

    fn config(&self, protocol: Protocol, mark: Option<&[u8]>) -> Result<quinn::ClientConfig, Error> {
        let mut config = match protocol {
            Protocol::Gate => self.shared.gate.clone(),
            Protocol::Session => self.shared.session.clone(),
        };
        if let Some(mark) = mark {
            let mark: MarkBytes = mark.try_into().map_err(|_| Error::unreachable("not a pass or slot"))?;
            config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&mark)));
        }
        Ok(config)
    }

    async fn connect_one(
        &self,
        config: &quinn::ClientConfig,
        addr: SocketAddr,
        server_name: &str,
    ) -> Result<quinn::Connection, Error> {
        let connecting = self
            .endpoint(addr)?
            .connect_with(config.clone(), addr, server_name)
            .map_err(|e| Error::unreachable(format_args!("{addr}: {e}")))?;
        match tokio::time::timeout(HANDSHAKE_LIMIT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(match put_off(&error).unwrap_or_else(|| Error::from(error)) {
                Error::Unreachable { detail } => Error::unreachable(format_args!("{addr}: {detail}")),
                other => other,
            }),
            Err(_) => Err(Error::unreachable(format_args!("{addr}: no answer to the handshake"))),
        }
    }

    /// Moves all connections to new sockets: to be called when the device changed its network.
    pub fn rebind(&self) {
        for (slot, any) in [(&self.shared.v4, ANY_V4), (&self.shared.v6, ANY_V6)] {
            let endpoint = slot.lock().clone();
            if let Some(endpoint) = endpoint
                && let Err(error) = bind(any).and_then(|socket| endpoint.rebind(socket))
            {
                tracing::warn!(%error, "no new socket; the old one stays");
            }
        }
    }

    /// Waits until every connection is closed on the wire, at most `limit`.
    pub async fn settle(&self, limit: Duration) {
        for slot in [&self.shared.v4, &self.shared.v6] {
            let endpoint = slot.lock().clone();
            if let Some(endpoint) = endpoint {
                let _ = tokio::time::timeout(limit, endpoint.wait_idle()).await;
            }
        }
    }

    fn endpoint(&self, to: SocketAddr) -> Result<quinn::Endpoint, Error> {
        let (slot, any) = if to.is_ipv4() { (&self.shared.v4, ANY_V4) } else { (&self.shared.v6, ANY_V6) };
        let mut slot = slot.lock();
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let open = || {
            let runtime = Arc::new(quinn::TokioRuntime);
            quinn::Endpoint::new(quinn::EndpointConfig::default(), None, bind(any)?, runtime)
        };
        let endpoint = open().map_err(|e| Error::unreachable(format_args!("no UDP socket: {e}")))?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }
}

/// A server without capacity ends a connection before its handshake and says when to come back.
fn put_off(error: &quinn::ConnectionError) -> Option<Error> {
    match error {
        quinn::ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            let refusal = wire::Refusal::from(Refusal::from(PutOff::parse(&close.reason)?));
            Some(Error::Refused(refusal.into()))
        }
        _ => None,
    }
}

const ANY_V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const ANY_V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

fn bind(any: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(any)?;
    let sized = socket2::SockRef::from(&socket);
    // Best effort: the system may allow less.
    let _ = sized.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = sized.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    Ok(socket)
}

fn roots(ca: &CaSource) -> Result<Arc<rustls::RootCertStore>, Error> {
    let authority = |detail: String| Error::Authority { detail };
    let (pem, origin) = match ca {
        CaSource::Pem(pem) => (pem.clone(), "the given PEM text".to_owned()),
        CaSource::File(path) => {
            let origin = path.display().to_string();
            let pem = std::fs::read(path).map_err(|e| {
                authority(format!("the authority's certificate {origin} cannot be read ({e}); start the server first, or name the right file"))
            })?;
            (pem, origin)
        }
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| authority(format!("{origin} is not valid PEM: {e}")))?;
        roots
            .add(certificate)
            .map_err(|e| authority(format!("{origin} holds an unusable certificate: {e}")))?;
    }
    if roots.is_empty() {
        return Err(authority(format!("{origin} holds no certificate; it must be PEM")));
    }
    Ok(Arc::new(roots))
}

fn config(roots: Arc<rustls::RootCertStore>, alpn: &[u8]) -> Result<quinn::ClientConfig, Error> {
    let authority = |e: &dyn std::fmt::Display| Error::Authority { detail: e.to_string() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| authority(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.resumption = Resumption::disabled();
    let mut config =
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(|e| authority(&e))?));
    config.transport_config(Arc::new(tuning()));
    Ok(config)
}

fn tuning() -> quinn::TransportConfig {
    let mut tuning = quinn::TransportConfig::default();
    tuning
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window((4 * STREAM_WINDOW_BYTES).into())
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(quinn::IdleTimeout::try_from(IDLE_LIMIT).ok());
    tuning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_wrong_authority_says_what_to_do() {
        let missing = Transport::new(&CaSource::File("/nowhere/ca.pem".into())).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
        assert!(missing.to_string().contains("start the server first"), "{missing}");
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = Transport::new(&CaSource::Pem(pem.to_vec())).unwrap_err();
            assert_eq!(error.name(), "authority");
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_unreachable() {
        let root = rcgen::generate_simple_self_signed([String::from("root")]).unwrap().cert.pem();
        let transport = Transport::new(&CaSource::Pem(root.into_bytes())).unwrap();
        let error = transport.connect(Protocol::Gate, "no port here", "x").await.unwrap_err();
        assert_eq!(error.name(), "unreachable");
    }

    /// A server on loopback that is dropped with its certificate's authority.
    fn server() -> (quinn::Endpoint, Transport) {
        let made = rcgen::generate_simple_self_signed([String::from("manager-1")]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
        tls.alpn_protocols = vec![ALPN_SESSION.to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let transport = Transport::new(&CaSource::Pem(made.cert.pem().into_bytes())).unwrap();
        (endpoint, transport)
    }

    #[tokio::test]
    async fn a_mark_is_the_first_thing_that_the_server_sees() {
        let (server, transport) = server();
        let address = server.local_addr().unwrap().to_string();
        let mark = [9; 20];
        let connect = transport.connect_with_mark(Protocol::Session, &address, "manager-1", Some(&mark));
        let accept = async {
            let incoming = server.accept().await.unwrap();
            let seen = incoming.orig_dst_cid();
            (seen, incoming.await.unwrap())
        };
        let (connection, (seen, _accepted)) = tokio::join!(connect, accept);
        connection.unwrap();
        assert_eq!(seen.as_ref(), mark);
        let wrong =
            transport.connect_with_mark(Protocol::Session, &address, "manager-1", Some(&[1; 3])).await;
        assert_eq!(wrong.unwrap_err().name(), "unreachable");
    }

    #[test]
    fn a_server_without_capacity_says_when_to_come_back() {
        let closed = |error_code, reason: &str| {
            put_off(&quinn::ConnectionError::ConnectionClosed(quinn::ConnectionClose {
                error_code,
                frame_type: None,
                reason: reason.to_owned().into(),
            }))
        };
        let slot = PutOff { retry_after_ms: 1_500, slot: Some([7; 20]) };
        let Some(Error::Refused(refused)) = closed(TransportErrorCode::CONNECTION_REFUSED, &slot.to_string())
        else {
            panic!("not a refusal");
        };
        assert_eq!(refused.retry_after, Some(Duration::from_millis(1_500)));
        assert!(refused.retryable && refused.busy.unwrap().has_slot());
        assert!(closed(TransportErrorCode::CONNECTION_REFUSED, "").is_none());
        assert!(closed(TransportErrorCode::INTERNAL_ERROR, &slot.to_string()).is_none());
    }
}
