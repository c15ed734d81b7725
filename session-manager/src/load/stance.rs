//! What holds at this node, and what follows for its clients.
//!
//! Why it exists: every answer, welcome and refusal tells the same. It is read without a lock: some readers run on threads that
//! are idle for long, and must not hold up the one that writes. It must never make the node less patient with a client than the
//! client was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use buslane_shared::overload::posture::Source;
use buslane_shared::overload::signals::Cause;
use buslane_shared::slots::Rates;
use buslane_shared::wire::Posture;
use buslane_shared::{Nanos, UnixMs};
use tokio::sync::watch;

/// What holds now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stance {
    pub(crate) posture: Posture,
    pub(crate) since_ms: UnixMs,
    /// What is measured.
    pub(crate) measured: Posture,
    pub(crate) source: Source,
    /// The signal that is worst now, if one is over its guard value; else the one that raised what is measured.
    pub(crate) cause: Option<Cause>,
    /// First admission level that is refused; 1024: none.
    pub(crate) level: u16,
    /// Background logins that the node takes, per second.
    pub(crate) background: Rates,
    /// Until the first free place in the slot ledger.
    pub(crate) ledger_ms: u32,
}

impl Stance {
    /// Of a node that starts.
    pub(crate) fn calm(now_ms: UnixMs) -> Self {
        Self {
            posture: Posture::Normal,
            since_ms: now_ms,
            measured: Posture::Normal,
            source: Source::Measured(None),
            cause: None,
            level: 1024,
            background: Rates::from(0.0),
            ledger_ms: 0,
        }
    }
}

/// The stance, shared by all tasks.
pub(crate) struct Stances {
    now: ArcSwap<Stance>,
    changes: watch::Sender<Posture>,
    /// Until then clients may be as silent as they were told in EMERGENCY; `u64::MAX`: it lasts.
    patient_until: AtomicU64,
}

impl Stances {
    pub(crate) fn new(now_ms: UnixMs) -> Self {
        Self {
            now: ArcSwap::from_pointee(Stance::calm(now_ms)),
            changes: watch::Sender::new(Posture::Normal),
            patient_until: AtomicU64::new(0),
        }
    }

    /// What holds now.
    pub(crate) fn get(&self) -> Stance {
        **self.now.load()
    }

    /// Takes over what holds now. `idle_limit` is the longest time that clients may have been told.
    pub(crate) fn set(&self, stance: Stance, now: Nanos, idle_limit: Duration) {
        let before = self.now.swap(Arc::new(stance)).posture;
        if before == stance.posture {
            return;
        }
        let idle_limit = u64::try_from(idle_limit.as_nanos()).unwrap_or(u64::MAX);
        match (before, stance.posture) {
            (_, Posture::Emergency) => self.patient_until.store(u64::MAX, Ordering::Relaxed),
            // Who was told to be silent for long hears of the change with the next thing he hears.
            (Posture::Emergency, _) => {
                self.patient_until.store(now.saturating_add(idle_limit), Ordering::Relaxed);
            }
            _ => {}
        }
        self.changes.send_replace(stance.posture);
    }

    /// The posture, now and in future.
    pub(crate) fn changes(&self) -> watch::Receiver<Posture> {
        self.changes.subscribe()
    }

    /// Whether clients may still be silent for as long as they were told in EMERGENCY.
    pub(crate) fn is_patient(&self, now: Nanos) -> bool {
        now < self.patient_until.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_was_told_to_be_silent_is_not_taken_for_dead_when_it_is_over() {
        let stances = Stances::new(0);
        let limit = Duration::from_secs(360);
        let set = |posture, now| stances.set(Stance { posture, ..Stance::calm(0) }, now, limit);
        assert!(!stances.is_patient(5));
        set(Posture::Guard, 10);
        assert!(!stances.is_patient(15));
        set(Posture::Emergency, 20);
        assert!(stances.is_patient(u64::MAX - 1));
        set(Posture::Recovery, 1_000);
        set(Posture::Normal, 2_000);
        assert!(stances.is_patient(360_000_000_999));
        assert!(!stances.is_patient(360_000_001_000));
    }
}
