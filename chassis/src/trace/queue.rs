//! Spans that have ended, on their way to the thread that exports them.
//!
//! Why it exists: whoever ends a span is serving somebody, and the thread that exports runs last. So the queue is bounded, and neither
//! end ever waits for the other: the reader looks now and then instead of being woken, because a lock that it held while it does not
//! run would be waited for. What finds no place is dropped and counted.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::on::Open;

static QUEUE: OnceLock<SyncSender<Box<Open>>> = OnceLock::new();

/// Opens the queue, once in a process; its reader, or none if it is open already.
pub(super) fn open(spans_max: usize) -> Option<Receiver<Box<Open>>> {
    let (queue, spans) = sync_channel(spans_max);
    QUEUE.set(queue).ok().map(|()| spans)
}

/// Whether spans of this process are exported.
pub(super) fn is_open() -> bool {
    QUEUE.get().is_some()
}

/// Hands a span over, if there is a place for it.
pub(super) fn offer(span: Box<Open>) {
    let Some(queue) = QUEUE.get() else { return };
    if queue.try_send(span).is_err() {
        metrics::counter!("buslane_spans_dropped_total", "why" => "queue").increment(1);
    }
}
