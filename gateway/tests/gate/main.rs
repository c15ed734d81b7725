//! The gateway over real QUIC on loopback, with a small backend and the real feed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod door;
mod enrol;
mod enter;
mod frames;
mod limits;
mod metrics;
mod passes;
mod provider;
mod shed;
mod stand;
