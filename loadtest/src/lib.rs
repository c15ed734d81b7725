//! Measures the real binary from outside: the server is a process of its own, reached over real QUIC, and its cost is read
//! from the kernel's accounts.
//!
//! It must never share a process, a runtime or a clock of the server with what it measures, and never report a figure that
//! it did not measure in this run.

pub mod account;
pub mod figures;
pub mod latency;
pub mod parent;
pub mod phone;
pub mod server;
pub mod simulate;
pub mod steady;
pub mod storm;
