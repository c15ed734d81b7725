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

/// Of these so many are passed over: a thread that is held up once or twice (a disk that syncs, another
/// program) is no emergency, one that is late all the time is.
const PASSED_OVER: usize = 5;

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

    /// Of a hundred samples, the one that five are above.
    fn p95(&self) -> u32 {
        let mut highest = [0; PASSED_OVER + 1];
        for sample in &self.samples {
            let mut sample = sample.load(Ordering::Relaxed);
            for place in &mut highest {
                if sample > *place {
                    std::mem::swap(&mut sample, place);
                }
            }
        }
        highest.last().copied().unwrap_or_default()
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

    /// The p95 of the last second, of the probe that is worst.
    pub(crate) fn p95(&self) -> Nanos {
        let worst = self.0.iter().map(Ring::p95).max().unwrap_or(0);
        Nanos::from(worst) * 1_000
    }
}

async fn run(rings: Arc<[Ring]>, n: usize) {
    let Some(ring) = rings.get(n) else { return };
    loop {
        let due = Instant::now() + PERIOD;
        sleep_until(due).await;
        // Whoever came in the middle of it would have waited for the rest.
        let mut late = due.elapsed().saturating_sub(TIMER_TICK);
        for _ in 0..SAMPLES {
            ring.note(late);
            if late < PERIOD {
                break;
            }
            late -= PERIOD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_accidents_a_second_are_none_and_more_are() {
        let lateness = Lateness::new(2);
        let ring = &lateness.0[1];
        for _ in 0..SAMPLES {
            ring.note(Duration::from_micros(300));
        }
        for late_ms in 50..55 {
            ring.note(Duration::from_millis(late_ms));
        }
        assert_eq!(lateness.p95(), 300_000);
        ring.note(Duration::from_millis(40));
        assert_eq!(lateness.p95(), 40_000_000);
        ring.note(Duration::from_millis(60));
        assert_eq!(lateness.p95(), 50_000_000);
        for _ in 0..SAMPLES {
            ring.note(Duration::from_micros(100));
        }
        assert_eq!(lateness.p95(), 100_000, "what is over is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_stall_counts_for_all_who_came_in_it() {
        for (stall_ms, expected_ms) in [(0, 0), (45, 0), (75, 24), (500, 449)] {
            let lateness = Lateness::new(1);
            let mut probe = Box::pin(lateness.probes().next().unwrap());
            assert!(futures_util::poll!(&mut probe).is_pending());
            tokio::time::advance(Duration::from_millis(10 + stall_ms)).await;
            assert!(futures_util::poll!(&mut probe).is_pending());
            assert_eq!(lateness.p95(), expected_ms * 1_000_000, "{stall_ms} ms");
        }
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
        assert_eq!(lateness.p95(), 6_000_000);
    }
}
