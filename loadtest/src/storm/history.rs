//! Whether anything was lost, doubled, reordered, shown to the wrong people or made up in a run: the phones keep a record of what they
//! sent, were told and received; after the run the logs are read back, and the one is held against the other.
//!
//! The harness speaks the protocol itself, without the SDK, so nothing is put right before it is recorded.
//!
//! It must never take what it could not look at for right.

mod check;
mod findings;
mod logs;
mod record;
mod timeline;

pub use self::check::check;
pub use self::findings::{Findings, Held, Promise};
pub use self::logs::{Reader, RoomLog, read_logs};
pub use self::record::{Continuity, Device, ENTRIES_MAX, Record, Room};

#[cfg(test)]
mod tests;
