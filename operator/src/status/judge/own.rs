//! What is wrong with this process and its machine: certificate, audit, clock, memory, descriptors.

use buslane_shared::UnixMs;

use crate::status::facts::Facts;
use crate::status::graph::{Fault, Judged, Weight};
use crate::view::State;

/// Clocks that differ by more than this make what is written down come in the wrong order.
pub const SKEW_MS_MAX: u64 = 1_000;

/// A certificate that ends within this is to be replaced: two weeks have a working day in them wherever one is.
pub const CERTIFICATE_MARGIN_MS: u64 = 14 * DAY_MS;

/// Share of memory or descriptors from which on it is told: the guard value of overload control.
pub const STOCK_SHARE_MAX: f64 = 0.8;

/// A day.
pub const DAY_MS: u64 = 86_400_000;

/// All of it.
pub fn all(facts: &Facts) -> [Judged; 4] {
    [certificate(facts), audit(facts), clock(facts), process(facts)]
}

fn certificate(facts: &Facts) -> Judged {
    let certificate = Judged::up("certificates", "Certificate").weighing(Weight::Warning);
    match facts.certificate_ends_ms {
        None => certificate
            .being(State::Unknown, "this process does not say when it ends")
            .weighing(Weight::Nothing),
        Some(ends_ms) if ends_ms <= facts.now_ms => {
            certificate.failing(State::Down, Fault::Own, "it has ended: nobody new can connect")
        }
        Some(ends_ms) if left_ms(facts, ends_ms) <= CERTIFICATE_MARGIN_MS => {
            certificate.being(State::Warning, ends_in(left_ms(facts, ends_ms)))
        }
        Some(_) => certificate,
    }
}

/// What is left of a time.
pub fn left_ms(facts: &Facts, ends_ms: UnixMs) -> u64 {
    ends_ms.saturating_sub(facts.now_ms)
}

/// "it ends in 3 days"
pub fn ends_in(left_ms: u64) -> String {
    match left_ms / DAY_MS {
        0 => "it ends within a day".to_owned(),
        1 => "it ends in a day".to_owned(),
        days => format!("it ends in {days} days"),
    }
}

fn audit(facts: &Facts) -> Judged {
    let audit = Judged::up("audit", "Audit").weighing(Weight::Warning);
    match &facts.audit_damage {
        Some(damage) => audit.being(State::Warning, damage.clone()),
        None => audit,
    }
}

fn clock(facts: &Facts) -> Judged {
    let clock = Judged::up("clock", "Clocks").weighing(Weight::Warning);
    match skewed(facts).as_slice() {
        [] => clock,
        skewed => clock.being(State::Warning, skewed.join("; ")),
    }
}

/// Nodes whose clock differs from ours, in words.
pub fn skewed(facts: &Facts) -> Vec<String> {
    let mut all = Vec::new();
    for node in &facts.nodes {
        let Some(skew_ms) = node.clock_skew_ms.filter(|skew| skew.unsigned_abs() > SKEW_MS_MAX) else {
            continue;
        };
        let how = if skew_ms > 0 { "ahead" } else { "behind" };
        all.push(format!("{} is {:.1} s {how}", node.node, skew_ms.unsigned_abs() as f64 / 1e3));
    }
    all
}

fn process(facts: &Facts) -> Judged {
    let process = Judged {
        node: Some(facts.here.clone()),
        ..Judged::up("process", "This process").weighing(Weight::Warning)
    };
    let stocks = [("memory", facts.stocks.memory), ("descriptors", facts.stocks.descriptors)];
    let full: Vec<String> = stocks
        .into_iter()
        .filter_map(|(what, share)| Some((what, share.filter(|share| *share >= STOCK_SHARE_MAX)?)))
        .map(|(what, share)| format!("{:.0} % of the {what} are used", share * 100.0))
        .collect();
    match full.as_slice() {
        [] => process,
        full => process.being(State::Warning, full.join(", ")),
    }
}
