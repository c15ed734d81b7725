//! What the terminal shows while a run goes on: counters that every driver thread adds to and nobody waits for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

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

/// A message of a conversation that has just arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub from: String,
    /// Who has it now.
    pub to: String,
    /// What it says.
    pub text: String,
    /// How long it took, from when it was due.
    pub took: Duration,
}

/// The counters of a run, and a few of its messages for whoever asks for them.
#[derive(Debug, Default)]
pub struct Live {
    streams: [StreamCounters; Stream::COUNT],
    posture: AtomicU8,
    /// So many messages are still to be shown.
    wanted: AtomicUsize,
    heard: Mutex<Vec<Heard>>,
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

    /// The next `count` messages are to be kept. Those that were kept before.
    pub fn swap_heard(&self, count: usize) -> Vec<Heard> {
        // Nobody panics while it is held; were it so, nothing would be shown.
        let Ok(mut heard) = self.heard.lock() else { return Vec::new() };
        self.wanted.store(count, Ordering::Relaxed);
        std::mem::take(&mut *heard)
    }

    /// A message arrived. It is only looked at when somebody wants to see it; where nobody does this costs one load.
    pub fn on_heard(&self, heard: impl FnOnce() -> Heard) {
        if self.wanted.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Whoever shows them may be at it: then this one is not shown. What is wanted changes under the lock only.
        let Ok(mut kept) = self.heard.try_lock() else { return };
        if let Some(left) = self.wanted.load(Ordering::Relaxed).checked_sub(1) {
            self.wanted.store(left, Ordering::Relaxed);
            kept.push(heard());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_kept_only_for_whoever_asks_and_only_as_many() {
        let live = Live::default();
        let heard = |text: &str| Heard {
            from: "a".to_owned(),
            to: "b".to_owned(),
            text: text.to_owned(),
            took: Duration::from_millis(2),
        };
        live.on_heard(|| unreachable!("nobody asks"));
        assert!(live.swap_heard(2).is_empty());
        for text in ["one", "two", "three"] {
            live.on_heard(|| heard(text));
        }
        assert_eq!(live.swap_heard(0), [heard("one"), heard("two")]);
        live.on_heard(|| unreachable!("nobody asks any more"));
    }
}
