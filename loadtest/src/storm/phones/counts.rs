//! What is counted over all clients that come in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::PhonesOutcome;
use super::errand::Ended;
use super::patience::{Manner, Patience};
use crate::storm::lateness::Lateness;
use crate::storm::net::Turned;
use crate::storm::scenario::Side;
use crate::storm::tally::{Outcome, Stream, Tally};

/// A try that begins this late shows that the driver's processor was the bottleneck.
const LATE: Duration = Duration::from_millis(100);

/// The counts so far.
pub struct Counts {
    tally: Tally,
    sums: Sums,
    started_late: Lateness,
    late_seconds: Vec<bool>,
}

#[derive(Default)]
struct Sums {
    deferred: u64,
    slots_promised: u64,
    came_in_slot: u64,
    slots_kept: u64,
    tries_of_deferred: u64,
    obedient_deferred: u64,
    tries_of_obedient_deferred: u64,
    closed_because: BTreeMap<&'static str, u64>,
    drained: u64,
    broken: u64,
}

/// One try.
#[derive(Debug, Clone, Copy)]
pub struct Try {
    /// When it was to begin.
    pub planned: Instant,
    /// When it did.
    pub began: Instant,
    /// Whether it was the first of its client.
    pub is_first: bool,
    /// Whether it showed a slot, in its time.
    pub showed_slot: bool,
}

/// The stream of a login.
pub fn login(side: Side) -> Stream {
    match side {
        Side::Foreground => Stream::LookLogin,
        Side::Background => Stream::WakeLogin,
    }
}

/// The stream of what is asked for then.
pub fn errand(side: Side) -> Stream {
    match side {
        Side::Foreground => Stream::Look,
        Side::Background => Stream::CatchUp,
    }
}

impl Counts {
    /// Nothing so far.
    pub fn new(tally: Tally) -> Self {
        let seconds = tally.timing().seconds();
        Self {
            tally,
            sums: Sums::default(),
            started_late: Lateness::default(),
            late_seconds: vec![false; seconds],
        }
    }

    /// A client wants in since `due`.
    pub fn on_due(&mut self, side: Side, due: Instant) {
        self.tally.on_offered(login(side), due);
    }

    /// A try begins; it is counted in `patience` already.
    pub fn on_try(&mut self, patience: &Patience) {
        if patience.was_deferred {
            self.add_tries(patience.manner, 1);
        }
    }

    /// A try has ended.
    pub fn on_tried(&mut self, tried: &Try) {
        let late = tried.began.saturating_duration_since(tried.planned);
        if tried.is_first {
            self.on_started(tried.planned, late);
        }
        if late > LATE
            && let Some(second) = self.late_seconds.get_mut(self.tally.timing().second(tried.planned))
        {
            *second = true;
        }
        self.sums.came_in_slot += u64::from(tried.showed_slot);
    }

    /// A client that was due had not even begun at the end: the driver was at least so late with it.
    pub fn on_not_begun(&mut self, due: Instant, end: Instant) {
        self.on_started(due, end.saturating_duration_since(due));
    }

    fn on_started(&mut self, due: Instant, late: Duration) {
        self.started_late.record(self.tally.timing().phase(due), late);
    }

    /// A client was given a slot for the first time.
    pub fn on_deferred(&mut self, patience: &Patience) {
        self.sums.deferred += 1;
        self.sums.obedient_deferred += u64::from(patience.manner == Manner::Obedient);
        self.add_tries(patience.manner, patience.tries.into());
    }

    /// A try has ended outside.
    pub fn on_turned(&mut self, side: Side, due: Instant, now: Instant, turned: &Turned) {
        let outcome = match turned {
            Turned::PutOff { slot, .. } => {
                self.sums.slots_promised += u64::from(slot.is_some());
                Outcome::PutOff
            }
            Turned::Refused { name, .. } => Outcome::Refused(name),
            Turned::Silence => Outcome::Failed("silence"),
            Turned::Failed(why) => Outcome::Failed(why),
        };
        self.tally.on_outcome(login(side), due, now, outcome);
    }

    /// A client is in.
    pub fn on_in(&mut self, side: Side, due: Instant, now: Instant, tried: &Try) {
        self.sums.slots_kept += u64::from(tried.showed_slot);
        let latency = now.saturating_duration_since(due);
        self.tally.on_outcome(login(side), due, now, Outcome::Done(latency));
    }

    /// A client is in and asks for something.
    pub fn on_errand_due(&mut self, side: Side, due: Instant) {
        self.tally.on_offered(errand(side), due);
    }

    /// What came of it. A run that ends before leaves it as it is: asked for, and never answered.
    pub fn on_errand(&mut self, side: Side, due: Instant, now: Instant, outcome: Outcome) {
        self.tally.on_outcome(errand(side), due, now, outcome);
    }

    /// A client has left.
    pub fn on_left(&mut self, ended: Option<Ended>) {
        match ended {
            None => {}
            Some(Ended::Closed(why)) => *self.sums.closed_because.entry(why).or_default() += 1,
            Some(Ended::Drained) => self.sums.drained += 1,
            Some(Ended::Broken) => self.sums.broken += 1,
        }
    }

    fn add_tries(&mut self, manner: Manner, tries: u64) {
        self.sums.tries_of_deferred += tries;
        if manner == Manner::Obedient {
            self.sums.tries_of_obedient_deferred += tries;
        }
    }

    /// All of it.
    pub fn finish(self, left_outside: u64, network_late: Lateness) -> PhonesOutcome {
        let Sums {
            deferred,
            slots_promised,
            came_in_slot,
            slots_kept,
            tries_of_deferred,
            obedient_deferred,
            tries_of_obedient_deferred,
            closed_because,
            drained,
            broken,
        } = self.sums;
        PhonesOutcome {
            tally: self.tally,
            deferred,
            slots_promised,
            came_in_slot,
            slots_kept,
            tries_of_deferred,
            obedient_deferred,
            tries_of_obedient_deferred,
            left_outside,
            closed_because,
            drained,
            broken,
            started_late: self.started_late,
            network_late,
            saturated_s: self.late_seconds.iter().filter(|late| **late).count() as u64,
        }
    }
}
