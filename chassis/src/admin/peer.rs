//! Who is at the other end of a connection, as far as the connection itself says so.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::Request;

use super::crowd::Known;
use super::lease::Lease;

/// The other end. In the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Its address; behind a proxy, that of the proxy.
    pub(super) ip: IpAddr,
    /// Whether the connection is encrypted.
    pub(super) tls: bool,
    /// The right that its certificate gives, if it has shown one.
    pub(super) certificate: Option<Lease>,
    /// Whether it has shown a right: of those who have not, some go when there is no place.
    pub(super) known: Known,
}

impl Peer {
    pub(super) fn of(request: &Request) -> Self {
        // A request that came over no connection has nothing to show.
        let nobody = || Self {
            ip: Ipv4Addr::UNSPECIFIED.into(),
            tls: false,
            certificate: None,
            known: Known::default(),
        };
        request.extensions().get().cloned().unwrap_or_else(nobody)
    }
}
