//! Roles in processes of their own: the backend over gRPC, with certificates on both sides.
//!
//! Why it exists: in one process a role calls [`crate::api::BackendApi`] directly; apart, the same trait is served and
//! called here, and no role notices. It must never serve a peer whose certificate does not name a role that may make the
//! call, and never leave a caller waiting past its deadline.

mod door;
mod lane;
mod relay;
mod remote;
mod server;
mod terms;

use std::time::Duration;

pub use remote::RemoteBackend;
pub use server::serve;

use crate::tls::TlsError;

/// Generated from `proto/buslane/v1/internal.proto`.
mod generated {
    #![allow(missing_docs, unused_qualifications, clippy::all, clippy::unwrap_used)]
    include!(concat!(env!("OUT_DIR"), "/buslane.v1.rs"));
}

/// Largest message between roles: a page of a thousand rooms or members is far below; a list of sessions is sent in
/// pieces.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What calls are named in a trace.
const RELAY: &str = "buslane.v1.Backend/Relay";
/// See [`RELAY`].
const ENROL: &str = "buslane.v1.Backend/Enrol";

/// A peer that does not answer a ping within [`PING_TIMEOUT`] is dead. Together: a dead backend is noticed in 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// See [`PING_INTERVAL`].
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Why roles cannot be reached, or cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The certificate or the CA cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is not `host:port`.
    #[error("{0:?} is not an address of a backend; write host:port")]
    BadAddress(String),
    /// The server ended.
    #[error("the RPC server has ended: {0}")]
    Server(#[from] tonic::transport::Error),
}

#[cfg(test)]
mod tests;
