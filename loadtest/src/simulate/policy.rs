//! What a policy of overload control is to the model: the one trait behind which Buslane and its rivals stand.
//!
//! A policy decides about jobs; the node carries them out. What a refusal costs the node is part of the decision, because a
//! design that can say no earlier says it cheaper. It must never learn what a job will cost.

use buslane_shared::Nanos;
use buslane_shared::wire::Posture;

use super::job::{Job, JobId};

/// Processor time of a first packet that is dropped in the socket's filter, without an answer. This and the following three
/// were measured with quinn 0.11.12 on a machine of two processors.
const SILENCE_COST: Nanos = 2_400;

/// Processor time of an answer to a first packet.
const EARLY_COST: Nanos = 11_000;

/// Processor time of a refusal that comes after the handshake.
const LATE_COST: Nanos = 200_000;

/// Processor time of refusing a request of an open session.
const REQUEST_COST: Nanos = 3_000;

/// Where a job is turned away, which is what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// A first packet, without an answer.
    Silence,
    /// A first packet, with an answer.
    Early,
    /// A login, after its handshake.
    Late,
    /// A request of an open session.
    Request,
}

impl Rejection {
    /// Where a server can refuse that only thinks about requests: it must shake hands first.
    pub fn of_request(job: &Job) -> Self {
        if job.is_login() { Self::Late } else { Self::Request }
    }

    /// Its processor time.
    pub fn cost(self) -> Nanos {
        match self {
            Self::Silence => SILENCE_COST,
            Self::Early => EARLY_COST,
            Self::Late => LATE_COST,
            Self::Request => REQUEST_COST,
        }
    }
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing at all.
    Nothing,
    /// That it was refused, and not until when.
    Busy,
    /// When to come back.
    At(Nanos),
    /// When to come back, with a promise to be served then.
    Slot(Nanos),
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Where it happens.
    pub rejection: Rejection,
    /// What is said.
    pub told: Told,
}

impl Refusal {
    /// As a server refuses that only thinks about requests and names no time.
    pub fn busy(job: &Job) -> Self {
        Self { rejection: Rejection::of_request(job), told: Told::Busy }
    }
}

/// What becomes of a job that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The node takes it at once: on a free worker, or behind what was taken before where there is none.
    Run,
    /// The policy keeps it, and hands it out by [`Policy::next`].
    Queue,
    /// It is turned away.
    Refuse(Refusal),
}

/// What a policy does with the jobs that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The node takes it.
    Start(JobId),
    /// It is turned away after all.
    Drop(JobId, Refusal),
}

/// What a job that is done has taken.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// From when the node took it to its end: what a limiter measures.
    pub round_trip: Nanos,
    /// Time of a worker.
    pub service: Nanos,
    /// Jobs at the node when it was taken, itself included.
    pub in_flight: u32,
}

/// What the node shows of itself, every [`TICK`]: shares of the workers' time since the last one.
#[derive(Debug, Clone, Copy)]
pub struct Readings {
    /// Taken by requests and logins of people, and by rejecting them.
    pub front: f64,
    /// Taken by logins of phones that act alone, and by rejecting them.
    pub wake: f64,
}

/// How often a policy is ticked.
pub const TICK: Nanos = 10_000_000;

/// A known event: an order that an operator gave beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// EMERGENCY from then.
    pub from: Nanos,
    /// Until then.
    pub until: Nanos,
}

/// What background work does to foreground on the same machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One runtime and one listener for all.
    Shared,
    /// Logins of phones that act alone, and their refusals, run on threads that only get what the others leave.
    Apart,
}

/// Overload control of one node.
pub trait Policy {
    /// How the node's threads are laid out.
    fn threads(&self) -> Threads {
        Threads::Shared
    }

    /// An operator arms it for a known event. Most have no such thing.
    fn arm(&mut self, _armed: Armed) {}

    /// A job has come.
    fn arrive(&mut self, job: &Job, now: Nanos) -> Arrival;

    /// Asked after every event until there is nothing.
    fn next(&mut self, now: Nanos) -> Option<Next>;

    /// A job is done.
    fn done(&mut self, job: &Job, spent: Spent, now: Nanos);

    /// Every [`TICK`].
    fn tick(&mut self, now: Nanos, readings: &Readings);

    /// The posture, where there is such a thing.
    fn posture(&self) -> Option<Posture> {
        None
    }
}
