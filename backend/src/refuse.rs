//! What a client sees of trouble in the store: mapped here and nowhere else.

use std::fmt;

use buslane_shared::id::RoomId;
use buslane_shared::refusal::{Code, Refusal};
use buslane_store::StoreError;
use metrics::counter;

/// When to come back after a room changed hands or was loaded anew: that takes a few milliseconds.
const RELOAD_RETRY_MS: u32 = 100;

/// When to come back to a full disk: somebody has to make room.
const DISK_FULL_RETRY_MS: u32 = 5_000;

/// When to come back to a store that has stopped: the process must be started again.
const STOPPED_RETRY_MS: u32 = 10_000;

/// A read that failed, or a write that certainly was not done.
pub(crate) fn not_done(error: StoreError) -> Refusal {
    match error {
        StoreError::DiskFull { .. } => Refusal::of(Code::DiskFull).retry_after_ms(DISK_FULL_RETRY_MS),
        StoreError::Stopped(_) => Refusal::of(Code::StoreStopped).retry_after_ms(STOPPED_RETRY_MS),
        StoreError::Fenced | StoreError::OutOfSequence { .. } => {
            Refusal::new(Code::Unavailable, "the room is being taken over; try again")
                .retry_after_ms(RELOAD_RETRY_MS)
        }
        StoreError::Conflict => {
            Refusal::new(Code::Unavailable, "somebody changed the same thing at the same time; try again")
                .retry_after_ms(RELOAD_RETRY_MS)
        }
        StoreError::Unfit(what) => damaged(what),
        StoreError::Damaged(what) => damaged(&what),
    }
}

/// A write that failed: after an error of the disk nobody knows whether it is there.
pub(crate) fn write_failed(error: StoreError) -> Refusal {
    let ambiguous = matches!(error, StoreError::Stopped(_));
    let refusal = not_done(error);
    if ambiguous { refusal.maybe_applied() } else { refusal }
}

/// Stored bytes that are not what was written. Reported to the client, to the log and to the operator; never skipped.
pub(crate) fn damaged(what: &str) -> Refusal {
    counter!("buslane_backend_damaged_records_total").increment(1);
    tracing::error!(what, "stored data is damaged; restore it from a backup");
    Refusal::new(
        Code::Internal,
        format!("stored data is damaged and was not skipped; tell the operator: {what}"),
    )
}

/// A stored value of a table that does not decode.
pub(crate) fn damaged_value(what: &str, of: impl fmt::Display, why: impl fmt::Display) -> Refusal {
    damaged(&format!("{what} of {of}: {why}"))
}

/// There is no such room.
pub(crate) fn unknown_room(room: RoomId) -> Refusal {
    Refusal::new(Code::UnknownRoom, format!("there is no room {room}; check the id"))
}
