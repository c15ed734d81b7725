//! From what was seen to components with states. Pure: one function for each kind of component.
//!
//! Why it exists: each process sees a different part of the system, and all of them must say the same of the same facts. It
//! must never call something up that was not heard of lately: after five seconds it is unknown, after fifteen it is down.

mod managers;
mod others;
mod own;

pub use own::{CERTIFICATE_MARGIN_MS, DAY_MS, STOCK_SHARE_MAX, ends_in, left_ms};

use super::facts::{Facts, Probe};
use super::graph::{Fault, Judged, Need, Weight};
use crate::view::State;

/// An answer that is older is not believed any more.
pub const FRESH_MS: u64 = 5_000;

/// Whoever was not heard of for this long is down.
pub const SILENT_MS: u64 = 15_000;

/// What one look amounts to: every component, causes first.
pub fn judge(facts: &Facts) -> Vec<Judged> {
    let gateways = others::gateways(facts);
    let managers: Vec<Judged> = facts.managers.iter().map(|one| managers::manager(one, facts)).collect();
    let names = |of: &[Judged]| of.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
    let probe = probe(facts)
        .needing(Need::One("certificates".to_owned()))
        .needing(Need::AnyOf(names(&gateways)))
        .needing(Need::AnyOf(names(&managers)))
        .needing(Need::One("backend".to_owned()));
    let mut all = vec![others::store(facts), others::backend(facts)];
    all.extend(gateways);
    all.extend(managers);
    all.extend(others::strangers(facts));
    all.push(probe);
    all.extend(own::all(facts));
    all
}

/// What silence of this length means; none: it is not silent.
fn silence(age_ms: u64) -> Option<(State, String)> {
    if age_ms <= FRESH_MS {
        return None;
    }
    let state = if age_ms <= SILENT_MS { State::Unknown } else { State::Down };
    Some((state, format!("nothing was heard of it for {} s", age_ms / 1_000)))
}

fn probe(facts: &Facts) -> Judged {
    let probe = Judged::up("probe", "Probe from outside");
    let all_drain = facts.managers.iter().all(|one| one.draining);
    if all_drain && !facts.managers.is_empty() && !matches!(facts.probe, Probe::Off(_)) {
        return probe.being(State::Maintenance, "all session managers drain: none takes a session");
    }
    match &facts.probe {
        Probe::Off(why) => probe.being(State::Unknown, why.clone()).weighing(Weight::Nothing),
        Probe::Waiting => probe.being(State::Unknown, "no probe has come to its end yet"),
        Probe::Done { last, fresh_ms } => {
            let age_ms = facts.now_ms.saturating_sub(last.at_ms);
            let probe = Judged { age_ms: Some(age_ms), ..probe };
            let failed = last.steps.iter().find_map(|s| s.error.as_ref().map(|why| (&s.step, why)));
            if age_ms > *fresh_ms {
                let why = format!("the last probe is {} s old", age_ms / 1_000);
                let state = if age_ms > fresh_ms + SILENT_MS { State::Down } else { State::Unknown };
                probe.failing(state, Fault::Perhaps, why)
            } else if let Some((step, why)) = failed {
                probe.failing(State::Down, Fault::Perhaps, format!("{step}: {why}"))
            } else if last.ok {
                probe
            } else {
                probe.failing(State::Down, Fault::Perhaps, "it failed and did not say where")
            }
        }
    }
}

#[cfg(test)]
mod tests;
