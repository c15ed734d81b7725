//! What the terminal shows while a run goes on: counters that every driver thread adds to and nobody waits for.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use buslane_shared::wire::Posture;

use super::tally::{Outcome, Stream};

/// Counters of one stream, since the beginning.
#[derive(Debug, Default)]
pub struct StreamCounters {
    offered: AtomicU64,
    done: AtomicU64,
    put_off: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    latency_us: AtomicU64,
}

/// One look at [`StreamCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Due so far.
    pub offered: u64,
    /// Served.
    pub done: u64,
    /// Told to come back in a slot.
    pub put_off: u64,
    /// Refused without one.
    pub refused: u64,
    /// Neither served nor answered.
    pub failed: u64,
    /// Sum of the latencies of what was served, in microseconds.
    pub latency_us: u64,
}

/// The counters of a run.
#[derive(Debug, Default)]
pub struct Live {
    streams: [StreamCounters; Stream::COUNT],
    posture: AtomicU8,
}

impl Live {
    /// Something was due.
    pub fn on_offered(&self, stream: Stream) {
        if let Some(of) = self.streams.get(stream.index()) {
            of.offered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something ended.
    pub fn on_outcome(&self, stream: Stream, outcome: &Outcome) {
        let Some(of) = self.streams.get(stream.index()) else { return };
        let counter = match outcome {
            Outcome::Done(latency) => {
                of.latency_us.fetch_add(latency.as_micros() as u64, Ordering::Relaxed);
                &of.done
            }
            Outcome::PutOff => &of.put_off,
            Outcome::Refused(_) => &of.refused,
            Outcome::Late(_) | Outcome::Never(_) | Outcome::Failed(_) => &of.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The server was heard to have changed its posture.
    pub fn set_posture(&self, posture: Posture) {
        self.posture.store(u8::try_from(i32::from(posture)).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The newest posture that was heard.
    pub fn posture(&self) -> Posture {
        Posture::try_from(i32::from(self.posture.load(Ordering::Relaxed))).unwrap_or_default()
    }

    /// The counters of a stream now.
    pub fn counts(&self, stream: Stream) -> StreamCounts {
        let Some(of) = self.streams.get(stream.index()) else { return StreamCounts::default() };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StreamCounts {
            offered: read(&of.offered),
            done: read(&of.done),
            put_off: read(&of.put_off),
            refused: read(&of.refused),
            failed: read(&of.failed),
            latency_us: read(&of.latency_us),
        }
    }
}
