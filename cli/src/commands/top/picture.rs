//! What was heard, and when: everything that is drawn comes from here.

use std::collections::VecDeque;

use buslane_operator::view::{NodeView, Sample, StatusView};
use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};

/// Samples that are kept for the means and the little curve.
const SAMPLES_MAX: usize = 120;

/// Samples of which a rate is the mean: one alone dances too much to be read.
const MEAN_OF: usize = 3;

/// Older than this nothing is called current.
pub const STALE_AFTER_MS: u64 = 3_000;

/// One round of answers. What was not answered is not there.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Heard {
    /// Components, alerts.
    pub status: Option<StatusView>,
    /// The posture of the node, orders.
    pub posture: Option<Posture>,
    /// Its lanes.
    pub lanes: Option<Lanes>,
    /// All processes.
    pub nodes: Option<Vec<NodeView>>,
    /// What was counted since the last round, oldest first.
    pub samples: Vec<Sample>,
    /// Why nothing was heard, if so.
    pub silent: Option<String>,
}

/// `GET /v1/posture`, as far as it is drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Posture {
    /// What holds, where the process controls load.
    pub posture: Option<String>,
    /// "ordered" or "measured".
    pub source: String,
    /// The order in force.
    pub order: Option<Order>,
    /// What this node says about itself.
    pub here: Option<Here>,
}

/// An order, as far as it is drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// Why.
    pub reason: String,
    /// Who.
    pub author: String,
    /// When it ends.
    pub until_ms: UnixMs,
}

/// What a node says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Here {
    /// Its name.
    pub node: String,
    /// Since when its posture holds.
    pub since_ms: UnixMs,
    /// The signal that is over its limit.
    pub cause: Option<Cause>,
}

/// A signal over its limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cause {
    /// Its name.
    pub signal: String,
    /// What was measured.
    pub value: f64,
    /// What it is compared with.
    pub limit: f64,
}

/// `GET /v1/lanes`, as far as it is drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lanes {
    /// All seats.
    pub seats: u32,
    /// One for each class.
    pub lanes: Vec<Lane>,
    /// Those that are used or capped.
    pub protocols: Vec<Protocol>,
}

/// A class's seats.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lane {
    /// "C0" to "C7".
    pub class: String,
    /// What it is.
    pub title: String,
    /// Seats that it has.
    pub in_use: u32,
    /// Jobs that wait.
    pub waiting: u32,
}

/// A protocol's seats.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Protocol {
    /// Its name.
    pub protocol: String,
    /// Seats that it has.
    pub in_use: u32,
    /// The most that it may have.
    pub cap: u32,
    /// What a job costs.
    pub cost_us: u64,
}

/// Everything that was heard last.
#[derive(Debug, Default)]
pub struct Picture {
    /// Components, alerts.
    pub status: Option<StatusView>,
    /// The posture, orders.
    pub posture: Option<Posture>,
    /// The lanes.
    pub lanes: Option<Lanes>,
    /// All processes.
    pub nodes: Vec<NodeView>,
    /// The last samples, oldest first.
    pub samples: VecDeque<Sample>,
    /// When something was heard last, by this machine's clock.
    heard_ms: Option<UnixMs>,
    /// Why not since then.
    pub silent: Option<String>,
}

/// What became of a class's requests, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Split {
    /// Asked for.
    pub offered: f64,
    /// Done.
    pub served: f64,
    /// Told to come back at a time of their own.
    pub deferred: f64,
    /// Refused otherwise.
    pub refused: f64,
}

impl Picture {
    /// Takes over what was heard.
    pub fn hear(&mut self, heard: Heard, now_ms: UnixMs) {
        self.silent = heard.silent;
        if self.silent.is_some() {
            return;
        }
        self.heard_ms = Some(now_ms);
        self.status = heard.status.or(self.status.take());
        self.posture = heard.posture.or(self.posture.take());
        self.lanes = heard.lanes.or(self.lanes.take());
        if let Some(nodes) = heard.nodes {
            self.nodes = nodes;
        }
        let last_ms = self.samples.back().map_or(0, |sample| sample.at_ms);
        self.samples.extend(heard.samples.into_iter().filter(|sample| sample.at_ms > last_ms));
        while self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// For how long nothing was heard, if that is too long.
    pub fn stale_ms(&self, now_ms: UnixMs) -> Option<u64> {
        let age_ms = now_ms.saturating_sub(self.heard_ms.unwrap_or(0));
        (age_ms > STALE_AFTER_MS).then_some(age_ms)
    }

    /// What became of the requests of a class, a mean of the last seconds.
    pub fn split(&self, class: usize) -> Split {
        let from = self.samples.len().saturating_sub(MEAN_OF);
        let recent: Vec<_> =
            self.samples.iter().skip(from).filter_map(|sample| sample.classes.get(class)).collect();
        let count = f64::from(u32::try_from(recent.len().max(1)).unwrap_or(u32::MAX));
        let sum = recent.iter().fold(Split::default(), |sum, sample| Split {
            offered: sum.offered + sample.offered_per_s,
            served: sum.served + sample.served_per_s,
            deferred: sum.deferred + sample.deferred_per_s,
            refused: sum.refused + sample.refused_per_s,
        });
        Split {
            offered: sum.offered / count,
            served: sum.served / count,
            deferred: sum.deferred / count,
            refused: sum.refused / count,
        }
    }

    /// The 99th percentile of a class, where something was done.
    pub fn p99_us(&self, class: usize) -> Option<u64> {
        self.samples.back()?.classes.get(class)?.p99_us
    }

    /// The lane of a class.
    pub fn lane(&self, class: usize) -> Option<&Lane> {
        self.lanes.as_ref()?.lanes.get(class)
    }
}
