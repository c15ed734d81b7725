//! Spans that have ended, on their way to the thread that exports them.
//!
//! Why it exists: whoever ends a span is serving somebody, and the thread that exports runs last. So the queue is bounded, and neither
//! end ever waits for the other: the reader looks now and then instead of being woken, because a lock that it held while it does not
//! run would be waited for. What finds no place is dropped and counted.
//!
//! Places are counted beside the channel. A sender that comes to a slot that is just being read would spin until it is free, and the
//! reader may be stopped in the middle of that for as long as the machine is busy; a place is given back only when its slot is free.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use metrics::{Counter, counter};

use super::on::Open;

static QUEUE: OnceLock<Queue> = OnceLock::new();

struct Queue {
    spans: SyncSender<Box<Open>>,
    /// Places that are free.
    places: AtomicUsize,
    /// Looked up once: it counts when there is most to do.
    dropped: Counter,
}

/// The end at which spans are taken out.
pub(super) struct Ended(Receiver<Box<Open>>);

impl Ended {
    /// Those that wait, up to so many.
    pub(super) fn take(&self, spans_max: usize) -> Vec<Open> {
        let spans: Vec<_> = self.0.try_iter().take(spans_max).map(|span| *span).collect();
        if let Some(queue) = QUEUE.get() {
            queue.places.fetch_add(spans.len(), Ordering::Release);
        }
        spans
    }
}

/// Opens the queue, once in a process; its reader, or none if it is open already.
pub(super) fn open(spans_max: usize) -> Option<Ended> {
    let (spans, ended) = sync_channel(spans_max);
    let dropped = counter!("buslane_spans_dropped_total", "why" => "queue");
    let queue = Queue { spans, places: AtomicUsize::new(spans_max), dropped };
    QUEUE.set(queue).ok().map(|()| Ended(ended))
}

/// Whether spans of this process are exported.
pub(super) fn is_open() -> bool {
    QUEUE.get().is_some()
}

/// Hands a span over, if there is a place for it.
pub(super) fn offer(span: Box<Open>) {
    let Some(queue) = QUEUE.get() else { return };
    let place = queue.places.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| free.checked_sub(1));
    if place.is_err() || queue.spans.try_send(span).is_err() {
        queue.dropped.increment(1);
    }
}
