//! How many background logins are usual.
//!
//! A surge is many more than in the minute before, and enough of them to matter. The mean hardly learns while anything is over
//! guard, or the surge would become its own measure; it does not stand still either, or a load that stays would be a surge for
//! ever.

use super::{Readings, Thresholds};
use crate::Nanos;

/// Time constant of the mean.
const TAU_S: f64 = 60.0;

/// While anything is over guard the mean learns this many times more slowly.
const SLOWER: f64 = 10.0;

/// The mean counts as at least this many a second: a multiple of nothing is no number.
const MEAN_MIN_PER_S: f64 = 1.0;

/// A surge within the budget counts as at most this part of the hard value.
const BELOW_HARD_PERCENT: f64 = 99.0;

const S: f64 = 1e9;

/// The mean of background logins over the last minute.
#[derive(Debug, Default)]
pub(super) struct LoginMean {
    /// Of a history that began with nothing: it is too small by the part of it that is not lived yet.
    sum_per_s: f64,
    /// The part that is.
    lived: f64,
    last: Option<Nanos>,
}

impl LoginMean {
    /// How many times the mean is asked for now; 1 where it is less, or does not matter: few, or well within the budget.
    pub(super) fn surge(&self, readings: &Readings, thresholds: &Thresholds) -> f64 {
        let rate = per_s(readings);
        // Nothing is over a budget that is no number.
        let over = rate > thresholds.login_share_min * readings.login_budget_per_s;
        if !over || readings.logins_100ms < thresholds.logins_min {
            return 1.0;
        }
        let times = (rate / self.mean_per_s().max(MEAN_MIN_PER_S)).max(1.0);
        // What the node can take is a reason to look closely, however sudden it is.
        if rate > readings.login_budget_per_s {
            times
        } else {
            times.min(thresholds.logins.hard * BELOW_HARD_PERCENT / 100.0)
        }
    }

    fn mean_per_s(&self) -> f64 {
        if self.lived > 0.0 { self.sum_per_s / self.lived } else { 0.0 }
    }

    pub(super) fn learn(&mut self, readings: &Readings, over_guard: bool) {
        let now = readings.now;
        let elapsed_s = self.last.replace(now).map_or(0, |last| now.saturating_sub(last)) as f64 / S;
        let tau_s = if over_guard { TAU_S * SLOWER } else { TAU_S };
        let gain = 1.0 - (-elapsed_s / tau_s).exp();
        self.sum_per_s += gain * (per_s(readings) - self.sum_per_s);
        self.lived += gain * (1.0 - self.lived);
    }
}

fn per_s(readings: &Readings) -> f64 {
    f64::from(readings.logins_100ms) * 10.0
}
