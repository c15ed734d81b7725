//! Too much load, as it shows: the posture, refused foreground, slow talk, starved background, unusual numbers.
//!
//! These are faces of one thing, so only the first of the chain is a cause and says what the others show.

use std::sync::Arc;

use super::{Standing, Trouble, listed};
use crate::status::alerts;
use crate::status::facts::{Facts, Heard, Manager, Seats};
use crate::status::graph::Blame;
use crate::status::judge;
use crate::view::{Basis, Sample, Severity, Trend};

/// Seconds over which refusals and latencies are looked at.
pub const WINDOW: usize = 10;

/// Seconds that must be known of them.
const WINDOW_KNOWN: usize = 8;

/// Share of foreground that may be refused.
const REFUSED_SHARE_MAX: f64 = 0.001;

/// Refusals that may happen however little is asked for: one is no trend.
const REFUSED_MIN: f64 = 3.0;

/// Seconds of the window in which some must be refused: a surge that costs one or two of them is what GUARD is for, and is over
/// before anybody could do anything.
const REFUSED_SECONDS_MIN: usize = 3;

/// The 99th percentile that talk may have.
const TALK_P99_US_MAX: u64 = 250_000;

/// Background's floor, as a share of the seats.
const FLOOR_SHARE: f64 = 0.05;

/// Background that must have been asked for before its absence means something.
const STARVED_OFFERED_MIN: f64 = 20.0;

/// Classes that somebody looks at; the others are background.
const FOREGROUND_CLASSES: usize = 4;

/// The class of talk.
const TALK: usize = 1;

/// How many spreads away from the usual is unusual.
const SCORE_MAX: f64 = 4.0;

pub fn troubles(facts: &Facts, blame: &Blame) -> Vec<Trouble> {
    let backend_fails = blame.contains_key("backend");
    let mut chain: Vec<Trouble> = [
        emergency(facts, backend_fails),
        refused(facts, backend_fails),
        slow(facts, backend_fails),
        starved(facts, backend_fails),
        guard(facts, backend_fails),
        unusual(facts.seconds.last().and_then(|s| s.logins.trend), facts, &alerts::LOGINS, "logins"),
        unusual(facts.seconds.last().and_then(|s| s.messages_trend), facts, &alerts::MESSAGES, "messages"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Some(first) = chain.iter().position(|trouble| trouble.standing == Standing::Cause) else {
        return chain;
    };
    let (head, faces) = chain.split_at_mut(first + 1);
    for face in faces.iter_mut() {
        if let Some(head) = head.last_mut() {
            head.why = format!("{}; {}: {}", head.why, face.title.to_lowercase(), face.why);
            head.severity = head.severity.max(face.severity);
        }
        face.standing = Standing::Effect;
    }
    chain
}

fn effect_if(of_another: bool) -> Standing {
    if of_another { Standing::Effect } else { Standing::Cause }
}

/// Those whose word is fresh and who measure this; what is ordered is meant.
fn measuring<'a>(facts: &'a Facts, posture: &str) -> Vec<&'a Manager> {
    let is_it = |one: &&Manager| one.measured == posture && one.age_ms <= judge::FRESH_MS;
    facts.managers.iter().filter(is_it).collect()
}

fn in_posture(facts: &Facts, those: &[&Manager], posture: &str) -> (String, String) {
    let whys: Vec<String> = those
        .iter()
        .map(|one| format!("{}: {}", one.node, one.cause.as_deref().unwrap_or("it did not say why")))
        .collect();
    let title = match facts.managers.len() {
        1 => format!("{posture} holds"),
        all => format!("{posture} holds on {} of {all} session managers", those.len()),
    };
    (title, listed(&whys))
}

/// Whether the backend is what makes it wait; who did not say why is taken for one of them when the backend fails.
fn waits_for_backend(one: &Manager) -> bool {
    one.cause.as_deref().is_none_or(|why| why.starts_with("dependency") || why.starts_with("timeouts"))
}

fn components(those: &[&Manager]) -> Vec<String> {
    those.iter().map(|one| format!("session-manager:{}", one.node)).collect()
}

fn emergency(facts: &Facts, backend_fails: bool) -> Option<Trouble> {
    let those = measuring(facts, "emergency");
    let recovering = measuring(facts, "recovery");
    let is_effect = backend_fails && those.iter().chain(&recovering).all(|one| waits_for_backend(one));
    let (shown, standing) = match (those.is_empty(), recovering.is_empty()) {
        (false, _) => (those, effect_if(is_effect)),
        (true, false) if is_effect => (recovering, Standing::Effect),
        (true, false) => (recovering, Standing::Lingering),
        (true, true) => return None,
    };
    let posture = if standing == Standing::Lingering { "RECOVERY" } else { "EMERGENCY" };
    let (title, why) = in_posture(facts, &shown, posture);
    let affects = components(&shown);
    Some(Trouble { rule: &alerts::EMERGENCY, severity: Severity::High, title, why, affects, standing })
}

fn guard(facts: &Facts, backend_fails: bool) -> Option<Trouble> {
    let those = measuring(facts, "guard");
    if those.is_empty() {
        return None;
    }
    let standing = effect_if(backend_fails && those.iter().all(|one| waits_for_backend(one)));
    let (title, why) = in_posture(facts, &those, "GUARD");
    let affects = components(&those);
    Some(Trouble { rule: &alerts::GUARD, severity: Severity::Low, title, why, affects, standing })
}

/// The last seconds, if enough of them are known and the newest is one of them.
fn window(facts: &Facts) -> Option<&[Arc<Sample>]> {
    let since_ms = facts.now_ms.saturating_sub(1_000 * (WINDOW as u64 + 1));
    let from = facts.seconds.iter().position(|second| second.at_ms >= since_ms)?;
    facts.seconds.get(from..).filter(|known| known.len() >= WINDOW_KNOWN)
}

/// A sum over the window and over some classes.
fn sum(window: &[Arc<Sample>], side: Side, of: impl Fn(&crate::view::ClassSample) -> f64) -> f64 {
    let in_second = |second: &Arc<Sample>| {
        let seconds = f64::from(second.span_ms) / 1e3;
        let (front, back) = second.classes.split_at(FOREGROUND_CLASSES.min(second.classes.len()));
        let classes = match side {
            Side::Foreground => front,
            Side::Background => back,
        };
        classes.iter().map(&of).sum::<f64>() * seconds
    };
    window.iter().map(in_second).sum()
}

#[derive(Clone, Copy)]
enum Side {
    Foreground,
    Background,
}

fn here(facts: &Facts) -> Vec<String> {
    let own = facts.managers.iter().filter(|one| one.heard == Heard::Here);
    own.map(|one| format!("session-manager:{}", one.node)).collect()
}

fn refused(facts: &Facts, backend_fails: bool) -> Option<Trouble> {
    let window = window(facts)?;
    let offered = sum(window, Side::Foreground, |class| class.offered_per_s);
    let refused = sum(window, Side::Foreground, |class| class.refused_per_s);
    let seconds = window
        .iter()
        .filter(|second| sum(std::slice::from_ref(second), Side::Foreground, |c| c.refused_per_s) > 0.0);
    let is_more_than_a_surge = seconds.count() >= REFUSED_SECONDS_MIN;
    if refused < REFUSED_MIN || refused <= offered * REFUSED_SHARE_MAX || !is_more_than_a_surge {
        return None;
    }
    Some(Trouble {
        rule: &alerts::REFUSED,
        severity: Severity::High,
        title: "Foreground is refused".to_owned(),
        why: format!(
            "{refused:.0} of {offered:.0} requests in {} s ({:.2} %, at most {:.1} %)",
            window.len(),
            100.0 * refused / offered.max(refused),
            100.0 * REFUSED_SHARE_MAX
        ),
        affects: here(facts),
        standing: effect_if(backend_fails),
    })
}

fn slow(facts: &Facts, backend_fails: bool) -> Option<Trouble> {
    let window = window(facts)?;
    let p99_us: Vec<u64> =
        window.iter().filter_map(|second| second.classes.get(TALK).and_then(|talk| talk.p99_us)).collect();
    let slow = p99_us.iter().filter(|us| **us > TALK_P99_US_MAX).count();
    if slow < WINDOW_KNOWN {
        return None;
    }
    let worst_ms = p99_us.iter().max().copied().unwrap_or_default() / 1_000;
    Some(Trouble {
        rule: &alerts::SLOW,
        severity: Severity::High,
        title: "Talk is slow".to_owned(),
        why: format!(
            "p99 of C1 up to {worst_ms} ms, over {} ms in {slow} of {} s",
            TALK_P99_US_MAX / 1_000,
            window.len()
        ),
        affects: here(facts),
        standing: effect_if(backend_fails),
    })
}

fn starved(facts: &Facts, backend_fails: bool) -> Option<Trouble> {
    let why = below_floor(facts.seats).or_else(|| unserved(window(facts)?))?;
    Some(Trouble {
        rule: &alerts::STARVED,
        severity: Severity::Medium,
        title: "Background is below its floor".to_owned(),
        why,
        affects: here(facts),
        standing: effect_if(backend_fails),
    })
}

fn below_floor(seats: Option<Seats>) -> Option<String> {
    let seats = seats?;
    let floor = (f64::from(seats.all) * FLOOR_SHARE).floor();
    (f64::from(seats.background) < floor).then(|| {
        format!("it may have {} of {} seats, and at least {floor} are its own", seats.background, seats.all)
    })
}

fn unserved(window: &[Arc<Sample>]) -> Option<String> {
    let offered = sum(window, Side::Background, |class| class.offered_per_s);
    let served = sum(window, Side::Background, |class| class.served_per_s);
    (offered >= STARVED_OFFERED_MIN && served <= 0.0)
        .then(|| format!("none of {offered:.0} requests were served in {} s", window.len()))
}

fn unusual(trend: Option<Trend>, facts: &Facts, rule: &'static alerts::Rule, what: &str) -> Option<Trouble> {
    let trend = trend.filter(|trend| trend.score.abs() > SCORE_MAX)?;
    let last = facts.seconds.last()?;
    let now_per_s = if what == "logins" { last.logins.offered_per_s } else { last.messages_per_s };
    let many = if trend.score > 0.0 { "many" } else { "few" };
    let basis = match trend.basis {
        Basis::HourOfWeek => "at this hour of the week",
        Basis::HourOfDay => "at this hour of the day",
        Basis::LastHours => "in the last hours",
    };
    Some(Trouble {
        rule,
        severity: Severity::Low,
        title: format!("Unusually {many} {what}"),
        why: format!(
            "{now_per_s:.1} a second; {basis} {:.1} ± {:.1} are usual ({:.1} spreads away, told from {SCORE_MAX:.0})",
            trend.usual_per_s,
            trend.spread_per_s,
            trend.score.abs()
        ),
        affects: here(facts),
        standing: Standing::Cause,
    })
}
