//! Serves HTTP on the admin address within limits.
//!
//! Why it exists: the operator must get in while somebody holds connections open or sends a header a byte a minute, and
//! the ready-made server of the web framework has neither limit. It must never let a connection outlive the shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections at a time: operators, their scripts and a few scrapers. Further ones wait in the listener's backlog.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take to send the head of a request, the first as any later one.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long answers that are under way may take once the shutdown has begun.
const GOODBYE: Duration = Duration::from_secs(3);

/// When the system gives no connection (too many descriptors), asking at once again would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, router: Router, ending: &CancellationToken) {
    let mut connections = JoinSet::new();
    ending.run_until_cancelled(accept(listener, router, ending, &mut connections)).await;
    let all_done = async { while connections.join_next().await.is_some() {} };
    // Whoever is not done by then is aborted with the set.
    let _ = tokio::time::timeout(GOODBYE, all_done).await;
}

async fn accept(
    listener: TcpListener,
    router: Router,
    ending: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((tcp, _)) => {
                let (router, ending) = (router.clone(), ending.clone());
                connections.spawn(async move {
                    answer(tcp, router, ending).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections on the admin address");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(tcp: TcpStream, router: Router, ending: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(tcp), service);
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
