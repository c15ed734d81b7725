//! QUIC endpoints, tuned: what a connection may cost before it has proved anything, and afterwards.
//!
//! Why it exists: the defaults of a QUIC stack suit a file transfer between friends. Here half a million idle phones share
//! a server, and a peer without a ticket must not make it allocate. Sockets, limits and the TLS exporter come from one
//! place for both protocols. It must never enable 0-RTT (it can be replayed) or datagrams (nothing uses them).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use buslane_shared::proof::EXPORTER_BYTES;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Runtime, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::tls::{Identity, TlsError};

pub use filter::{FirstPacket, Passage, Screen};
pub use knocks::{Hearing, Knocks};
pub use porter::{Porter, Wanted};

mod close;
mod farewell;
mod filter;
mod held;
mod ids;
mod knocks;
mod packet;
mod porter;

use filter::Screened;
use held::Held;
use ids::Ids;

/// Receive and send buffer asked of the system for each UDP socket: a burst of 3,000 full packets, which is what arrives
/// while the process does not run for 30 ms at 100,000 packets a second. The system may grant less; `net.core.rmem_max`.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Handshakes that wait to be accepted. More is a queue that serves those who have given up (the stack's default is 65,536).
const INCOMING_MAX: usize = 512;

/// Bytes buffered for one handshake that waits: three packets, what a client sends before it hears anything.
const INCOMING_BUFFER_BYTES: u64 = 4 * 1024;

/// Bytes buffered for all handshakes that wait.
const INCOMING_BUFFER_BYTES_TOTAL: u64 = INCOMING_MAX as u64 * INCOMING_BUFFER_BYTES;

/// Out-of-order handshake bytes of one connection: a client's first flight with a post-quantum key share is under 3 KiB.
const CRYPTO_BUFFER_BYTES: usize = 8 * 1024;

/// Why an endpoint did not come up.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be had.
    #[error("cannot listen on {addr} (UDP): {error}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl EndpointError {
    /// Whether somebody else has the port.
    pub fn is_port_taken(&self) -> bool {
        matches!(self, Self::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
    }
}

/// What one connection may cost, before and after its peer has proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Before.
    pub stranger: Windows,
    /// After; see [`Tuning::trust`].
    pub trusted: Windows,
    /// Bytes that a peer may have under way on one stream. Fixed for the life of a connection, so before the proof the
    /// window of the connection is the limit.
    pub stream_receive_window: u32,
    /// A connection from which nothing comes for this long is dropped.
    pub idle_timeout: Duration,
}

/// Limits that can be changed on a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Bytes that the peer may have under way on all streams.
    pub receive_bytes: u32,
    /// Bytes that we keep for the peer until it acknowledges them.
    pub send_bytes: u64,
    /// Bidirectional streams that the peer may have open.
    pub streams: u32,
}

impl Tuning {
    /// For the gateway: a few small requests on streams of their own, then goodbye.
    pub fn gate() -> Self {
        let windows = Windows { receive_bytes: 16 * 1024, send_bytes: 16 * 1024, streams: 4 };
        Self {
            stranger: windows,
            trusted: windows,
            stream_receive_window: 8 * 1024,
            idle_timeout: Duration::from_secs(10),
        }
    }

    /// For the session manager. Before the ticket: 16 KiB and the talk stream. Afterwards a window that lets a phone with
    /// 100 ms of round trip send 20 Mbit/s, and the talk stream beside `bulk_streams` others.
    pub fn session(idle_timeout: Duration, bulk_streams: u32) -> Self {
        Self {
            stranger: Windows { receive_bytes: 16 * 1024, send_bytes: 16 * 1024, streams: 1 },
            trusted: Windows {
                receive_bytes: 256 * 1024,
                send_bytes: 512 * 1024,
                streams: bulk_streams.saturating_add(1),
            },
            stream_receive_window: 128 * 1024,
            idle_timeout,
        }
    }

    /// Raises the limits of a connection whose peer has proved who it is.
    pub fn trust(&self, connection: &Connection) {
        connection.set_receive_window(VarInt::from_u32(self.trusted.receive_bytes));
        connection.set_send_window(self.trusted.send_bytes);
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(self.trusted.streams));
    }

    fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        // A `VarInt` of milliseconds holds 146 million years; whoever configures more gets no timeout.
        let idle_timeout = IdleTimeout::try_from(self.idle_timeout).ok();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.stranger.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_receive_window))
            .receive_window(VarInt::from_u32(self.stranger.receive_bytes))
            .send_window(self.stranger.send_bytes)
            .max_idle_timeout(idle_timeout)
            .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            // Probes cost packets in every login, and frames of a conversation fit 1,200 bytes.
            .mtu_discovery_config(None)
            // Phones send the heartbeats: a server that pings half a million of them wakes half a million radios.
            .keep_alive_interval(None);
        transport
    }
}

/// A QUIC server on `addr` (port 0: the system chooses) that speaks `alpn` and refuses handshakes without it. Call it
/// inside the runtime on which the endpoint is to live.
pub fn server_endpoint(
    addr: SocketAddr,
    identity: &Identity,
    alpn: &[u8],
    tuning: Tuning,
) -> Result<Endpoint, EndpointError> {
    let config = server_config(identity, alpn, tuning)?;
    let bind = |error| EndpointError::Bind { addr, error };
    let socket = bind_udp(addr).map_err(bind)?;
    let ids = ids(identity, socket.local_addr().map_err(bind)?.port())?;
    let endpoint = endpoint_config(identity, &socket, ids).map_err(bind)?;
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime)).map_err(bind)
}

/// The same, behind a screen that sees every first packet before the stack, and a filter in the kernel that hears everybody until it is
/// told otherwise.
pub fn screened_endpoint(
    addr: SocketAddr,
    identity: &Identity,
    alpn: &[u8],
    tuning: Tuning,
    screen: Arc<dyn Screen>,
) -> Result<(Endpoint, Knocks), EndpointError> {
    let config = server_config(identity, alpn, tuning)?;
    let bind = |error| EndpointError::Bind { addr, error };
    let socket = bind_udp(addr).map_err(bind)?;
    let ids = ids(identity, socket.local_addr().map_err(bind)?.port())?;
    let endpoint = endpoint_config(identity, &socket, ids.clone()).map_err(bind)?;
    let (current, heard) = (Arc::clone(&ids.knock), Arc::default());
    let knocks =
        Knocks { socket: socket.try_clone().map_err(bind)?.into(), current, heard: Arc::clone(&heard) };
    let socket = TokioRuntime.wrap_udp_socket(socket).map_err(bind)?;
    let socket = Arc::new(Screened { socket, ids, screen, heard, held: Held::default() });
    let runtime = Arc::new(TokioRuntime);
    let endpoint =
        Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, runtime).map_err(bind)?;
    Ok((endpoint, knocks))
}

fn ids(identity: &Identity, port: u16) -> Result<Ids, TlsError> {
    let secret = identity.derive(b"quic connection id", port);
    let [secret @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = secret;
    Ids::new(&secret).map_err(|e| TlsError::Invalid {
        what: "the key of connection ids".to_owned(),
        reason: e.to_string(),
    })
}

/// Connection ids and stateless resets (RFC 9000, 10.3) that survive a restart: a client whose server was killed learns it
/// from the first packet that the new process does not know, instead of waiting for its own idle timeout. The secrets
/// belong to one port, because a reset that was provoked at one endpoint must not end a connection of another.
fn endpoint_config(identity: &Identity, socket: &UdpSocket, ids: Ids) -> io::Result<EndpointConfig> {
    let reset = identity.derive(b"quic stateless reset", socket.local_addr()?.port());
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)));
    config.cid_generator(move || Box::new(ids.clone())).supported_versions(vec![packet::VERSION]);
    Ok(config)
}

fn server_config(identity: &Identity, alpn: &[u8], tuning: Tuning) -> Result<ServerConfig, TlsError> {
    let tls = identity.server_config(&[alpn])?;
    let crypto = QuicServerConfig::try_from(tls)
        .map_err(|e| TlsError::Invalid { what: "the TLS configuration".to_owned(), reason: e.to_string() })?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(tuning.transport()))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL)
        .migration(true);
    Ok(config)
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // `[::]` serves IPv4 as well, on every system alike.
        socket.set_only_v6(false)?;
    }
    // Larger buffers are a wish: the system caps them, and a container may forbid them.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    let granted = socket.recv_buffer_size().unwrap_or(0);
    // Linux reports twice of what it grants, for its own bookkeeping.
    if granted < SOCKET_BUFFER_BYTES {
        tracing::info!(%addr, granted, wanted = SOCKET_BUFFER_BYTES, "small UDP buffer; raise net.core.rmem_max");
    } else {
        tracing::debug!(%addr, granted, "UDP buffer");
    }
    Ok(socket.into())
}

/// Bytes that only the two ends of this connection know (RFC 8446, 7.5), for a proof that is bound to it. `None`: the
/// handshake has not finished.
pub fn exporter(connection: &Connection, label: &[u8]) -> Option<[u8; EXPORTER_BYTES]> {
    let mut out = [0; EXPORTER_BYTES];
    connection.export_keying_material(&mut out, label, b"").ok().map(|()| out)
}

#[cfg(test)]
mod tests;
