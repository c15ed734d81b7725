//! The backend as its callers see it: a real service on a real engine, asked through its interface.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod accounts;
mod cursors;
mod faults;
mod groups;
mod history;
mod on_disk;
mod pipelined;
mod reporting;
mod sending;
mod support;
mod waking;
