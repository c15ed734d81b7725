//! Buslane itself: the decisions of `buslane_shared::overload`, put together as the session manager puts them together.
//!
//! What is real: classes, levels, claims, valve, lanes, logins with their slots, signals, posture, orders. What is modelled:
//! the sockets and threads that carry it out. It must never decide anything that the real code does not.

mod ticker;

use std::collections::HashMap;

use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::overload::claims::Claims;
use buslane_shared::overload::lanes::{self, JobKey, Lanes, Offer, Seat};
use buslane_shared::overload::level::{Level, Standing};
use buslane_shared::overload::logins::{Ask, Comer, Logins, Places, Verdict, moment};
use buslane_shared::overload::settings::{self, Settings};
use buslane_shared::overload::valve::Valve;
use buslane_shared::slots::Asker;
use buslane_shared::wire::Posture;

use super::job::{Job, JobId, Shows};
use super::node::PROCESSORS;
use super::policy::{Armed, Arrival, Next, Policy, Readings, Refusal, Rejection, Spent, Threads, Told};
use super::random::Random;
use ticker::Ticker;

/// Logins that may be under way at the wake port.
const HANDSHAKES_MAX: u32 = 512;

/// Bytes of a usual request.
const REQUEST_BYTES: u32 = 500;

/// When a refused request is told to come back: once to twice this, by who asks. The session manager's values.
const FOREGROUND_AGAIN: Nanos = 1_000_000_000;
const BACKGROUND_AGAIN: Nanos = 5_000_000_000;

/// When a login is told to come back for which there is no slot: somewhere in this range. The session manager's values.
const LATER: std::ops::Range<Nanos> = 60_000_000_000..300_000_000_000;

/// The node's secret of levels.
const KEY: u64 = 1;

/// A node under Buslane's control.
pub struct Buslane {
    policy: settings::Policy,
    claim_limits: settings::Claims,
    tolerance: Nanos,
    claims: HashMap<u32, Claims>,
    standings: HashMap<u32, Standing>,
    valve: Valve,
    lanes: Lanes,
    logins: Logins,
    ticker: Ticker,
    seats: Seats,
    /// Logins under way at the wake port.
    handshakes: u32,
    random: Random,
}

impl Buslane {
    /// With the default settings, this many seats, and this one of our policies.
    pub fn new(policy: settings::Policy, workers: u32) -> Self {
        let mut settings = Settings { policy, ..Settings::default() };
        settings.lanes.seats = workers;
        Self {
            policy,
            claim_limits: settings.claims,
            tolerance: Nanos::from(settings.background.slot_tolerance_ms) * 1_000_000,
            claims: HashMap::new(),
            standings: HashMap::new(),
            valve: Valve::default(),
            lanes: Lanes::new(&settings),
            logins: Logins::new(&settings.background, PROCESSORS as u32),
            ticker: Ticker::new(&settings),
            seats: Seats::default(),
            handshakes: 0,
            random: Random::new(KEY, 0),
        }
    }

    /// The wake port, before the handshake. Whoever is let in needs no seat: he runs on threads of his own.
    fn at_the_door(&mut self, job: &Job, now: Nanos) -> Arrival {
        let ask = self.ask(job, now);
        self.ticker.asked(ask);
        if self.policy != settings::Policy::Buslane {
            return self.let_in();
        }
        let random = self.random.bits() as u32;
        let asker = (ask != Ask::Stranger).then(|| Asker::from_bits(job.user));
        let places = if self.handshakes < HANDSHAKES_MAX { Places::Free } else { Places::None };
        // The model has no packets that wait: whoever would be held is told his time.
        let who = Comer { ask, asker, places, came: None };
        match self.logins.decide(now, who, self.ticker.posture(), random) {
            Verdict::Admit => self.let_in(),
            Verdict::Defer(grant) => refuse(Rejection::Early, Told::Slot(grant.at)),
            Verdict::Hold(at) => refuse(Rejection::Early, Told::Slot(at)),
            Verdict::Wait => refuse(Rejection::Early, Told::Slot(now + moment(self.random.bits() as u32))),
            Verdict::Later => refuse(
                Rejection::Early,
                Told::At(now + LATER.start + self.random.below(LATER.end - LATER.start)),
            ),
            Verdict::Silence => refuse(Rejection::Silence, Told::Nothing),
        }
    }

    fn let_in(&mut self) -> Arrival {
        if self.handshakes >= HANDSHAKES_MAX {
            return refuse(Rejection::Silence, Told::Nothing);
        }
        self.handshakes += 1;
        Arrival::Run
    }

    fn ask(&self, job: &Job, now: Nanos) -> Ask {
        match job.shows {
            Shows::Slot(at) if now.abs_diff(at) <= self.tolerance => Ask::Slot,
            Shows::Nothing => Ask::Stranger,
            _ if job.protocol == Protocol::Resume => Ask::Resume,
            Shows::Slot(_) | Shows::Pass | Shows::Session => Ask::Pass,
        }
    }

    /// A request of a session, or a person at the foreground port.
    fn inside(&mut self, job: &Job, now: Nanos) -> Arrival {
        let class = self.believed(job, now);
        let standing = self.standing(job.user);
        if !self.valve.admit(job.protocol, Level::new(class, standing), standing.bits) {
            return Arrival::Refuse(self.refusal_of(job.protocol, job.class, now));
        }
        if job.is_login() { Arrival::Run } else { self.offer(job, class, now) }
    }

    /// The class, unless the user claims more than one person can want.
    fn believed(&mut self, job: &Job, now: Nanos) -> Class {
        let claims = self.policy == settings::Policy::Buslane && job.class.is_foreground();
        if claims && !self.claims.entry(job.user).or_default().take(&self.claim_limits, now) {
            return Class::Wake;
        }
        job.class
    }

    fn offer(&mut self, job: &Job, class: Class, now: Nanos) -> Arrival {
        let key = JobKey(job.id.0.into());
        let wanted =
            lanes::Job { key, protocol: job.protocol, class, bytes: REQUEST_BYTES, deadline: job.deadline };
        match self.lanes.offer(wanted, now) {
            Offer::Seated(seat) => {
                self.seats.keep(job.id, seat);
                Arrival::Run
            }
            Offer::Queued => Arrival::Queue,
            Offer::Refused(_) => Arrival::Refuse(self.refusal_of(job.protocol, job.class, now)),
        }
    }

    /// What is said to somebody who is inside already.
    fn refusal_of(&mut self, protocol: Protocol, class: Class, now: Nanos) -> Refusal {
        let rejection = if super::job::is_login(protocol) { Rejection::Late } else { Rejection::Request };
        let again = if class.is_foreground() { FOREGROUND_AGAIN } else { BACKGROUND_AGAIN };
        Refusal { rejection, told: Told::At(now + again + self.random.below(again)) }
    }

    fn standing(&mut self, user: u32) -> Standing {
        *self.standings.entry(user).or_insert_with(|| Standing::of(&user.to_string(), KEY, 0))
    }
}

/// The seats that jobs at work have.
#[derive(Default)]
struct Seats(Vec<Option<Seat>>);

impl Seats {
    fn keep(&mut self, id: JobId, seat: Seat) {
        let place = id.0 as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        if let Some(kept) = self.0.get_mut(place) {
            *kept = Some(seat);
        }
    }

    fn give_back(&mut self, id: JobId) -> Option<Seat> {
        self.0.get_mut(id.0 as usize)?.take()
    }
}

impl Policy for Buslane {
    fn threads(&self) -> Threads {
        Threads::Apart
    }

    fn arm(&mut self, armed: Armed) {
        self.ticker.arm(armed);
    }

    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival {
        if is_at_the_door(job) { self.at_the_door(job, now) } else { self.inside(job, now) }
    }

    fn next(&mut self, now: Nanos) -> Option<Next> {
        let id = |key: JobKey| JobId(key.0 as u32);
        match self.lanes.next(now)? {
            lanes::Next::Start(key, seat) => {
                self.seats.keep(id(key), seat);
                Some(Next::Start(id(key)))
            }
            lanes::Next::Drop(job, _) => {
                Some(Next::Drop(id(job.key), self.refusal_of(job.protocol, job.class, now)))
            }
        }
    }

    fn done(&mut self, job: &Job, spent: Spent, now: Nanos) {
        if is_at_the_door(job) {
            self.handshakes -= 1;
            self.ticker.opened();
        } else if let Some(seat) = self.seats.give_back(job.id) {
            self.ticker.answered(job.protocol, spent.service);
            self.lanes.free(seat, now);
        }
    }

    fn tick(&mut self, now: Nanos, readings: &Readings) {
        let part = ticker::Parts { lanes: &mut self.lanes, valve: &self.valve, logins: &mut self.logins };
        self.ticker.tick(now, readings, self.handshakes, part);
    }

    fn posture(&self) -> Option<Posture> {
        Some(self.ticker.posture())
    }
}

fn is_at_the_door(job: &Job) -> bool {
    job.is_login() && !job.class.is_foreground()
}

fn refuse(rejection: Rejection, told: Told) -> Arrival {
    Arrival::Refuse(Refusal { rejection, told })
}

#[cfg(test)]
mod tests;
