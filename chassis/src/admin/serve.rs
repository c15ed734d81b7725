//! Serves HTTP on the admin address within limits.
//!
//! Why it exists: the operator must get in while somebody holds connections open, sends a header a byte a minute or reads no answer, and
//! the ready-made server of the web framework has no such limits. It must never let a connection outlive the shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::crowd::{Crowd, Place};
use super::patience::Patient;
use super::peer::Peer;
use super::tls::{self, AdminTls};

/// Connections at a time: a thousand open pages, operators' scripts and a few scrapers. For a further one, one that has shown no right goes.
pub(super) const CONNECTIONS_MAX: usize = 1_024;

/// How long a connection may take to send the head of a request, the first as any later one; and for the handshake before that.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a reader may take nothing of an answer.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// What the system keeps for a reader that is slow: all of them together hold 256 MiB at most (the system doubles it).
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How long answers that are under way may take once the shutdown has begun.
const GOODBYE: Duration = Duration::from_secs(3);

/// When the system gives no connection (too many descriptors), asking at once again would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served, and how.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<AdminTls>>,
    pub(super) stall_limit: Duration,
    pub(super) connections_max: usize,
}

impl Serving {
    pub(super) fn new(router: Router, tls: Option<Arc<AdminTls>>) -> Self {
        Self { router, tls, stall_limit: STALL_LIMIT, connections_max: CONNECTIONS_MAX }
    }

    pub(super) async fn serve(self, listener: TcpListener, ending: &CancellationToken) {
        let mut connections = JoinSet::new();
        ending.run_until_cancelled(self.accept(listener, ending, &mut connections)).await;
        let all_done = async { while connections.join_next().await.is_some() {} };
        // Whoever is not done by then is aborted with the set.
        let _ = tokio::time::timeout(GOODBYE, all_done).await;
    }

    async fn accept(self, listener: TcpListener, ending: &CancellationToken, connections: &mut JoinSet<()>) {
        let crowd = Crowd::new(self.connections_max);
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((tcp, from)) => {
                    let Some(place) = crowd.enter(from.ip().to_canonical()) else {
                        metrics::counter!("buslane_admin_refused_total", "why" => "full").increment(1);
                        continue;
                    };
                    let (serving, ending) = (self.clone(), ending.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = serving.connection(tcp, from, &place, ending) => {}
                            () = place.lost() => {
                                metrics::counter!("buslane_admin_refused_total", "why" => "full").increment(1);
                            }
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections on the admin address");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, tcp: TcpStream, from: SocketAddr, place: &Place, ending: CancellationToken) {
        // A system that does not let us choose keeps its own bound.
        let _ = SockRef::from(&tcp).set_send_buffer_size(SEND_BUFFER_BYTES);
        let tcp = Patient::new(tcp, self.stall_limit);
        let (ip, known) = (from.ip().to_canonical(), place.known());
        let mut peer = Peer { ip, tls: self.tls.is_some(), certificate: None, known };
        let Some(tls) = self.tls else {
            return answer(tcp, self.router, peer, ending).await;
        };
        let (acceptor, believed) = tls.acceptor();
        let handshake = tokio::time::timeout(HEAD_LIMIT, acceptor.accept(tcp));
        let Some(Ok(Ok(stream))) = ending.run_until_cancelled(handshake).await else {
            metrics::counter!("buslane_admin_refused_total", "why" => "handshake").increment(1);
            return;
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        peer.certificate = shown.and_then(|shown| tls::right_of(shown, &believed));
        let has_right = peer.certificate.is_some();
        tokio::select! {
            () = answer(stream, self.router, peer, ending) => {}
            // The next connection shows whether the certificate is believed still.
            () = believed.cancelled(), if has_right => {}
        }
    }
}

async fn answer<S>(stream: S, router: Router, peer: Peer, ending: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is the client's affair; what it asked is counted where it is answered.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
