//! What every role needs from the world: time, files that are secret, certificates, sockets, configuration, telemetry,
//! the admin surface, orderly shutdown, and the way roles reach each other.
//!
//! Why it exists: roles never depend on each other. They meet in the schema and in [`api::BackendApi`], and everything
//! that touches the world is written once, here. It decides nothing that belongs to a role: decisions live in the pure
//! crate.

pub mod admin;
pub mod api;
pub mod audit;
pub mod clock;
pub mod config;
pub mod feed;
pub mod orders;
pub mod oversee;
pub mod quic;
pub mod readiness;
pub mod rpc;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod threads;
pub mod tls;
pub mod trace;

#[cfg(test)]
mod testing;
