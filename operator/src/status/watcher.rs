//! From look to look: what has changed, since when it is so, and what people are told. Pure.

use std::collections::BTreeMap;

use buslane_shared::UnixMs;

use super::damper::{Change, Damper};
use super::facts::Facts;
use super::graph::{Blame, Judged};
use super::{graph, judge, summary, troubles};
use crate::view::{Component, State, StatusView};

/// What is carried from one look to the next.
#[derive(Debug, Default)]
pub struct Watcher {
    damper: Damper,
    since: BTreeMap<String, (State, UnixMs)>,
    told: Vec<String>,
}

/// What a look amounts to.
#[derive(Debug)]
pub struct Step {
    /// When.
    pub at_ms: UnixMs,
    /// Everything, the probe aside.
    pub view: StatusView,
    /// What people are to be told.
    pub changes: Vec<Change>,
    /// Something about it is to be shown at once.
    pub has_changed: bool,
    /// A component that failed does so no more.
    pub mends: bool,
}

impl Watcher {
    /// The next look.
    pub fn step(&mut self, facts: &Facts) -> Step {
        let judged = judge::judge(facts);
        let blame = graph::blame(&judged);
        let changes = self.damper.step(facts.now_ms, troubles::troubles(facts, &judged, &blame));
        let alerts = self.damper.alerts();
        let (state, summary) = (summary::state(&judged, &alerts), summary::sentence(&judged, &alerts));
        let mends = self.note(&judged, facts.now_ms);
        let components = self.shown(judged, &blame, facts.now_ms);
        let told = components
            .iter()
            .map(|c| format!("{}{:?}{:?}", c.id, c.state, c.affected_by))
            .chain(alerts.iter().map(|alert| format!("{}{:?}", alert.key, alert.severity)))
            .collect();
        let has_changed = self.told != told;
        self.told = told;
        let view = StatusView { state, summary, components, alerts, probe: None, now_ms: facts.now_ms };
        Step { at_ms: facts.now_ms, view, changes, has_changed, mends }
    }

    /// Notes since when each is as it is. Whether one that was down is so no more; the probe does not count, it is what is asked.
    fn note(&mut self, judged: &[Judged], now_ms: UnixMs) -> bool {
        self.since.retain(|id, _| judged.iter().any(|c| c.id == *id));
        let mut mends = false;
        for component in judged {
            let known = self.since.entry(component.id.clone()).or_insert((component.state, now_ms));
            if known.0 != component.state {
                mends |= known.0 == State::Down && component.id != "probe";
                *known = (component.state, now_ms);
            }
        }
        mends
    }

    fn shown(&self, judged: Vec<Judged>, blame: &Blame, now_ms: UnixMs) -> Vec<Component> {
        let shown = judged.into_iter().map(|component| Component {
            needs: component.needs_flat(),
            affected_by: blame.get(&component.id).filter(|cause| **cause != component.id).cloned(),
            since_ms: self.since.get(&component.id).map_or(now_ms, |(_, since_ms)| *since_ms),
            id: component.id,
            title: component.title,
            node: component.node,
            state: component.state,
            why: component.why,
            age_ms: component.age_ms,
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests;
