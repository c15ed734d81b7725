//! All decisions that are made every ten milliseconds, behind one step: readings in, settings of the valve, the lanes and the
//! doors out.
//!
//! Why it exists: the session manager and the simulator must drive the same thing in the same order. It holds no queue and
//! no seat; those who do (valve, lanes, logins) are told what came out.

use super::admission::{Admission, Window};
use super::leftover::{self, Leftover};
use super::level::STEPS;
use super::orders::Orders;
use super::posture::{Change, Source, Stance};
use super::settings::{Policy, Settings};
use super::signals::{Judgement, Readings, Signal, Watch};
use super::surge::Surge;
use super::valve::{Cut, Edge, Offered};
use crate::class::Class;
use crate::wire::Posture;
use crate::{Nanos, UnixMs};

/// How often a step is due.
pub const TICK: Nanos = 10_000_000;

/// How much the mean of busy seats follows a tick: a tenth of a second. Seats are all taken for a moment now and then where
/// 80 % of them are on average, and nobody waits for it.
const SEATS_GAIN: f64 = 0.1;

/// The same for the seats that foreground keeps busy: a second. What is left for background must not jump with each message.
const ERLANGS_GAIN: f64 = 0.01;

/// What a tick has shown.
pub struct Facts<'a> {
    /// The signals, with the moment.
    pub readings: Readings,
    /// Since the step before.
    pub elapsed: Nanos,
    /// Cost offered at each level since the step before.
    pub offered: &'a Offered,
    /// Cost completed since the step before.
    pub completed: Nanos,
    /// Work waits, or hardly a seat is free.
    pub saturated: bool,
    /// Cost of the foreground work that waits.
    pub foreground_backlog: Nanos,
    /// Foreground work as a number of seats that it keeps busy on average.
    pub foreground_erlangs: f64,
    /// Share of the processors that is busy, without what runs only when nothing else wants to.
    pub cpu_share: f64,
    /// Until the first free place in the slot ledger.
    pub ledger: Nanos,
    /// Share of the other nodes' capacity that is in EMERGENCY.
    pub peers_in_emergency: f64,
    /// What operators have ordered.
    pub orders: &'a Orders,
    /// The time of day, for orders.
    pub now_ms: UnixMs,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// For the valve.
    pub cut: Cut,
    /// For the lanes: the most seats of all background together.
    pub background_seats: u32,
    /// For the doors: part of the login rate for those who have no slot.
    pub open: f64,
    /// What holds now.
    pub posture: Posture,
    /// Where that comes from.
    pub source: Source,
    /// What would hold without an order.
    pub measured: Posture,
    /// Where another posture holds than before: that one, and why.
    pub change: Option<Change>,
    /// How bad it is.
    pub judgement: Judgement,
}

/// The decisions of a node.
#[derive(Debug)]
pub struct Brain {
    policy: Policy,
    seats: u32,
    floor: f64,
    watch: Watch,
    surge: Surge,
    admission: Admission,
    leftover: Leftover,
    stance: Stance,
    /// Means of what a single tick shows too much of.
    seats_busy: f64,
    erlangs: f64,
}

impl Brain {
    /// With settings that were checked.
    pub fn new(settings: &Settings) -> Self {
        let background = &settings.background;
        Self {
            policy: settings.policy,
            seats: settings.lanes.seats,
            floor: f64::from(background.floor_percent) / 100.0,
            watch: Watch::new(&settings.thresholds),
            surge: Surge::new(&settings.posture, background.floor_percent),
            admission: Admission::new(settings.lanes.seats),
            leftover: Leftover::new(settings.lanes.seats, background.floor_percent, background.cpu_max),
            stance: Stance::default(),
            seats_busy: 0.0,
            erlangs: 0.0,
        }
    }

    /// Takes over other settings; what was learnt, and the posture, stay.
    pub fn reconfigure(&mut self, settings: &Settings) {
        let background = &settings.background;
        if self.seats != settings.lanes.seats {
            self.seats = settings.lanes.seats;
            self.admission.set_seats(self.seats);
        }
        self.policy = settings.policy;
        self.floor = f64::from(background.floor_percent) / 100.0;
        self.watch.reconfigure(&settings.thresholds);
        self.surge.reconfigure(&settings.posture, background.floor_percent);
        self.leftover.reconfigure(self.seats, background.floor_percent, background.cpu_max);
    }

    /// What holds now.
    pub fn posture(&self) -> Posture {
        self.stance.posture()
    }

    /// The thresholds that apply now, learnt ones included.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// One tick.
    pub fn step(&mut self, facts: &Facts<'_>) -> Outcome {
        let now = facts.readings.now;
        self.seats_busy = follow(self.seats_busy, facts.readings.seats_busy, SEATS_GAIN);
        self.erlangs = follow(self.erlangs, facts.foreground_erlangs, ERLANGS_GAIN);
        let judgement = self.watch.judge(&Readings { seats_busy: self.seats_busy, ..facts.readings });
        self.surge.on_peers(facts.peers_in_emergency);
        self.surge.step(now, judgement.severity, facts.ledger / 1_000_000);
        // A control that is switched off measures on, but nothing follows from it.
        let measured = match self.policy {
            Policy::Buslane => self.surge.posture(),
            Policy::Static | Policy::None => Posture::Normal,
        };
        let change = self.stance.update(measured, judgement.cause, facts.orders, facts.now_ms);
        let (posture, source) = (self.stance.posture(), self.stance.source());
        let background_seats = self.leftover.step(leftover::Facts {
            now,
            foreground_erlangs: self.erlangs,
            severity: judgement.foreground,
            cpu_share: facts.cpu_share,
        });
        let cut = self.cut(facts, background_seats);
        let (cut, background_seats) = match self.policy {
            Policy::Buslane => (cut, background_seats),
            Policy::Static | Policy::None => (Cut::OPEN, self.seats),
        };
        let open = if posture == Posture::Recovery { self.surge.background_share() } else { 1.0 };
        Outcome { cut, background_seats, open, posture, source, measured, change, judgement }
    }

    fn cut(&mut self, facts: &Facts<'_>, background_seats: u32) -> Cut {
        let readings = &facts.readings;
        let guard_ms = self.watch.limits(Signal::Sojourn).guard;
        let mut cut = self.admission.step(&Window {
            elapsed: facts.elapsed,
            offered: facts.offered,
            completed: facts.completed,
            saturated: facts.saturated,
            foreground_backlog: facts.foreground_backlog,
            foreground_delay: readings.sojourn_min.unwrap_or(0).max(readings.foreground_wait),
            guard: (guard_ms * 1e6) as Nanos,
            background_max: f64::from(background_seats) / f64::from(self.seats.max(1)),
            floor: self.floor,
        });
        if self.posture() == Posture::Emergency {
            // What nobody misses is off altogether.
            cut.background = cut.background.min(Edge::at(Class::Pulse as u16 * STEPS));
        }
        cut
    }
}

/// A reading that is no number changes nothing.
fn follow(mean: f64, reading: f64, gain: f64) -> f64 {
    if reading.is_finite() { mean + gain * (reading - mean) } else { mean }
}

#[cfg(test)]
mod tests;
