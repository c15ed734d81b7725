//! What goes into the lanes and what comes out: jobs, seats, and the reasons why a job does not run.

use crate::Nanos;
use crate::class::{Class, Protocol};

/// Who waits: a session in one class has one entry. Chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(pub u64);

/// What wants a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Who waits, if it must.
    pub key: JobKey,
    /// What is to be done.
    pub protocol: Protocol,
    /// How important it is.
    pub class: Class,
    /// What it holds in memory while it waits.
    pub bytes: u32,
    /// When its result is of no use any more.
    pub deadline: Nanos,
}

/// The right to be worked on. It goes back to [`free`](super::Lanes::free), or it is lost for good.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a seat that is not given back is lost"]
pub struct Seat {
    pub(super) class: Class,
    pub(super) protocol: Protocol,
    pub(super) taken_at: Nanos,
}

impl Seat {
    /// Whose part of the seats it belongs to.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What is done on it.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// What became of a job.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// Begin.
    Seated(Seat),
    /// It waits; [`next`](super::Lanes::next) says when it begins, or that it never will.
    Queued,
    /// It does not run here.
    Refused(Why),
}

/// Why a job does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The queue of its class holds as much as it may.
    QueueFull,
    /// Its protocol uses all that it may, and the queue for it is full.
    Cap,
    /// Its class uses all that it may, and its queue is full.
    Ceiling,
    /// Background has all it may have now, and its queue is full.
    Background,
    /// It cannot be done before its deadline.
    Late,
    /// Its deadline has passed.
    Stale,
    /// Its key waits in this class already: a mistake of the caller.
    Twice,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::QueueFull, Self::Cap, Self::Ceiling, Self::Background, Self::Late, Self::Stale, Self::Twice];

    /// Its metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Cap => "cap",
            Self::Ceiling => "ceiling",
            Self::Background => "background",
            Self::Late => "late",
            Self::Stale => "stale",
            Self::Twice => "twice",
        }
    }
}

/// What to do with a job that waited.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin.
    Start(JobKey, Seat),
    /// Turn it away.
    Drop(Job, Why),
}

/// One lane, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneView {
    /// Whose.
    pub class: Class,
    /// Seats in use.
    pub in_use: u32,
    /// Jobs that wait.
    pub waiting: u32,
    /// Bytes that they hold.
    pub bytes: u64,
    /// Seats that are its own whenever it wants them.
    pub guarantee: u32,
    /// Seats that it never exceeds.
    pub ceiling: u32,
    /// What a job costs on average.
    pub mean_cost: Nanos,
    /// How long a job that came now would wait.
    pub predicted_wait: Nanos,
}
