//! A session manager over real QUIC on loopback, with a backend that the tests script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod events;
mod hello;
mod lanes;
mod leaving;
mod limits;
mod marks;
mod operator;
mod phone;
mod posture;
mod requests;
mod resume;
mod stand;
