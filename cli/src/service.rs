//! The service manager of this machine (systemd), where there is one: it is told when the process is ready, reads its files
//! again, ends, and that it is alive.
//!
//! Without one, every word goes nowhere. The watchdog is only fed while the threads of the process answer: a process that
//! hangs is restarted, one that merely lacks a peer or a disk is not, because a restart would not bring those back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

/// Whether the process has served yet: whoever reads its files again before it does is not ready for that.
static SERVES: AtomicBool = AtomicBool::new(false);

/// The process serves.
pub fn ready() {
    SERVES.store(true, Ordering::Relaxed);
    tell(&[NotifyState::Ready]);
}

/// The process has read its files again: as ready as it was before.
pub fn reloaded() {
    if SERVES.load(Ordering::Relaxed) {
        tell(&[NotifyState::Ready]);
    }
}

/// The process reads its files again; [`reloaded`] follows. One that still starts is not said to reload: that would be called
/// started.
pub fn reloading() {
    if !SERVES.load(Ordering::Relaxed) {
        return;
    }
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The process ends in order.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, what) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Feeds the watchdog, if the service manager has set one.
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// That of this process.
    pub fn of_this_process() -> Self {
        let mut limit_us = 0;
        if !sd_notify::watchdog_enabled(false, &mut limit_us) || limit_us == 0 {
            return Self(None);
        }
        // Twice in its time, as its manual asks for.
        let mut ticks = tokio::time::interval(Duration::from_micros((limit_us / 2).max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Some(ticks))
    }

    /// Waits until it is to be fed; for ever, where there is none.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(ticks) => {
                ticks.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Feeds it, if the threads of the process answer in time.
    pub async fn feed(&self) {
        let Some(ticks) = &self.0 else { return };
        // On another thread than the one that asks.
        let answer = tokio::spawn(async {});
        if tokio::time::timeout(ticks.period() / 2, answer).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the threads of this process do not answer: the watchdog is not fed");
        }
    }
}
