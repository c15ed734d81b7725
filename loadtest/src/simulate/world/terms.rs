//! What a run is made of, and what it leaves behind.

use buslane_shared::Nanos;
use buslane_shared::wire::Posture;

use crate::simulate::ideal::Ideal;
use crate::simulate::job::Call;
use crate::simulate::record::Record;
use crate::simulate::scenario::Scenario;

/// What a run is made of.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// What happens.
    pub scenario: &'a Scenario,
    /// Who asks for what.
    pub calls: &'a [Call],
    /// What could be done at best.
    pub ideal: &'a Ideal,
    /// Size of the node.
    pub workers: u32,
    /// From which delay on a person's answer is late.
    pub late_from: Nanos,
    /// Of the clients' random numbers.
    pub seed: u64,
}

/// Attempts, by what became of them. Those that are neither are still at the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// All.
    pub made: u64,
    /// Lost before the node saw them.
    pub lost: u64,
    /// Refused when they came.
    pub refused: u64,
    /// Given up while they waited at the node.
    pub dropped: u64,
    /// Done.
    pub done: u64,
    /// Still at the node at the end.
    pub left: u64,
}

impl Attempts {
    /// Whether each is accounted for, once.
    pub fn adds_up(&self) -> bool {
        self.made == self.lost + self.refused + self.dropped + self.done + self.left
    }
}

/// What a run leaves behind.
pub struct Outcome {
    /// What was written down.
    pub record: Record,
    /// What became of the attempts.
    pub attempts: Attempts,
    /// When the posture changed, and to what.
    pub postures: Vec<(Nanos, Posture)>,
    /// Over every event of the run.
    pub digest: u64,
}
