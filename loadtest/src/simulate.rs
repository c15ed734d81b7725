//! A model of one node and its clients in virtual time, in which the code that decides about load is the real one.
//!
//! It exists so that "better than others" is measured: the rivals stand behind the same trait, get the same calls and pay the
//! same for saying no. A run depends on nothing but its scenario, its policy and its seed, and the same run has the same trace
//! hash. It must never read a clock, and no policy may learn what a job will cost.

mod agenda;
mod buslane;
mod clients;
mod contest;
mod ideal;
mod job;
mod load;
pub mod matrix;
mod measure;
mod node;
mod policy;
pub(crate) mod random;
mod record;
mod rivals;
mod scenario;
mod shape;
mod target;
mod tasks;
mod trace;
pub mod verdict;
mod world;

use buslane_shared::Nanos;

pub use contest::{NAMES as POLICIES, OURS, is_rival};
pub use job::Call;
pub use measure::Row;
pub use node::SEATS;
pub use scenario::{NAMES as SCENARIOS, Scenario};
pub use target::{Finding, targets};
pub use trace::Header;

use ideal::{Ideal, ideal};
use measure::HARMED;
use world::Run;

/// What one scenario asks of every policy: made once, run by many.
pub struct Course {
    scenario: Scenario,
    seed: u64,
    workers: u32,
    calls: Vec<Call>,
    ideal: Ideal,
    undisturbed: Undisturbed,
}

struct Undisturbed {
    scenario: Scenario,
    calls: Vec<Call>,
    ideal: Ideal,
}

/// The number of workers of a node that is so many times the usual one; at least what the settings allow.
pub fn workers(scale: f64) -> u32 {
    ((f64::from(SEATS) * scale).round() as u32).max(SEATS_MIN)
}

/// The least number of seats that the settings allow.
const SEATS_MIN: u32 = 16;

impl Course {
    /// The course of a scenario by name; none where there is no such scenario.
    pub fn new(name: &str, workers: u32, seed: u64) -> Option<Self> {
        let scenario = scenario::known(name)?;
        let calls = load::calls(&scenario, workers, seed);
        Some(Self::with(scenario, calls, workers, seed))
    }

    /// The course of recorded calls.
    pub fn replay(header: &Header, calls: Vec<Call>) -> Option<Self> {
        let scenario = scenario::known(&header.scenario)?;
        Some(Self::with(scenario, calls, header.workers, header.seed))
    }

    fn with(scenario: Scenario, calls: Vec<Call>, workers: u32, seed: u64) -> Self {
        let quiet = scenario.unloaded();
        let quiet_calls = load::calls(&quiet, workers, seed);
        let ideal_quiet = ideal(&quiet, &quiet_calls, workers);
        let ideal = ideal(&scenario, &calls, workers);
        let undisturbed = Undisturbed { scenario: quiet, calls: quiet_calls, ideal: ideal_quiet };
        Self { scenario, seed, workers, calls, ideal, undisturbed }
    }

    /// What happens.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// How its calls are written down.
    pub fn header(&self) -> Header {
        Header {
            version: trace::VERSION,
            scenario: self.scenario.name.to_owned(),
            seed: self.seed,
            workers: self.workers,
            calls: self.calls.len(),
        }
    }

    /// Writes its calls to a file.
    pub fn record(&self, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        trace::write(out, &self.header(), &self.calls)
    }

    /// Runs a policy over it: first undisturbed, to know its usual delays, then in earnest.
    pub fn run(&self, policy: &'static str) -> anyhow::Result<Row> {
        let quiet = &self.undisturbed;
        let usual = self.once(policy, &quiet.scenario, &quiet.calls, &quiet.ideal, Nanos::MAX)?;
        let p99 = measure::p99(&usual.record);
        let late_from = (p99 as f64 * HARMED) as Nanos;
        let outcome = self.once(policy, &self.scenario, &self.calls, &self.ideal, late_from)?;
        Ok(measure::row(&self.scenario, policy, self.seed, self.workers, &outcome, &self.ideal, p99))
    }

    fn once(
        &self,
        policy: &str,
        scenario: &Scenario,
        calls: &[Call],
        ideal: &Ideal,
        late_from: Nanos,
    ) -> anyhow::Result<world::Outcome> {
        let Some(policy) = contest::policy(policy, self.workers) else {
            anyhow::bail!("there is no policy {policy:?}");
        };
        let run = Run { scenario, calls, ideal, workers: self.workers, late_from, seed: self.seed };
        let outcome = world::run(run, policy)?;
        anyhow::ensure!(outcome.attempts.adds_up(), "the model lost an attempt: {:?}", outcome.attempts);
        Ok(outcome)
    }
}

/// Reads a file of recorded calls.
pub fn read_trace(input: impl std::io::BufRead) -> anyhow::Result<(Header, Vec<Call>)> {
    trace::read(input)
}

#[cfg(test)]
mod tests;
