//! What is usual for one rate at each hour of the week, learnt from what was there.
//!
//! Why it exists: a fixed limit is too high at four in the morning and too low on New Year's Eve. The week has 168 hours; each
//! remembers the last five times it came. The usual is the median of them, and how far they are apart says how much of a difference
//! is nothing special: so traffic that grows week by week is no anomaly, and one bad night does not become the usual.
//! Hours are those of UTC. Nothing here reads a clock, and it must say nothing before it knows enough.

use std::collections::VecDeque;

use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};

use super::robust::{median, spread};
use crate::view::{Basis, Trend};

/// Hours of a week, by number since the epoch: hour 0 of a week is 0:00 UTC of a Thursday.
const HOURS: usize = 168;

/// Times that an hour of the week is remembered: two wild ones of five do not move a median.
const WEEKS_MAX: usize = 5;

/// Weeks and days that must be known, so that one wild one is outvoted.
const SEEN_MIN: usize = 3;

/// Days that the same hour is looked for in.
const DAYS: u64 = 7;

/// Hours before this one that are looked at when no week and no days are known.
const LAST_HOURS: u64 = 6;

/// Of these, as many must be known.
const LAST_HOURS_MIN: usize = 2;

/// Minutes of an hour that must be known, so that it counts.
const MINUTES_MIN: usize = 30;

/// Minutes that an hour has; further ones (a clock that was set back) are left out.
const MINUTES_MAX: usize = 60;

/// What is usual is not known better than to a tenth, whatever was measured.
const SPREAD_SHARE_MIN: f64 = 0.1;

/// Differences of less than this are of no importance, per second.
const SPREAD_PER_S_MIN: f64 = 0.5;

/// No rate is higher: what is, comes from a fault and not from a node.
const PER_S_MAX: f64 = 1e12;

/// Over how long the present is measured: what comes at random varies by the root of its number.
const PRESENT_S: f64 = 10.0;

const HOUR_MS: u64 = 3_600_000;

/// The usual of one rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    cells: Vec<VecDeque<Hour>>,
    /// The hour that goes on, since the epoch.
    hour: u64,
    minutes: Vec<f64>,
}

/// An hour that is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hour {
    /// Since the epoch.
    no: u64,
    usual: f64,
    spread: f64,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { cells: vec![VecDeque::new(); HOURS], hour: 0, minutes: Vec::new() }
    }
}

impl Baseline {
    /// Takes over the rate of the minute that has just ended.
    pub fn on_minute(&mut self, at_ms: UnixMs, per_s: f64) {
        let hour = at_ms / HOUR_MS;
        if hour != self.hour {
            self.end_hour();
            self.hour = hour;
        }
        if (0.0..=PER_S_MAX).contains(&per_s) && self.minutes.len() < MINUTES_MAX {
            self.minutes.push(per_s);
        }
    }

    /// How the present compares with the usual; none: too little is known.
    pub fn compare(&self, now_ms: UnixMs, per_s: f64) -> Option<Trend> {
        let hour = now_ms / HOUR_MS;
        let (usual_per_s, measured, basis) =
            self.of_weeks(hour).or_else(|| self.of_days(hour)).or_else(|| self.of_last_hours(hour))?;
        let by_chance = (usual_per_s / PRESENT_S).sqrt();
        let spread_per_s = measured.max(usual_per_s * SPREAD_SHARE_MIN).max(by_chance).max(SPREAD_PER_S_MIN);
        let score = (per_s - usual_per_s) / spread_per_s;
        Some(Trend { usual_per_s, spread_per_s, score, basis })
    }

    /// Whether it can be used: what was read from a disk may have been changed there.
    pub fn is_sound(&self) -> bool {
        // A spread is a distance in another unit: twice as much is enough for it.
        let is_rate = |value: f64| (0.0..=2.0 * PER_S_MAX).contains(&value);
        let mut hours = self.cells.iter().flatten();
        self.cells.len() == HOURS
            && self.cells.iter().all(|cell| cell.len() <= WEEKS_MAX)
            && self.minutes.len() <= MINUTES_MAX
            && self.minutes.iter().all(|value| is_rate(*value))
            && hours.all(|hour| is_rate(hour.usual) && is_rate(hour.spread))
    }

    fn end_hour(&mut self) {
        let minutes = std::mem::take(&mut self.minutes);
        let Some(usual) = median(&minutes).filter(|_| minutes.len() >= MINUTES_MIN) else { return };
        let ended = Hour { no: self.hour, usual, spread: spread(&minutes, usual) };
        let Some(cell) = cell_of(self.hour).and_then(|at| self.cells.get_mut(at)) else { return };
        // A clock that was set back: the hour comes again.
        cell.retain(|hour| hour.no != ended.no);
        cell.push_back(ended);
        if cell.len() > WEEKS_MAX {
            cell.pop_front();
        }
    }

    fn of_weeks(&self, hour: u64) -> Option<(f64, f64, Basis)> {
        let known: Vec<Hour> = self.cell(hour).filter(|known| known.no < hour).copied().collect();
        joined(&known).map(|(usual, spread)| (usual, spread, Basis::HourOfWeek))
    }

    fn of_days(&self, hour: u64) -> Option<(f64, f64, Basis)> {
        let known: Vec<Hour> = (1..=DAYS).filter_map(|day| self.at(hour.checked_sub(day * 24)?)).collect();
        joined(&known).map(|(usual, spread)| (usual, spread, Basis::HourOfDay))
    }

    /// The newest of the last hours, and how far one hour may be from the next at this time of the day.
    fn of_last_hours(&self, hour: u64) -> Option<(f64, f64, Basis)> {
        let known: Vec<Hour> = (1..=LAST_HOURS).filter_map(|ago| self.at(hour.checked_sub(ago)?)).collect();
        let newest = known.first().filter(|_| known.len() >= LAST_HOURS_MIN)?;
        let steps = known.windows(2).filter_map(|pair| match pair {
            [later, earlier] => Some((later.usual - earlier.usual).abs()),
            _ => None,
        });
        let spread = steps.fold(newest.spread, f64::max);
        Some((newest.usual, spread, Basis::LastHours))
    }

    fn cell(&self, hour: u64) -> impl Iterator<Item = &Hour> {
        cell_of(hour).and_then(|at| self.cells.get(at)).into_iter().flatten()
    }

    fn at(&self, hour: u64) -> Option<Hour> {
        self.cell(hour).find(|known| known.no == hour).copied()
    }
}

/// The usual of some hours, if they are enough, and how far they are apart or vary in themselves.
fn joined(hours: &[Hour]) -> Option<(f64, f64)> {
    if hours.len() < SEEN_MIN {
        return None;
    }
    let usuals: Vec<f64> = hours.iter().map(|hour| hour.usual).collect();
    let within: Vec<f64> = hours.iter().map(|hour| hour.spread).collect();
    let usual = median(&usuals)?;
    Some((usual, spread(&usuals, usual).max(median(&within)?)))
}

fn cell_of(hour: u64) -> Option<usize> {
    usize::try_from(hour % HOURS as u64).ok()
}

#[cfg(test)]
mod tests;
