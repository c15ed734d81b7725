//! The TLS door between roles: who connects shows a certificate of this system that names a role, or is turned away in the
//! handshake.
//!
//! Why it exists: certificates are reloaded without a restart, and a stranger's handshake must cost a bounded amount of
//! time and memory. It must never hand on a connection whose peer has no role.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::shutdown::Shutdown;
use crate::tls::Role;

/// Handshakes under way at a time. Roles are tens, so more than this is somebody else.
const HANDSHAKES_MAX: usize = 64;

/// A role on the same network finishes in milliseconds.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// When the system gives no connection (too many descriptors), asking at once again would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which roles the peer of a connection has proved.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Arc<[Role]>);

/// A connection from another role.
pub(super) struct PeerStream {
    tls: TlsStream<TcpStream>,
    peer: Peer,
}

/// Connections that have passed the door, until the shutdown.
pub(super) fn accept(
    listener: TcpListener,
    config: ServerConfig,
    shutdown: &Shutdown,
) -> ReceiverStream<io::Result<PeerStream>> {
    let (out, passed) = mpsc::channel(HANDSHAKES_MAX);
    let token = shutdown.token().clone();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    shutdown.tracker().spawn(async move {
        token.run_until_cancelled(accept_all(listener, acceptor, out)).await;
    });
    ReceiverStream::new(passed)
}

async fn accept_all(listener: TcpListener, acceptor: TlsAcceptor, out: mpsc::Sender<io::Result<PeerStream>>) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let tcp = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = handshakes.join_next() => continue,
        };
        let tcp = match tcp {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections of other roles");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            refused("saturated");
            continue;
        };
        let (acceptor, out) = (acceptor.clone(), out.clone());
        handshakes.spawn(async move {
            if let Some(stream) = handshake(tcp, acceptor).await {
                // An error means that the server has ended.
                let _ = out.send(Ok(stream)).await;
            }
            drop(permit);
        });
    }
}

async fn handshake(tcp: TcpStream, acceptor: TlsAcceptor) -> Option<PeerStream> {
    let from = tcp.peer_addr().ok();
    // Requests are small and wait for answers: without this, the kernel holds them back for an acknowledgement.
    let _ = tcp.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            refused("handshake");
            tracing::warn!(?from, %error, "a connection from another role failed its handshake");
            return None;
        }
        Err(_) => {
            refused("timeout");
            return None;
        }
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let roles = certificate.map(Role::of_certificate).unwrap_or_default();
    if roles.is_empty() {
        refused("no_role");
        tracing::warn!(?from, "a peer was refused: its certificate names no role of this system");
        return None;
    }
    Some(PeerStream { tls, peer: Peer(roles.into()) })
}

fn refused(why: &'static str) {
    metrics::counter!("buslane_rpc_connections_refused_total", "why" => why).increment(1);
}

/// Connects to the backend at `address`, and believes it only if its certificate says that it is the backend.
pub(super) async fn connect(
    address: String,
    connector: TlsConnector,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(Role::Backend.server_name()).map_err(io::Error::other)?;
    connector.connect(name, tcp).await
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
