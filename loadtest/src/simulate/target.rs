//! Targets: what Buslane is held to in each scenario, as data.

use super::measure::Row;

/// Which side of its limit a figure must be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// At most the limit.
    AtMost,
    /// At least the limit.
    AtLeast,
}

/// One demand.
#[derive(Clone, Copy)]
pub struct Target {
    /// In words.
    pub what: &'static str,
    /// The figure; none is a miss.
    pub figure: fn(&Row) -> Option<f64>,
    /// Which side.
    pub side: Side,
    /// Of what.
    pub limit: f64,
}

/// How a target fared over all seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The target in words.
    pub what: &'static str,
    /// The worst figure; none where there was none for some seed.
    pub worst: Option<f64>,
    /// The figure of the median seed.
    pub median: Option<f64>,
    /// Whether every seed reached it.
    pub met: bool,
}

impl Target {
    const fn most(what: &'static str, limit: f64, figure: fn(&Row) -> Option<f64>) -> Self {
        Self { what, figure, side: Side::AtMost, limit }
    }

    const fn least(what: &'static str, limit: f64, figure: fn(&Row) -> Option<f64>) -> Self {
        Self { what, figure, side: Side::AtLeast, limit }
    }

    /// Holds it against runs of one policy.
    pub fn find(&self, rows: &[&Row]) -> Finding {
        let mut figures: Vec<Option<f64>> = rows.iter().map(|r| (self.figure)(r)).collect();
        // From good to bad; no figure is the worst.
        figures.sort_by(|a, b| self.badness(*a).total_cmp(&self.badness(*b)));
        let worst = figures.last().copied().flatten();
        let met = worst.is_some_and(|w| match self.side {
            Side::AtMost => w <= self.limit,
            Side::AtLeast => w >= self.limit,
        });
        Finding { what: self.what, worst, median: figures.get(figures.len() / 2).copied().flatten(), met }
    }

    fn badness(&self, figure: Option<f64>) -> f64 {
        match (figure, self.side) {
            (None, _) => f64::INFINITY,
            (Some(f), Side::AtMost) => f,
            (Some(f), Side::AtLeast) => -f,
        }
    }
}

const SUCCESS: Target = Target::least("foreground success >= 99.99 %", 0.9999, |r| Some(r.fg_success));
const DRAIN: Target = Target::most("drained in <= 1.10 of the ideal time", 1.10, |r| r.drain_ratio);
const ATTEMPTS: Target = Target::most("<= 2.1 attempts per deferred login", 2.1, |r| {
    Some(r.attempts_per_deferred_login.unwrap_or(1.0))
});

const fn p99(what: &'static str, limit: f64) -> Target {
    Target::most(what, limit, |r| Some(r.fg_p99_ratio))
}

/// The targets of a scenario.
pub fn targets(scenario: &str) -> Vec<Target> {
    match scenario {
        "pohang" => vec![SUCCESS, p99("foreground p99 <= 1.10x unloaded", 1.10)],
        "gyeongju" => vec![
            Target::most("people protected within 10 ms", 10.0, |r| r.protect_ms),
            Target::most("EMERGENCY within 10 ms", 10.0, |r| r.enter_ms),
            p99("foreground p99 <= 1.15x unloaded", 1.15),
            Target::least("work >= 95 % of what can be done", 0.95, |r| Some(r.work_conservation)),
            DRAIN,
            ATTEMPTS,
        ],
        "worldcup" => vec![
            Target::least("goodput >= 95 % of capacity", 0.95, |r| Some(r.work_conservation)),
            Target::most("p99 of what is admitted <= 2x unloaded", 2.0, |r| Some(r.beside.admitted_ratio)),
        ],
        "metastable" => vec![
            Target::most("99 % goodput within 1 s of the end", 1_000.0, |r| r.beside.goodput_back_ms),
            Target::most("wasted work <= 1 %", 0.01, |r| Some(r.wasted)),
        ],
        "slow-store" => vec![
            SUCCESS,
            Target::least("background keeps its floor of 5 %", 0.05, |r| Some(r.beside.background_share)),
        ],
        "reconnect" => vec![
            DRAIN,
            Target::most("no second failure: <= 2 emergencies", 2.0, |r| Some(r.beside.entries as f64)),
        ],
        "edge" => vec![
            Target::most("<= 1 change of posture a minute", 1.0, |r| Some(r.beside.changes_per_minute)),
            Target::least("goodput >= 97 % of the ideal", 0.97, |r| Some(r.work_conservation)),
        ],
        "calm" => vec![
            Target::most("no foreground is refused", 0.0, |r| Some(r.beside.refusals as f64)),
            Target::most("no emergency", 0.0, |r| Some(r.beside.entries as f64)),
        ],
        "liars" => vec![p99("honest foreground p99 <= 1.2x unloaded", 1.2)],
        "newyear" => vec![
            Target::most("EMERGENCY before the spike", 0.0, |r| r.enter_ms),
            SUCCESS,
            Target::least("left by itself", 1.0, |r| Some(f64::from(u8::from(r.beside.ended_normal)))),
        ],
        _ => Vec::new(),
    }
}
