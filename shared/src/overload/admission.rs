//! Where the valve is cut: from what was offered in a window, what the node can do, and how long foreground waits.
//!
//! The histogram of offered cost is summed from the most important level on, and the cut *jumps* to the largest level whose
//! sum fits the budget `u * mu * T`. A surge of any size is answered in one window (DAGOR's steps of 5 % need 49 windows for
//! 12.5 times the capacity). `mu` is what the node completes while it is saturated; `u` is trimmed by a PI controller on the
//! foreground delay.
//!
//! Two things differ from a single cut over all levels. Background has a floor: its first `floor` of the budget is never
//! given to foreground. And while foreground is cut, background gets the floor and nothing beyond it.
//!
//! `mu` only learns while the node is saturated. A mean of what is completed would sink to the load of a quiet night, and
//! the first surge of the morning would be cut down to it.

use super::level::{BACKGROUND, LEVELS};
use super::valve::{Cut, Edge, Offered};
use crate::Nanos;

/// Work that foreground queues may hold, in time of the whole node: a burst up to it waits instead of being refused.
pub const FOREGROUND_ROOM: Nanos = 12_000_000;

/// Gains and limits of the trim.
const KP: f64 = 0.1;
const KI: f64 = 0.02;
const TRIM_MIN: f64 = 0.5;
const TRIM_MAX: f64 = 1.05;
const STEP_DOWN_MAX: f64 = 0.3;
const STEP_UP_MAX: f64 = 0.01;

/// How fast the capacity follows a window in which more (or less) was completed.
const RISE: f64 = 0.1;
const DECAY: f64 = 0.01;

const SECOND: f64 = 1e9;

/// What a window has shown.
pub struct Window<'a> {
    /// How long it was.
    pub elapsed: Nanos,
    /// Cost offered at each level, admitted or not.
    pub offered: &'a Offered,
    /// Cost completed.
    pub completed: Nanos,
    /// There was more to do than could be done: work waited, or hardly a seat was free.
    pub saturated: bool,
    /// Cost of the foreground work that waits now.
    pub foreground_backlog: Nanos,
    /// How long foreground waits now.
    pub foreground_delay: Nanos,
    /// How long it may.
    pub guard: Nanos,
    /// The most of the node that background may have, 0 to 1.
    pub background_max: f64,
    /// What background always has, 0 to 1.
    pub floor: f64,
}

/// The controller of the cut.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Cost per second that all seats can complete.
    nominal: f64,
    /// Cost per second that the node completes when it is saturated.
    capacity: f64,
    trim: f64,
    error: f64,
}

impl Admission {
    /// For a node with this many seats: each can complete one second of cost in a second.
    pub fn new(seats: u32) -> Self {
        let nominal = f64::from(seats) * SECOND;
        Self { nominal, capacity: nominal, trim: 1.0, error: 0.0 }
    }

    /// The number of seats has changed.
    pub fn set_seats(&mut self, seats: u32) {
        let nominal = f64::from(seats) * SECOND;
        self.capacity *= nominal / self.nominal;
        self.nominal = nominal;
    }

    /// Part of the capacity for which requests are admitted, 0.5 to 1.05.
    pub fn trim(&self) -> f64 {
        self.trim
    }

    /// Cost per second that the node can complete.
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// The cut for the next window.
    pub fn step(&mut self, window: &Window<'_>) -> Cut {
        self.learn(window);
        self.adjust(window);
        let seconds = window.elapsed as f64 / SECOND;
        let budget = self.trim * self.capacity * seconds;
        let floor = window.floor * self.capacity * seconds;
        let (foreground, background) = sums(window.offered);
        let room = self.trim * self.capacity * (FOREGROUND_ROOM as f64 / SECOND);
        let for_foreground =
            (budget - floor.min(background) + room - window.foreground_backlog as f64).max(0.0);
        let cut = edge(window.offered, 0, BACKGROUND, for_foreground);
        let for_background = if cut.below < BACKGROUND {
            floor
        } else {
            (budget - foreground).min(window.background_max * budget).max(floor)
        };
        Cut { foreground: cut, background: edge(window.offered, BACKGROUND, LEVELS as u16, for_background) }
    }

    fn learn(&mut self, window: &Window<'_>) {
        let seconds = window.elapsed as f64 / SECOND;
        if seconds <= 0.0 {
            return;
        }
        let done = window.completed as f64 / seconds;
        // What is not saturated says nothing about the capacity; the estimate goes back to what the seats promise.
        let target = if window.saturated { done } else { self.nominal };
        let gain = if target > self.capacity { RISE } else { DECAY };
        self.capacity += gain * (target - self.capacity);
        self.capacity = self.capacity.clamp(self.nominal * 0.05, self.nominal);
    }

    /// A PI controller in velocity form: it cannot wind up.
    fn adjust(&mut self, window: &Window<'_>) {
        let guard = window.guard.max(1) as f64;
        let error = ((guard - window.foreground_delay as f64) / guard).clamp(-3.0, 1.0);
        let step = KP * (error - self.error) + KI * error;
        self.error = error;
        self.trim = (self.trim + step.clamp(-STEP_DOWN_MAX, STEP_UP_MAX)).clamp(TRIM_MIN, TRIM_MAX);
    }
}

fn sums(offered: &Offered) -> (f64, f64) {
    let (foreground, background) = offered.split_at(usize::from(BACKGROUND));
    let sum = |part: &[Nanos]| part.iter().sum::<Nanos>() as f64;
    (sum(foreground), sum(background))
}

/// The largest part of the levels `from..to` whose cost fits the budget.
fn edge(offered: &Offered, from: u16, to: u16, budget: f64) -> Edge {
    let mut left = budget;
    for (level, cost) in offered.iter().enumerate().take(usize::from(to)).skip(usize::from(from)) {
        let cost = *cost as f64;
        if cost > left {
            let share = (left / cost * 65_536.0).clamp(0.0, 65_535.0);
            return Edge { below: level as u16, share: share as u16 };
        }
        left -= cost;
    }
    Edge::at(to)
}

#[cfg(test)]
mod tests;
