//! A thread that says when the next message is due, to within the slack of the kernel's timers (some 50 us). The timers of the
//! runtime know only whole milliseconds, which is more than a message takes.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

use crate::storm::timing::Timing;

/// Beats that may wait for the driver: some minutes of a conversation. When it is full the thread waits, and what is late
/// counts as late.
const WAITING_MAX: usize = 100_000;

/// Longest sleep in one piece, so that the thread notices soon that nobody listens any more.
const NAP_MAX: Duration = Duration::from_millis(200);

/// The receiving end of the beats.
#[derive(Debug)]
pub struct Metronome(mpsc::Receiver<Instant>);

impl Metronome {
    /// `per_s` beats a second in the mean from the beginning of the run to its end, at distances that vary by half around
    /// the mean, so that nothing beats in time with the server's own ticks.
    pub fn start(timing: Timing, per_s: f64, seed: u64) -> Self {
        let (beats, receiver) = mpsc::channel(WAITING_MAX);
        let spawned = std::thread::Builder::new().name("load-metronome".into()).spawn(move || {
            let mut random = StdRng::seed_from_u64(seed);
            let mut due = timing.begin();
            loop {
                due += distance(&mut random, per_s);
                if due >= timing.end() || !wait_until(due, &beats) || beats.blocking_send(due).is_err() {
                    return;
                }
            }
        });
        // Without a thread there is no beat at all, and the run shows it: nothing was offered.
        drop(spawned);
        Self(receiver)
    }

    /// The next beat, when it is due; `None`: that was the last one.
    pub async fn next(&mut self) -> Option<Instant> {
        self.0.recv().await
    }
}

fn distance(random: &mut StdRng, per_s: f64) -> Duration {
    Duration::try_from_secs_f64(random.random_range(0.5..1.5) / per_s.max(1e-3)).unwrap_or(NAP_MAX)
}

/// False: nobody listens any more.
fn wait_until(due: Instant, beats: &mpsc::Sender<Instant>) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        if beats.is_closed() {
            return false;
        }
        std::thread::sleep(left.min(NAP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_come_when_they_are_due_and_end_with_the_run() {
        let s = Duration::from_millis;
        let timing = Timing::new(Instant::now(), s(100), s(100), s(100));
        let mut metronome = Metronome::start(timing, 1_000.0, 7);
        let mut beats = 0;
        let mut last = timing.begin();
        while let Some(due) = metronome.next().await {
            assert!(due > last && Instant::now() >= due);
            last = due;
            beats += 1;
        }
        assert!((200..400).contains(&beats), "{beats}");
    }
}
