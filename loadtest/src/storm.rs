//! The surge harness: storms of real phones against the real binary over real QUIC, and what a person in a conversation sees
//! meanwhile.
//!
//! The server is a process of its own. The driver is split into threads that do not wait for each other: conversations,
//! whose latency is the figure that matters, run on a thread of their own and measure how late that thread is itself;
//! everything that makes the storm runs on threads that the scheduler serves last. Load is open loop: what is due is due,
//! whether the server answers or not, and a latency counts from when it was due.
//!
//! It must never leave out what it was too slow to send, report its own delay as the server's, or call a run valid that
//! was not.

pub mod calibrate;
pub mod crowd;
pub mod demo;
pub mod drill;
pub mod figures;
pub mod fleet;
pub mod flood;
pub mod generator;
pub mod history;
pub mod hog;
pub mod lateness;
pub mod live;
pub mod net;
pub mod phones;
pub mod place;
pub mod pulse;
mod raw;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod silent;
pub mod stage;
pub mod system;
mod tail;
pub mod talk;
pub mod tally;
pub mod thresholds;
pub mod timing;
pub mod watch;
