//! The real binary, from outside: processes, ports, signals, files.
//!
//! Every test has a home folder and ports of its own, waits for conditions and never for time, and ends what it started.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod backup;
mod chat;
mod conversation;
mod crash;
mod crowd;
mod load;
mod operator;
mod orders;
mod phones;
mod probe;
mod refusals;
mod roles;
mod seat;
mod secrecy;
mod simulate;
mod stage;
mod start;
mod support;
mod surge;
mod traces;
