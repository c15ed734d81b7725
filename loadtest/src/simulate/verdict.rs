//! Who is ahead of whom in a scenario, and at what price.

use super::contest::{OURS, is_rival};
use super::measure::Row;

/// Differences below these are none: two runs of the same idea differ by as much.
const SAME_SUCCESS: f64 = 0.0001;
const SAME_RATIO: f64 = 0.01;
const SAME_DRAIN: f64 = 0.01;

/// The middle and the worst of a policy's seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Of the middle seed.
    pub median: f64,
    /// Of the worst seed.
    pub worst: f64,
}

/// A figure's middle and worst where more is better (`-1`) or less is (`1`). None counts as the worst there is.
fn spread(rows: &[&Row], figure: impl Fn(&Row) -> Option<f64>, sign: f64) -> Spread {
    let mut figures: Vec<f64> = rows.iter().map(|r| figure(r).unwrap_or(sign * f64::INFINITY)).collect();
    figures.sort_by(|a, b| (sign * a).total_cmp(&(sign * b)));
    let nth = |n: usize| figures.get(n).copied().unwrap_or(f64::NAN);
    Spread { median: nth(figures.len() / 2), worst: nth(figures.len().saturating_sub(1)) }
}

/// Of a figure of which less is better.
pub fn least(rows: &[&Row], figure: impl Fn(&Row) -> Option<f64>) -> Spread {
    spread(rows, figure, 1.0)
}

/// Of a figure of which more is better.
pub fn most(rows: &[&Row], figure: impl Fn(&Row) -> Option<f64>) -> Spread {
    spread(rows, figure, -1.0)
}

/// The three figures that decide, median over the seeds.
#[derive(Debug, Clone, Copy)]
struct Standing {
    success: f64,
    ratio: f64,
    drain: f64,
}

impl Standing {
    fn of(rows: &[&Row]) -> Self {
        Self {
            success: most(rows, |r| Some(r.fg_success)).median,
            ratio: least(rows, |r| Some(r.fg_p99_ratio)).median,
            drain: least(rows, |r| r.drain_ratio).median,
        }
    }
}

/// In which figures a rival is ahead of us, and what it pays for that.
pub fn verdict(rows: &[Row]) -> Vec<String> {
    let of = |policy: &str| -> Vec<&Row> { rows.iter().filter(|r| r.policy == policy).collect() };
    let ours = of(OURS);
    if ours.is_empty() {
        return Vec::new();
    }
    let ours = Standing::of(&ours);
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|r| is_rival(r.policy)) {
        if !names.contains(&row.policy) {
            names.push(row.policy);
        }
    }
    names.into_iter().flat_map(|name| behind(&ours, name, &Standing::of(&of(name)))).collect()
}

fn behind(ours: &Standing, name: &str, theirs: &Standing) -> Vec<String> {
    let mut found = Vec::new();
    let price = price(ours, theirs);
    if theirs.success > ours.success + SAME_SUCCESS {
        let (we, they) = (percent(ours.success), percent(theirs.success));
        found.push(format!("{name} is ahead on success: {they} against {we}; {price}"));
    }
    if theirs.ratio < ours.ratio * (1.0 - SAME_RATIO) {
        found.push(format!(
            "{name} is ahead on p99: {:.2}x against {:.2}x; {price}",
            theirs.ratio, ours.ratio
        ));
    }
    if theirs.drain < ours.drain * (1.0 - SAME_DRAIN) {
        found.push(format!(
            "{name} is ahead on drain: {:.2} against {:.2}; {price}",
            theirs.drain, ours.drain
        ));
    }
    found
}

fn price(ours: &Standing, theirs: &Standing) -> String {
    let mut paid = Vec::new();
    if theirs.success < ours.success - SAME_SUCCESS {
        paid.push(format!(
            "it serves {} of foreground, we {}",
            percent(theirs.success),
            percent(ours.success)
        ));
    }
    if theirs.ratio > ours.ratio * (1.0 + SAME_RATIO) {
        paid.push(format!("its p99 is {:.2}x, ours {:.2}x", theirs.ratio, ours.ratio));
    }
    if theirs.drain > ours.drain * (1.0 + SAME_DRAIN) {
        paid.push(match theirs.drain.is_finite() {
            true => format!("it drains in {:.2} of the ideal time, we in {:.2}", theirs.drain, ours.drain),
            false => format!("it does not drain, we do in {:.2} of the ideal time", ours.drain),
        });
    }
    if paid.is_empty() { "it pays nothing for that".into() } else { paid.join("; ") }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::measure::Beside;

    fn row(policy: &'static str, fg_success: f64, fg_p99_ratio: f64, drain_ratio: Option<f64>) -> Row {
        Row {
            scenario: "calm",
            policy,
            seed: 1,
            fg_success,
            fg_p99_ratio,
            fg_p99_ms: 5.0,
            protect_ms: None,
            enter_ms: None,
            drain_ratio,
            attempts_per_deferred_login: None,
            wasted: 0.0,
            posture_changes: 0,
            work_conservation: 1.0,
            jain: 1.0,
            trace_hash: String::new(),
            beside: Beside {
                admitted_ratio: 1.0,
                goodput_back_ms: None,
                background_share: 0.0,
                refusals: 0,
                entries: 0,
                ended_normal: true,
                changes_per_minute: 0.0,
            },
        }
    }

    #[test]
    fn the_middle_and_the_worst_of_the_seeds() {
        let rows = [row("a", 0.9, 1.0, Some(1.0)), row("a", 0.8, 3.0, None), row("a", 1.0, 2.0, Some(2.0))];
        let rows: Vec<&Row> = rows.iter().collect();
        assert_eq!(most(&rows, |r| Some(r.fg_success)), Spread { median: 0.9, worst: 0.8 });
        assert_eq!(least(&rows, |r| Some(r.fg_p99_ratio)), Spread { median: 2.0, worst: 3.0 });
        assert_eq!(least(&rows, |r| r.drain_ratio), Spread { median: 2.0, worst: f64::INFINITY });
    }

    #[test]
    fn where_a_rival_is_ahead_is_said_with_its_price() {
        let said = verdict(&[
            row("buslane", 1.0, 1.10, Some(1.05)),
            row("static", 1.0, 1.0, Some(1.0)),
            row("vegas", 0.5, 1.05, Some(1.05)),
            row("fifo", 1.0, 9.0, None),
            row("apf", 1.0, 1.105, Some(0.9)),
        ]);
        assert_eq!(
            said,
            [
                "vegas is ahead on p99: 1.05x against 1.10x; it serves 50.00 % of foreground, we 100.00 %",
                "apf is ahead on drain: 0.90 against 1.05; it pays nothing for that",
            ]
        );
        assert!(verdict(&[row("vegas", 0.5, 1.05, None)]).is_empty(), "we were not there");
    }
}
