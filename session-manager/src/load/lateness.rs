//! How late timers fire on the front port's threads.
//!
//! A thread that is busy with something else serves nobody, whatever the queues say. One probe for each thread sleeps
//! 10 ms at a time and notes how much later it woke; the worst of the last second stands for what a request would feel. It
//! measures and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use buslane_shared::Nanos;
use tokio::time::{Instant, sleep_until};

const PERIOD: Duration = Duration::from_millis(10);

/// The runtime's timers tick in milliseconds, and never fire early: on an idle machine they are late by up to this.
const TIMER_TICK: Duration = Duration::from_millis(1);

/// Samples that are looked back on: a second.
const SAMPLES: usize = 100;

/// The last samples of one probe, in microseconds.
struct Ring {
    samples: [AtomicU32; SAMPLES],
    next: AtomicUsize,
}

impl Ring {
    fn note(&self, late: Duration) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % SAMPLES;
        if let Some(sample) = self.samples.get(at) {
            sample.store(u32::try_from(late.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }

    /// Of a hundred samples, the one below the highest.
    fn p99(&self) -> u32 {
        let (mut highest, mut second) = (0, 0);
        for sample in &self.samples {
            let sample = sample.load(Ordering::Relaxed);
            if sample > highest {
                (highest, second) = (sample, highest);
            } else {
                second = second.max(sample);
            }
        }
        second
    }
}

/// Probes of all threads of a port.
#[derive(Clone)]
pub(crate) struct Lateness(Arc<[Ring]>);

impl Lateness {
    /// One for each thread; they still have to be run.
    pub(crate) fn new(threads: usize) -> Self {
        let ring =
            |_| Ring { samples: std::array::from_fn(|_| AtomicU32::new(0)), next: AtomicUsize::new(0) };
        Self((0..threads.max(1)).map(ring).collect())
    }

    /// The probes, to be run on the threads that they are about. They never end.
    pub(crate) fn probes(&self) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static> {
        let rings = Arc::clone(&self.0);
        (0..self.0.len()).map(move |n| run(Arc::clone(&rings), n))
    }

    /// The p99 of the last second, of the probe that is worst.
    pub(crate) fn p99(&self) -> Nanos {
        let worst = self.0.iter().map(Ring::p99).max().unwrap_or(0);
        Nanos::from(worst) * 1_000
    }
}

async fn run(rings: Arc<[Ring]>, n: usize) {
    let Some(ring) = rings.get(n) else { return };
    loop {
        let due = Instant::now() + PERIOD;
        sleep_until(due).await;
        ring.note(due.elapsed().saturating_sub(TIMER_TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_accident_a_second_is_none_and_two_are() {
        let lateness = Lateness::new(2);
        let ring = &lateness.0[1];
        for _ in 0..SAMPLES {
            ring.note(Duration::from_micros(300));
        }
        ring.note(Duration::from_millis(50));
        assert_eq!(lateness.p99(), 300_000);
        ring.note(Duration::from_millis(40));
        assert_eq!(lateness.p99(), 40_000_000);
        for _ in 0..SAMPLES {
            ring.note(Duration::from_micros(100));
        }
        assert_eq!(lateness.p99(), 100_000, "what is over is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_notes_how_late_it_is() {
        let lateness = Lateness::new(1);
        let probe = lateness.probes().next().unwrap();
        let mut probe = Box::pin(probe);
        // Time goes on in steps of 17 ms: every timer of 10 ms is late.
        for _ in 0..SAMPLES {
            assert!(futures_util::poll!(&mut probe).is_pending());
            tokio::time::advance(Duration::from_millis(17)).await;
        }
        assert!(futures_util::poll!(&mut probe).is_pending());
        assert_eq!(lateness.p99(), 6_000_000);
    }
}
