//! First packets of QUIC connections without the connections: for floods, and for clients that fall silent.
//!
//! Why it exists: a driver that paid for a handshake for each packet could not send more than a server can answer. A packet of
//! ours is what a real client's is, encrypted as the standard says and with a TLS ClientHello that can be answered; only nobody
//! goes on from there.
//!
//! It must never answer anything, nor send where the scenario does not say.

pub mod answer;
pub mod initial;
pub mod source;
#[cfg(test)]
pub mod test_server;

use std::net::SocketAddr;

use buslane_shared::mark::Lane;

use self::initial::Speaks;
use super::scenario::Port;
use super::stage::Ports;

/// Where raw packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The port.
    pub addr: SocketAddr,
    /// What is spoken there.
    pub speaks: Speaks,
    /// The lane of a pass that is shown there.
    pub lane: Lane,
}

/// The ports that a scenario names.
pub fn goals(ports: &Ports, port: Port) -> Vec<Goal> {
    let gate = Goal { addr: ports.gate, speaks: Speaks::Gate, lane: Lane::Front };
    let front = Goal { addr: ports.front, speaks: Speaks::Session, lane: Lane::Front };
    let wake = Goal { addr: ports.wake, speaks: Speaks::Session, lane: Lane::Wake };
    match port {
        Port::Gate => vec![gate],
        Port::Front => vec![front],
        Port::Wake => vec![wake],
        Port::All => vec![gate, front, wake],
    }
}

/// The host of `host:port`: the name in the certificate of a gateway.
pub fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
