//! What is written down while a run goes on: enough for every figure, and no more than a few numbers a call.

use std::time::Duration;

use buslane_shared::Nanos;

use super::job::{Call, Manner, Sender};
use super::load::depends;
use super::scenario::{DEPENDENCY, Scenario};
use crate::latency::Latencies;

/// Foreground is looked at in windows of this length.
pub const WINDOW: Nanos = 100_000_000;

/// People's calls that were first wanted in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Answered in time.
    pub answered: u32,
    /// Of those: later than the limit.
    pub late: u32,
    /// Refused to the end.
    pub refused: u32,
    /// Given up without an answer.
    pub lost: u32,
}

/// One person's calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Person {
    /// All.
    pub calls: u32,
    /// Answered in time.
    pub answered: u32,
}

/// Phones that were not let in at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deferred {
    /// Those who listen and are in.
    pub logins: u64,
    /// Their attempts.
    pub attempts: u64,
}

/// The record of a run.
#[derive(Debug)]
pub struct Record {
    /// From then on calls count: the start of the surge.
    from: Nanos,
    /// Until then.
    until: Nanos,
    storm: (Nanos, Nanos),
    late_from: Nanos,
    /// Delays of people's calls, from when they were first wanted.
    pub delays: Latencies,
    /// The same from the attempt that was answered: how those fare who are admitted.
    pub admitted: Latencies,
    /// All windows.
    pub windows: Vec<Window>,
    /// All people.
    pub people: Vec<Person>,
    /// Work somebody waited for, done in the time that is judged.
    pub useful: f64,
    /// Workers' time, from the start of the surge on.
    pub spent: f64,
    /// The part of it for which nobody waited any more.
    pub wasted: f64,
    /// Workers' time for background during the surge.
    pub background: f64,
    /// Logins of the storm that are not in yet.
    pub logins_out: u64,
    /// When the last of them was in.
    pub last_login: Nanos,
    /// Phones that were not let in at once.
    pub deferred: Deferred,
    /// Attempts of people that were refused.
    pub refusals: u64,
    /// Rejections of all kinds.
    pub rejections: u64,
}

impl Record {
    /// Of a run of this scenario, judged until `until`; people's answers are late from `late_from` on.
    pub fn new(scenario: &Scenario, until: Nanos, late_from: Nanos) -> anyhow::Result<Self> {
        let people = scenario.streams.iter().filter(|s| s.sender == Sender::Person).map(|s| s.users).max();
        Ok(Self {
            from: scenario.surge.0,
            until: until.max(scenario.surge.1),
            storm: scenario.surge,
            late_from,
            delays: Latencies::default(),
            admitted: Latencies::default(),
            windows: vec![Window::default(); (scenario.horizon / WINDOW) as usize + 1],
            people: vec![Person::default(); people.unwrap_or(0) as usize],
            useful: 0.0,
            spent: 0.0,
            wasted: 0.0,
            background: 0.0,
            logins_out: 0,
            last_login: 0,
            deferred: Deferred::default(),
            refusals: 0,
            rejections: 0,
        })
    }

    /// A call is wanted for the first time.
    pub fn wanted(&mut self, call: &Call) {
        if self.is_of_storm(call) {
            self.logins_out += 1;
        }
    }

    /// An attempt was refused.
    pub fn refused(&mut self, call: &Call) {
        self.rejections += 1;
        if call.sender == Sender::Person && self.counts(call) {
            self.refusals += 1;
        }
    }

    /// A call was answered while its client waited, in the attempt that came at `came`.
    pub fn answered(&mut self, call: &Call, attempts: u32, came: Nanos, now: Nanos) {
        let delay = now - call.at;
        if call.sender == Sender::Person {
            let late = u32::from(delay >= self.late_from);
            if let Some(window) = self.window(call) {
                window.answered += 1;
                window.late += late;
            }
            if self.counts(call) {
                self.delays.record(Duration::from_nanos(delay));
                self.admitted.record(Duration::from_nanos(now - came));
                if let Some(person) = self.people.get_mut(call.user as usize) {
                    person.calls += 1;
                    person.answered += 1;
                }
            }
        }
        if self.is_of_storm(call) {
            self.logins_out -= 1;
            self.last_login = now;
            if attempts > 1 && call.manner == Manner::Obedient {
                self.deferred.logins += 1;
                self.deferred.attempts += u64::from(attempts);
            }
        }
        if (self.from..self.until).contains(&now) {
            self.useful += f64::from(call.cost) + if depends(call) { DEPENDENCY as f64 } else { 0.0 };
        }
    }

    /// A person gave up.
    pub fn given_up(&mut self, call: &Call, after_refusal: bool) {
        if call.sender != Sender::Person {
            return;
        }
        if let Some(window) = self.window(call) {
            if after_refusal { window.refused += 1 } else { window.lost += 1 }
        }
        if self.counts(call)
            && let Some(person) = self.people.get_mut(call.user as usize)
        {
            person.calls += 1;
        }
    }

    /// A worker has done so much work for a call; `wanted`: somebody still waited for it.
    pub fn worked(&mut self, call: &Call, work: Nanos, wanted: bool, now: Nanos) {
        if now < self.from {
            return;
        }
        self.spent += work as f64;
        if !wanted {
            self.wasted += work as f64;
        }
        if call.sender != Sender::Person && (self.storm.0..self.storm.1).contains(&now) {
            self.background += work as f64;
        }
    }

    fn window(&mut self, call: &Call) -> Option<&mut Window> {
        self.windows.get_mut((call.at / WINDOW) as usize)
    }

    fn counts(&self, call: &Call) -> bool {
        (self.from..self.until).contains(&call.at)
    }

    fn is_of_storm(&self, call: &Call) -> bool {
        call.sender == Sender::Phone && call.is_login() && (self.storm.0..self.storm.1).contains(&call.at)
    }
}
