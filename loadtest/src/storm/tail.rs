//! After the end of a run: what is on its way may still arrive.
//!
//! It must never take for lost what is only late, nor wait for ever for what is lost.

use std::time::Duration;

use tokio::time::Instant;

/// It is waited as long as nothing has been heard for no longer than this.
const SILENCE: Duration = Duration::from_secs(3);

/// The same, whatever is heard.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until everything `is_here`, or until nothing more comes. `heard` changes with everything that arrives.
pub async fn wait(is_here: impl Fn() -> bool, heard: impl Fn() -> u64) {
    let end = Instant::now() + WAIT_MAX;
    let (mut last, mut since) = (heard(), Instant::now());
    while !is_here() && since.elapsed() < SILENCE && Instant::now() < end {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = heard();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it is waited for something of which one arrives every `every` until `last`.
    async fn waits(every: Duration, last: u64) -> Duration {
        let begin = Instant::now();
        let heard = move || ((begin.elapsed().as_millis() / every.as_millis()) as u64).min(last);
        wait(move || heard() >= 10, heard).await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_waited_as_long_as_anything_arrives() {
        let (s, look) = (Duration::from_secs(1), LOOK_EVERY);
        let near = |waited: Duration, expected: Duration| waited >= expected && waited <= expected + 2 * look;
        assert!(near(waits(s, 10).await, 10 * s), "the last one came after ten seconds");
        assert!(near(waits(s, 4).await, 4 * s + SILENCE), "nothing came after the fourth");
        assert!(near(waits(4 * s, 10).await, SILENCE), "nothing came at all");
        assert!(near(waits(5 * s / 2, 100).await, WAIT_MAX.min(25 * s)), "not for ever");
        let begin = Instant::now();
        wait(|| true, || 0).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "nothing is missing");
    }
}
