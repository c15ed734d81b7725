//! Scenarios: who asks for how much and when, and what goes wrong meanwhile.
//!
//! Loads are multiples of what the node can do. A scenario knows nothing of policies.

mod known;

use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};

use super::job::Sender;
use super::policy::Armed;
use super::shape::Shape;

pub use known::{NAMES, known};

/// A kind of call, and how often it is one of a stream's.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its part of the stream's calls.
    pub weight: f64,
    /// What is asked for.
    pub protocol: Protocol,
    /// The class that the client's claim gives it.
    pub class: Class,
    /// Mean time of a seat, ns. Half of it is the same for all, the other half is exponentially distributed.
    pub cost: f64,
}

/// Calls of one sort, open loop: they come whether the node keeps up or not.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Who asks.
    pub sender: Sender,
    /// What they ask.
    pub kinds: Vec<Kind>,
    /// How many there are: each call is one of theirs, or 0 where each call is somebody else's.
    pub users: u32,
    /// How much work they bring.
    pub load: Shape,
}

impl Stream {
    /// Mean cost of a call.
    pub fn mean_cost(&self) -> f64 {
        let weights: f64 = self.kinds.iter().map(|k| k.weight).sum();
        self.kinds.iter().map(|k| k.weight * k.cost).sum::<f64>() / weights
    }
}

/// How long people wait, and how often they try.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an answer to one attempt.
    pub attempt: Nanos,
    /// For success, from the moment it was wanted.
    pub total: Nanos,
    /// Attempts.
    pub tries_max: u32,
}

/// A time during which something is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// From then.
    pub from: Nanos,
    /// Until then.
    pub until: Nanos,
    /// What workers do meanwhile, as a part of what they usually do.
    pub speed: f64,
    /// How long what background depends on takes meanwhile.
    pub dependency: Nanos,
}

/// How long what background syncs depend on usually takes.
pub const DEPENDENCY: Nanos = 2_000_000;

/// One scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, for people.
    pub what: &'static str,
    /// How long it runs.
    pub horizon: Nanos,
    /// When it gets worse than usual, and until when more comes than can be done.
    pub surge: (Nanos, Nanos),
    /// Until when work conservation is judged where nobody is to be served after the surge; otherwise until the ideal node
    /// has caught up.
    pub judged_until: Option<Nanos>,
    /// How long people wait.
    pub patience: Patience,
    /// Part of the clients that do not listen.
    pub naive: f64,
    /// Who asks for what.
    pub streams: Vec<Stream>,
    /// What goes wrong.
    pub trouble: Option<Trouble>,
    /// What the operator knew beforehand.
    pub armed: Option<Armed>,
}

impl Scenario {
    /// What workers do now, as a part of what they usually do.
    pub fn speed(&self, now: Nanos) -> f64 {
        self.trouble_at(now).map_or(1.0, |t| t.speed)
    }

    /// How long the dependency takes now.
    pub fn dependency(&self, now: Nanos) -> Nanos {
        self.trouble_at(now).map_or(DEPENDENCY, |t| t.dependency)
    }

    fn trouble_at(&self, now: Nanos) -> Option<Trouble> {
        self.trouble.filter(|t| (t.from..t.until).contains(&now))
    }

    /// The same people, undisturbed and alone: what their delays are held against.
    pub fn unloaded(&self) -> Self {
        let streams = self
            .streams
            .iter()
            .filter(|s| s.sender == Sender::Person)
            .map(|s| Stream { load: Shape::level(s.load.at(0)), ..s.clone() });
        Self {
            horizon: UNLOADED,
            surge: (0, UNLOADED),
            streams: streams.collect(),
            trouble: None,
            armed: None,
            ..self.clone()
        }
    }
}

/// How long the undisturbed run is.
const UNLOADED: Nanos = 10_000_000_000;
