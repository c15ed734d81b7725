//! The pure core of Buslane: the words every part uses, the wire schema, and every decision.
//!
//! Why it exists: the same code must decide in production, in a property test and in a seeded simulation. So nothing in
//! here reads a clock, draws randomness, spawns, or touches a socket or a file: `now` and random bytes are arguments, and
//! a decision is a value that carries its reason.

pub mod backoff;
pub mod choice;
pub mod class;
pub mod frame;
pub mod id;
pub mod limits;
pub mod mailbox;
pub mod mark;
pub mod membership;
pub mod metric;
pub mod nearest;
pub mod notify;
pub mod overload;
pub mod proof;
pub mod put_off;
pub mod refusal;
pub mod sequencer;
pub mod slots;
pub mod token;

/// Messages of the wire schema, generated from `proto/buslane/v1`. The comments of the schema are the documentation.
pub mod wire {
    #![allow(missing_docs, unused_qualifications, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/buslane.v1.rs"));
}

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// Nanoseconds since an arbitrary beginning, never going back: the `now` of decisions about load.
pub type Nanos = u64;
