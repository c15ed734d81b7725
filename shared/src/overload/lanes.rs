//! Lanes and seats: which job runs now, which waits, which is turned away.
//!
//! A seat is the right to be worked on. Every class has a part of the seats that is its own whenever it wants it (its
//! guarantee) and a part that it never exceeds (its ceiling). What one class does not use is lent to others at once, and comes
//! back with the next seat that is given out: nothing is taken from a job that runs, and no seat stays empty while somebody
//! may have it. Foreground goes first, all background together has a ceiling of its own ([`super::leftover`]) and a floor
//! that nothing takes from it. Control (C0) never waits.
//!
//! Queues are short on purpose. Foreground waits in one that holds [`FOREGROUND_ROOM`] of work, the newest first once the
//! oldest has waited too long (Maurer, "Fail at Scale", ACM Queue 2015: adaptive LIFO); then those that are too many are turned
//! away from the old end, so that jobs which have become slow do not keep out whoever comes now. Background is deferred to a
//! time of its own instead of being queued.
//!
//! All of it stands under one lock of the caller. It never waits, and starts nothing itself: it answers what to start.

mod dispatch;
mod job;
mod room;
mod shares;
mod window;

use crate::Nanos;
use crate::class::{CLASSES, Class, PROTOCOLS, Protocol};
use crate::overload::queue::{Place, Protocols, Queue, bit};
use crate::overload::settings::{Policy, Settings};
use shares::Shares;
use window::{Sojourns, Work};

pub use job::{Job, JobKey, LaneView, Next, Offer, Seat, Why};
pub use room::{
    BACKGROUND_BYTES_MAX, FOREGROUND_BYTES_MAX, FOREGROUND_COUNT_MAX, FOREGROUND_COUNT_MIN, FOREGROUND_ROOM,
    UNSORTED_COUNT_MAX,
};
pub use window::Window;

/// What a job costs on average, before the first one was measured.
const COST_DEFAULT: Nanos = 1_000_000;

/// How much the mean cost follows one job.
const COST_GAIN: f64 = 0.1;

/// After foreground was turned away for lack of seats, background stays within its floor for this long: one decision window.
pub const HUNGER: Nanos = 10_000_000;

/// Once the oldest of a foreground lane has waited this long, the newest go first: those who came last are still there.
pub const NEWEST_FIRST_AFTER: Nanos = 50_000_000;

#[derive(Debug, Clone, Copy)]
struct Lane {
    in_use: u32,
    mean_cost: Nanos,
    /// When it last got a seat, counted in seats.
    last_turn: u64,
}

/// Seats, lanes and what waits in them.
#[derive(Debug)]
pub struct Lanes {
    policy: Policy,
    shares: Shares,
    lanes: [Lane; CLASSES],
    queue: Queue,
    /// The latest moment that was seen.
    now: Nanos,
    in_use: u32,
    background_in_use: u32,
    /// The most that all background together may have now.
    background_seats: u32,
    by_protocol: [u32; PROTOCOLS],
    /// Protocols that use all they may.
    capped: Protocols,
    /// Mean cost; nothing until the first job was measured.
    costs: [Option<Nanos>; PROTOCOLS],
    turn: u64,
    /// Until then background stays within its floor.
    hungry_until: Nanos,
    sojourns: Sojourns,
    work: Work,
}

impl Lanes {
    /// With settings that were checked. Background may have everything until it is told otherwise.
    pub fn new(settings: &Settings) -> Self {
        let idle = Lane { in_use: 0, mean_cost: COST_DEFAULT, last_turn: 0 };
        Self {
            policy: settings.policy,
            shares: Shares::new(settings),
            lanes: [idle; CLASSES],
            queue: Queue::default(),
            now: 0,
            in_use: 0,
            background_in_use: 0,
            background_seats: settings.lanes.seats,
            by_protocol: [0; PROTOCOLS],
            capped: 0,
            costs: [None; PROTOCOLS],
            turn: 0,
            hungry_until: 0,
            sojourns: Sojourns::default(),
            work: Work::default(),
        }
    }

    /// Takes over other settings. Who has a seat keeps it, who waits waits on.
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.policy = settings.policy;
        self.shares = Shares::new(settings);
        for protocol in Protocol::ALL {
            self.note_cap(protocol);
        }
    }

    /// Asks for a seat.
    pub fn offer(&mut self, job: Job, now: Nanos) -> Offer {
        self.advance(now);
        if self.is_exempt(job.class) {
            return Offer::Seated(self.seat(job.class, job.protocol));
        }
        if let Some(why) = self.why_too_late(&job) {
            return Offer::Refused(why);
        }
        if self.queue.find(job.key, job.class).is_some() {
            return Offer::Refused(Why::Twice);
        }
        let others_first = !self.queue.is_empty() && self.pick().is_some();
        if !others_first && self.has_seat_for(job.class, job.protocol) {
            self.note_sojourn(job.class, 0);
            return Offer::Seated(self.seat(job.class, job.protocol));
        }
        match self.why_no_room(&job) {
            None => {
                self.queue.push(job, self.now);
                Offer::Queued
            }
            Some(why) => {
                self.note_hunger(&job, why);
                Offer::Refused(why)
            }
        }
    }

    /// Takes a seat back. Then [`Lanes::next`] is due.
    pub fn free(&mut self, seat: Seat, now: Nanos) {
        self.advance(now);
        let spent = self.now.saturating_sub(seat.taken_at);
        self.work.complete(spent);
        if let Some(cost) = self.costs.get_mut(seat.protocol.index()) {
            *cost = Some(cost.map_or(spent, |mean| follow(mean, spent)));
        }
        self.in_use = self.in_use.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(seat.class.index()) {
            lane.in_use = lane.in_use.saturating_sub(1);
            lane.mean_cost = follow(lane.mean_cost, spent);
        }
        if !seat.class.is_foreground() {
            self.background_in_use = self.background_in_use.saturating_sub(1);
        }
        if let Some(in_use) = self.by_protocol.get_mut(seat.protocol.index()) {
            *in_use = in_use.saturating_sub(1);
        }
        self.note_cap(seat.protocol);
    }

    /// What to do next with those who wait. To be asked again until there is nothing: after a seat came back, after an
    /// offer was queued, after background may have more, and each tick.
    pub fn next(&mut self, now: Nanos) -> Option<Next> {
        self.advance(now);
        if let Some((place, due)) = self.queue.first_due()
            && due <= self.now
        {
            return self.turn_away(place, Why::Stale);
        }
        if let Some((place, why)) = self.one_too_many() {
            return self.turn_away(place, why);
        }
        let place = self.pick()?;
        let waiting = self.queue.get(place)?;
        if let Some(why) = self.why_too_late(&waiting.job) {
            return self.turn_away(place, why);
        }
        let sojourn = self.standing_sojourn(&waiting);
        let job = self.queue.remove(place)?.job;
        self.note_sojourn(job.class, sojourn);
        Some(Next::Start(job.key, self.seat(job.class, job.protocol)))
    }

    /// A job is no longer wanted. Says whether it waited.
    pub fn withdraw(&mut self, key: JobKey, class: Class) -> bool {
        self.queue.find(key, class).and_then(|place| self.queue.remove(place)).is_some()
    }

    /// The most seats that all background together may have; its floor is kept whatever is said here.
    pub fn set_background_seats(&mut self, seats: u32) {
        self.background_seats = seats;
    }

    /// The most seats that all background together may have now.
    pub fn background_seats(&self) -> u32 {
        self.background_limit()
    }

    /// All lanes.
    pub fn snapshot(&self) -> [LaneView; CLASSES] {
        Class::ALL.map(|class| {
            let (share, total) = (self.shares.of(class), self.queue.total(class));
            LaneView {
                class,
                in_use: self.used(class),
                waiting: total.count,
                bytes: total.bytes,
                guarantee: share.guarantee,
                ceiling: share.ceiling,
                mean_cost: self.lanes.get(class.index()).map_or(COST_DEFAULT, |l| l.mean_cost),
                predicted_wait: self.predicted_wait(class),
            }
        })
    }

    /// Seats in use by each protocol.
    pub fn by_protocol(&self) -> [u32; PROTOCOLS] {
        self.by_protocol
    }

    /// All seats.
    pub fn seats(&self) -> u32 {
        self.shares.seats
    }

    /// Seats in use. Control may make it more than there are.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// What a job of this protocol costs on average.
    pub fn cost(&self, protocol: Protocol) -> Nanos {
        self.costs.get(protocol.index()).copied().flatten().unwrap_or(COST_DEFAULT)
    }

    /// Everything that depends on how long a state lasted is counted before the state changes.
    fn advance(&mut self, now: Nanos) {
        let now = now.max(self.now);
        let foreground = self.in_use.saturating_sub(self.background_in_use);
        self.work.pass(now - self.now, foreground);
        self.now = now;
    }

    fn seat(&mut self, class: Class, protocol: Protocol) -> Seat {
        self.in_use += 1;
        self.turn += 1;
        if let Some(lane) = self.lanes.get_mut(class.index()) {
            lane.in_use += 1;
            lane.last_turn = self.turn;
        }
        if !class.is_foreground() {
            self.background_in_use += 1;
        }
        if let Some(in_use) = self.by_protocol.get_mut(protocol.index()) {
            *in_use += 1;
        }
        self.note_cap(protocol);
        Seat { class, protocol, taken_at: self.now }
    }

    fn turn_away(&mut self, place: Place, why: Why) -> Option<Next> {
        let job = self.queue.remove(place)?.job;
        self.note_hunger(&job, why);
        Some(Next::Drop(job, why))
    }

    fn note_cap(&mut self, protocol: Protocol) {
        let in_use = self.by_protocol.get(protocol.index()).copied().unwrap_or(0);
        let cap = self.shares.cap(protocol);
        // A cap of all seats is none: who has them all lacks seats.
        if in_use >= cap && cap < self.shares.seats {
            self.capped |= bit(protocol);
        } else {
            self.capped &= !bit(protocol);
        }
    }

    fn used(&self, class: Class) -> u32 {
        self.lanes.get(class.index()).map_or(0, |l| l.in_use)
    }
}

fn follow(mean: Nanos, spent: Nanos) -> Nanos {
    (mean as f64 + COST_GAIN * (spent as f64 - mean as f64)) as Nanos
}

#[cfg(test)]
mod tests;
