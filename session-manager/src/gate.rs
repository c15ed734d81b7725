//! Whether a background login may begin, as both ends see it: the port that asks for every first packet, and the loop that knows
//! the load.
//!
//! Why it exists: the books of [`Logins`] are kept on threads that run only when nothing else wants to, and a thread that waits
//! for such a one waits long. So whoever is of normal priority must never wait here: it tries, and tries again in the
//! next round; what it reads are atomics.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use buslane_shared::Nanos;
use buslane_shared::overload::logins::{Ask, Comer, Logins, Verdict};
use buslane_shared::overload::rate::Window;
use buslane_shared::overload::settings::{Policy, Settings};
use buslane_shared::slots::{Asker, Rates};
use buslane_shared::wire::Posture;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The gate of a node.
pub(crate) struct Gate {
    start: Instant,
    logins: Mutex<Logins>,
    posture: AtomicU8,
    policy: AtomicU8,
    draining: AtomicBool,
    /// Bits of the rate, per second.
    per_s: AtomicU64,
    /// The same of what it will be in a while.
    later_per_s: AtomicU64,
    /// Up to when slots are promised, since the start.
    promised: AtomicU64,
    /// First packets since that was asked last, without those that came in their slots (they were invited) and without
    /// strangers who were turned away.
    asked: AtomicU32,
    /// Background sessions opened or continued since that was asked last.
    opened: AtomicU32,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Self {
        let processors = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let logins = Logins::new(&settings.background, processors);
        Self {
            start: Instant::now(),
            posture: AtomicU8::new(Posture::Normal as u8),
            policy: AtomicU8::new(settings.policy as u8),
            draining: AtomicBool::new(false),
            per_s: AtomicU64::new(logins.rates().now.to_bits()),
            later_per_s: AtomicU64::new(logins.rates().later.to_bits()),
            promised: AtomicU64::new(0),
            asked: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            logins: Mutex::new(logins),
        }
    }

    /// Whether whoever shows nothing has no business at the front port.
    pub(crate) fn needs_passes(&self) -> bool {
        self.policy.load(Ordering::Relaxed) != Policy::None as u8
    }

    /// Whether anything is measured by which logins could be turned away.
    fn is_measured(&self) -> bool {
        self.policy.load(Ordering::Relaxed) == Policy::Buslane as u8
    }

    /// Decides about somebody at the door. For threads of the background port.
    pub(crate) fn decide(&self, who: Comer, now: Instant) -> Verdict {
        let (verdict, ask) = (self.verdict(who, now), who.ask);
        // Nobody without a pass raises a posture: of strangers those count who are let in.
        if matches!(ask, Ask::Pass | Ask::Resume) || (ask == Ask::Stranger && verdict == Verdict::Admit) {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    fn verdict(&self, who: Comer, now: Instant) -> Verdict {
        // A node that drains promises nothing: the door tells everybody to go elsewhere.
        if !self.is_measured() || self.draining.load(Ordering::Relaxed) {
            return Verdict::Admit;
        }
        let mut logins = self.logins.lock();
        let verdict = logins.decide(self.nanos(now), who, self.posture(), rand::random());
        self.publish(&logins, now);
        verdict
    }

    /// Decides about somebody who is inside already and cannot be served. For threads of the background port.
    pub(crate) fn defer(&self, asker: Option<Asker>, now: Instant) -> Verdict {
        let mut logins = self.logins.lock();
        let verdict = logins.defer(self.nanos(now), asker, rand::random());
        self.publish(&logins, now);
        verdict
    }

    /// Somebody was let in with his slot. For threads of the background port.
    pub(crate) fn on_slot(&self, asker: Asker, now: Instant) {
        self.logins.lock().redeem(asker, self.nanos(now));
    }

    /// A background session was opened or continued.
    pub(crate) fn on_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// First packets without a slot since the last call.
    pub(crate) fn take_asked(&self) -> u32 {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Background sessions opened or continued since the last call.
    pub(crate) fn take_opened(&self) -> u32 {
        self.opened.swap(0, Ordering::Relaxed)
    }

    /// Takes a window of about 100 ms into account. False: the books were in use; the window is to be given again, with what
    /// follows it.
    #[must_use]
    pub(crate) fn step(&self, window: Window, open: f64, now: Instant) -> bool {
        self.try_write(now, |logins| {
            logins.tidy(self.nanos(now));
            logins.step(window, open, self.posture());
        })
    }

    /// Takes over other settings.
    #[must_use]
    pub(crate) fn reconfigure(&self, settings: &Settings, now: Instant) -> bool {
        self.policy.store(settings.policy as u8, Ordering::Relaxed);
        self.try_write(now, |logins| logins.reconfigure(&settings.background))
    }

    /// Nobody is let in: the node is being stopped, or an operator lets it drain.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Everybody is welcome again.
    pub(crate) fn end_drain(&self) {
        self.draining.store(false, Ordering::Relaxed);
    }

    /// The posture has changed.
    pub(crate) fn set_posture(&self, posture: Posture) {
        self.posture.store(posture as u8, Ordering::Relaxed);
    }

    /// Background logins that the node takes, per second: now and in a while.
    pub(crate) fn rates(&self) -> Rates {
        let read = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
        Rates { now: read(&self.per_s), later: read(&self.later_per_s) }
    }

    /// Until the first free place in the ledger.
    pub(crate) fn ledger_length(&self, now: Instant) -> Nanos {
        self.promised.load(Ordering::Relaxed).saturating_sub(self.nanos(now))
    }

    /// When this is, of the gate's own times.
    pub(crate) fn instant(&self, at: Nanos) -> Instant {
        self.start + Duration::from_nanos(at)
    }

    /// When this is, since the gate began.
    pub(crate) fn nanos(&self, at: Instant) -> Nanos {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn posture(&self) -> Posture {
        Posture::try_from(i32::from(self.posture.load(Ordering::Relaxed))).unwrap_or_default()
    }

    fn try_write(&self, now: Instant, change: impl FnOnce(&mut Logins)) -> bool {
        let Some(mut logins) = self.logins.try_lock() else { return false };
        change(&mut logins);
        self.publish(&logins, now);
        true
    }

    fn publish(&self, logins: &Logins, now: Instant) {
        let now = self.nanos(now);
        let rates = logins.rates();
        self.per_s.store(rates.now.to_bits(), Ordering::Relaxed);
        self.later_per_s.store(rates.later.to_bits(), Ordering::Relaxed);
        self.promised.store(now.saturating_add(logins.ledger_length(now)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use buslane_shared::overload::logins::Places;

    use super::*;

    fn comer(ask: Ask) -> Comer {
        Comer { ask, asker: None, places: Places::Free, came: None }
    }

    fn gate(policy: Policy) -> Gate {
        Gate::new(&Settings { policy, ..Settings::default() })
    }

    #[test]
    fn what_is_promised_is_seen_by_those_who_never_wait() {
        let (gate, now) = (gate(Policy::Buslane), Instant::now());
        gate.set_posture(Posture::Emergency);
        assert_eq!(gate.ledger_length(now), 0);
        let is_put_off = |_| matches!(gate.decide(comer(Ask::Pass), now), Verdict::Defer(_));
        assert!((0..1_000).any(is_put_off), "what is left over is not for all");
        let one = gate.ledger_length(now);
        assert!(one > 0);
        assert!(matches!(gate.defer(None, now), Verdict::Defer(_)));
        assert!(gate.ledger_length(now) > one);
        assert_eq!(gate.ledger_length(now + Duration::from_secs(2)), 0);
        let books = gate.logins.lock();
        assert!(!gate.reconfigure(&Settings::default(), now), "in use");
        drop(books);
        assert!(gate.rates().now > 0.0);
    }

    #[test]
    fn a_node_that_drains_promises_nothing() {
        let (gate, now) = (gate(Policy::Buslane), Instant::now());
        gate.set_posture(Posture::Emergency);
        gate.begin_drain();
        assert_eq!(gate.decide(comer(Ask::Pass), now), Verdict::Admit, "to hear that it must go elsewhere");
        assert_eq!(gate.ledger_length(now), 0);
        gate.end_drain();
        let is_put_off = |_| matches!(gate.decide(comer(Ask::Pass), now), Verdict::Defer(_));
        assert!((0..1_000).any(is_put_off), "it is what it was");
    }

    #[test]
    fn without_measuring_nobody_is_turned_away() {
        for (policy, needs_passes) in [(Policy::Static, true), (Policy::None, false)] {
            let gate = gate(policy);
            gate.set_posture(Posture::Emergency);
            assert_eq!(gate.decide(comer(Ask::Stranger), Instant::now()), Verdict::Admit);
            assert_eq!(gate.needs_passes(), needs_passes);
        }
        let gate = gate(Policy::None);
        assert!(gate.reconfigure(&Settings::default(), Instant::now()));
        assert!(gate.needs_passes());
    }
}
