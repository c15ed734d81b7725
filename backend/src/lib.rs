//! The backend: owner of all rooms. It validates membership, gives each message its place, seals it, stores it durably,
//! answers, and only then hands it to the session managers that hold its recipients.
//!
//! Read it along the path of a message:
//!
//! | step | where |
//! |---|---|
//! | a request arrives | [`service`] (`send` is the whole path on one screen) |
//! | its form is checked | `message.rs`: the stages Received → Authorised → Sequenced → Sealed |
//! | its room is found or loaded | `rooms.rs` |
//! | membership, place, seal and queue, under one lock | `room.rs`, with the decisions of `buslane_shared` |
//! | the commit makes the receipt | `commit.rs`, `pump.rs` |
//! | then it goes out | `fanout.rs` |
//! | who is connected where | `registry.rs`, fed by `link.rs` |
//!
//! What must always hold: a receipt follows the commit that covers it, and nothing else makes one; deliveries of a room go
//! out in its order; membership is asked on every read, every write and at fan-out; a cursor that was shown never moves
//! back.

mod accounts;
mod changes;
mod codes;
mod commit;
mod config;
mod core;
mod cursors;
mod epochs;
mod fanout;
mod feed;
mod folding;
mod link;
mod listing;
mod loads;
mod message;
pub mod meters;
mod orders;
mod pace;
mod pump;
mod reading;
mod refuse;
mod registry;
mod retention;
mod revocations;
mod room;
mod rooms;
mod schedule;
pub mod service;
mod settings;
mod table;
mod tasks;
mod token_keys;

pub use config::{Config, Limits};
pub use service::{Service, StartError};
