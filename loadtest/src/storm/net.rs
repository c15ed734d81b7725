//! The sockets of one driver thread, and how a connection begins and fails.
//!
//! One core has to play a country of phones, so a try costs as little as it can: a certificate is checked once and then known
//! again by its bytes, one key exchange key serves all handshakes (`net/tls.rs`), windows are small. The server notices none of
//! it. Each source address is a socket of its own: limits for each address hold as they would for a country.
//!
//! It must never try again by itself, nor take silence for an answer: when to come back is the phone's business.

mod tls;
mod turned;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use buslane_client::raw::Protocol;
use buslane_shared::limits::{ALPN_GATE, ALPN_SESSION};
use buslane_shared::mark::MarkBytes;
use quinn::ConnectionId;

pub use self::turned::Turned;
use super::stage::Target;

/// What a round trip is assumed to take before one was measured: as in the SDK, so that first packets go again when its do.
const INITIAL_RTT: Duration = Duration::from_millis(150);

/// Longer than any server's, so that the server's decides.
const IDLE_LIMIT: Duration = Duration::from_secs(900);

/// Unread bytes of a stream and of a connection: a page of history at a time, and not more of a phone that nobody reads.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const WINDOW_BYTES: u32 = 128 * 1024;

/// Kernel buffers of a socket: a storm is sent, and answered, in bursts.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Sockets of one thread at most. Each reserves 3 MiB of address space, little of which is ever touched.
const ADDRESSES_MAX: usize = 1_024;

/// Loopback addresses that the threads of this process take in turns: 127.1.0.1 and those behind it.
static NEXT_SOURCE: AtomicU32 = AtomicU32::new(0x7f01_0001);

/// Sockets of one driver thread; must be made on that thread's runtime.
#[derive(Debug)]
pub struct Net {
    endpoints: Vec<quinn::Endpoint>,
    gate: quinn::ClientConfig,
    session: quinn::ClientConfig,
    resolved: Mutex<HashMap<String, SocketAddr>>,
}

impl Net {
    /// `addresses`: how many source addresses to use (each its own UDP socket and endpoint). For a target on loopback they are
    /// 127.x.y.z; otherwise all sockets have the machine's own address.
    pub fn new(target: &Target, addresses: usize) -> anyhow::Result<Self> {
        let to = resolve(&target.gate)?;
        let trust = tls::Trust::of_file(&target.ca)?;
        let transport = Arc::new(tuning());
        let config = |alpn: &[u8]| -> anyhow::Result<quinn::ClientConfig> {
            let mut config = quinn::ClientConfig::new(trust.client(alpn)?);
            config.transport_config(transport.clone());
            Ok(config)
        };
        let endpoints =
            (0..addresses.clamp(1, ADDRESSES_MAX)).map(|_| endpoint(to)).collect::<Result<_, _>>();
        let endpoints = endpoints.context("no UDP socket for the driver; `ulimit -n` may be too low")?;
        let resolved = Mutex::new(HashMap::from([(target.gate.clone(), to)]));
        Ok(Self { endpoints, gate: config(ALPN_GATE)?, session: config(ALPN_SESSION)?, resolved })
    }

    /// How many source addresses there are.
    pub fn addresses(&self) -> usize {
        self.endpoints.len()
    }

    /// Connects to `address` (`host:port`) from the source `from` (any number: they are counted round). `mark` is shown in the
    /// first packet. No answer within `limit` is [`Turned::Silence`].
    pub async fn connect(
        &self,
        from: usize,
        protocol: Protocol,
        address: &str,
        server_name: &str,
        mark: Option<&[u8]>,
        limit: Duration,
    ) -> Result<quinn::Connection, Turned> {
        let to = self.address(address)?;
        let mut config = match protocol {
            Protocol::Gate => self.gate.clone(),
            Protocol::Session => self.session.clone(),
        };
        if let Some(mark) = mark {
            let mark: MarkBytes = mark.try_into().map_err(|_| Turned::Failed("not_a_mark"))?;
            config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&mark)));
        }
        let endpoint = self.endpoints.get(from % self.endpoints.len()).ok_or(Turned::Failed("no_socket"))?;
        let connecting =
            endpoint.connect_with(config, to, server_name).map_err(|_| Turned::Failed("no_socket"))?;
        match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Turned::Silence),
        }
    }

    /// Waits until the server was told of every connection that was closed, at most `limit`.
    pub async fn settle(&self, limit: Duration) {
        let all = async {
            for endpoint in &self.endpoints {
                endpoint.wait_idle().await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// Names are asked for once: a driver that waits for a resolver measures it.
    fn address(&self, address: &str) -> Result<SocketAddr, Turned> {
        if let Ok(addr) = address.parse() {
            return Ok(addr);
        }
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addr) = resolved.get(address) {
            return Ok(*addr);
        }
        let addr = resolve(address).map_err(|_| Turned::Failed("unknown_address"))?;
        resolved.insert(address.to_owned(), addr);
        Ok(addr)
    }
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut found =
        address.to_socket_addrs().with_context(|| format!("{address} is not an address (host:port)"))?;
    found.next().with_context(|| format!("{address} has no address"))
}

fn endpoint(to: SocketAddr) -> std::io::Result<quinn::Endpoint> {
    let socket = bind(to)?;
    let sized = socket2::SockRef::from(&socket);
    // Best effort: the system may allow less.
    let _ = sized.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = sized.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))
}

fn bind(to: SocketAddr) -> std::io::Result<UdpSocket> {
    match to.ip() {
        // Linux answers on all of 127/8; where only 127.0.0.1 is there, all sockets have that.
        IpAddr::V4(ip) if ip.is_loopback() => {
            UdpSocket::bind((next_source(), 0)).or_else(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
        }
        IpAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// The next address of 127.1.0.0 to 127.254.255.255, round and round.
fn next_source() -> Ipv4Addr {
    let n = NEXT_SOURCE.fetch_add(1, Ordering::Relaxed);
    let hosts = 254 * 0x1_0000;
    Ipv4Addr::from(0x7f01_0000 + n.wrapping_sub(0x7f01_0000) % hosts)
}

fn tuning() -> quinn::TransportConfig {
    let mut tuning = quinn::TransportConfig::default();
    tuning
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(WINDOW_BYTES.into())
        .mtu_discovery_config(None)
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(quinn::IdleTimeout::try_from(IDLE_LIMIT).ok());
    tuning
}

#[cfg(test)]
mod tests;
