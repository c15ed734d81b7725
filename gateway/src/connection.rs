//! One connection at the gate, from its first packet to its last: handshake, a few requests, goodbye.
//!
//! Why it exists: each connection is one task with an end in time, so a peer that stalls at any point costs a bounded
//! amount for a bounded time and nobody waits behind it. It must never outlive its limits, whatever the peer does.

use std::time::Duration;

use buslane_chassis::quic;
use buslane_shared::proof::GATE_EXPORTER;
use buslane_shared::refusal::Code;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{Connecting, Connection, VarInt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::arrival::Arrival;
use crate::gate::{Gate, Peer};
use crate::limits::{AddressKey, Caller};
use crate::request::{After, serve};

/// Longest handshake: three round trips on a bad mobile network.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// Longest connection: enrolling and entering take two requests.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// Longest time without a request. Shorter than the idle timeout of the transport (10 s), so that the peer is told why.
const IDLE_LIMIT: Duration = Duration::from_secs(8);

/// Requests of one connection under way at a time; the transport lets a peer open as many streams.
const REQUESTS_MAX: usize = 4;

/// Ends the handshake, or gives up. `None`: there is no connection.
pub async fn shake_hands(connecting: Connecting) -> Option<Connection> {
    let began = Instant::now();
    let result = match timeout(HANDSHAKE_LIMIT, connecting).await {
        Ok(Ok(connection)) => {
            metrics::histogram!("buslane_gateway_handshake_seconds").record(began.elapsed());
            return Some(connection);
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            "failed"
        }
        Err(_) => "timeout",
    };
    metrics::counter!("buslane_gateway_handshakes_lost_total", "why" => result).increment(1);
    None
}

/// Serves the requests of a connection until it ends, then closes it.
pub async fn run(gate: &Gate, connection: Connection, arrival: Arrival, stop: &CancellationToken) {
    let address = connection.remote_address();
    let caller = Caller { address: AddressKey::from(address.ip()), lane: arrival.holder.lane() };
    gate.on_connection(caller, Instant::now().into_std());
    // Without the exporter no proof can be checked. It is there as soon as the handshake has ended.
    let code = match quic::exporter(&connection, GATE_EXPORTER) {
        Some(exporter) => {
            let peer = Peer { address, caller, arrival, exporter };
            requests(gate, &connection, &peer, stop).await
        }
        None => Some(Code::Internal),
    };
    if let Some(code) = code {
        connection.close(VarInt::from_u32(code as u32), code.remedy().as_bytes());
    }
}

/// Serves requests; the code to close with, or `None` if the peer has closed.
async fn requests(
    gate: &Gate,
    connection: &Connection,
    peer: &Peer,
    stop: &CancellationToken,
) -> Option<Code> {
    let end = Instant::now() + CONNECTION_LIMIT;
    let mut idle_at = Instant::now() + IDLE_LIMIT;
    let mut under_way = FuturesUnordered::new();
    loop {
        let idle = under_way.is_empty();
        let stopping = stop.is_cancelled();
        if idle && stopping {
            return Some(Code::Draining);
        }
        tokio::select! {
            stream = connection.accept_bi(), if !stopping && under_way.len() < REQUESTS_MAX => match stream {
                Ok((send, recv)) => under_way.push(serve(gate, peer, send, recv)),
                Err(_) => return None,
            },
            Some(after) = under_way.next(), if !idle => {
                idle_at = Instant::now() + IDLE_LIMIT;
                if let After::Close(code) = after {
                    return Some(code);
                }
            }
            () = sleep_until(idle_at), if idle => return Some(Code::Idle),
            () = sleep_until(end) => return Some(Code::Timeout),
            () = stop.cancelled(), if !stopping => {}
        }
    }
}
