//! Every process of the system that is known here, and how it is.
//!
//! Why it exists: a process is known because it is this one, because it is configured as a peer, or because the backend tells of it.
//! The nearer word counts: its own, what it said when it was asked, what the backend passed on. Each says how old it is.

use std::collections::BTreeMap;
use std::time::Duration;

use buslane_chassis::feed::Heard;
use buslane_chassis::oversee::{DrainFacts, Overseer};
use buslane_chassis::readiness::{Readiness, Verdict};
use buslane_shared::overload::posture;
use buslane_shared::wire;
use tokio::time::Instant;

use crate::peers::judge::{FRESH, GONE};
use crate::sampler::notice;
use crate::seat::Seat;
use crate::view::{NodeView, State};

/// Name of the role whose processes control load.
const MANAGER: &str = "session-manager";

impl Seat {
    /// This process.
    pub fn here(&self) -> NodeView {
        let mut view = NodeView {
            admin: self.admin().map(|admin| admin.to_string()),
            here: true,
            age_ms: Some(0),
            clock_skew_ms: Some(0),
            version: Some(self.version.to_owned()),
            started_ms: Some(self.started_ms),
            ..NodeView::unknown(&self.node, self.role)
        };
        put_readiness(&mut view, &self.readiness);
        if let Some(overseer) = &self.desk.overseer {
            put_load(&mut view, overseer.as_ref());
        }
        view
    }

    /// All of them: this process first, then the others by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        let mut others = self.peers.views();
        let told = self.told();
        others.extend(told);
        others.retain(|other| other.node != self.node);
        // Sorting keeps the order of equals: what was asked directly stays before what was passed on.
        others.sort_by(|one, other| one.node.cmp(&other.node));
        others.dedup_by(|later, earlier| later.node == earlier.node);
        others.insert(0, self.here());
        others
    }

    /// Those that the backend tells of.
    fn told(&self) -> Vec<NodeView> {
        let (now, loads) = (Instant::now(), self.desk.feed.loads());
        let loads = loads.borrow();
        let nodes = self.desk.feed.nodes();
        nodes.iter().map(|node| passed_on(node, loads.of(&node.name), now)).collect()
    }
}

fn put_readiness(view: &mut NodeView, readiness: &Readiness) {
    let missing = readiness.verdicts().into_iter().filter_map(|(name, verdict)| match verdict {
        Verdict::Ready => None,
        Verdict::NotReady(why) => Some((name.to_owned(), why)),
    });
    view.lacks = missing.collect();
    let words: Vec<String> = view.lacks.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    view.state = if words.is_empty() { State::Up } else { State::Warning };
    view.why = (!words.is_empty()).then(|| words.join("; "));
}

fn put_load(view: &mut NodeView, overseer: &dyn Overseer) {
    let (load, node, drain) = (overseer.posture(), overseer.node(), overseer.drain_state());
    view.posture = Some(posture::name(load.posture).to_owned());
    view.cause = notice::cause(&load);
    view.order = load.order;
    view.level = Some(load.level);
    view.sessions = Some(node.sessions_front.saturating_add(node.sessions_wake));
    put_drain(view, &drain);
}

fn put_drain(view: &mut NodeView, drain: &DrainFacts) {
    view.draining = drain.draining;
    if drain.draining && view.state == State::Up {
        view.state = State::Maintenance;
        view.why =
            Some(format!("it drains: {} of {} sessions are left", drain.sessions, drain.from_sessions));
    }
}

/// A session manager that the backend tells of.
fn passed_on(node: &wire::Node, heard: Option<&Heard>, now: Instant) -> NodeView {
    let view = NodeView {
        draining: node.draining,
        sessions: Some(node.sessions.into()),
        ..NodeView::unknown(&node.name, MANAGER)
    };
    let Some(heard) = heard else {
        return NodeView { why: Some("the backend knows it, and has not said how it is".to_owned()), ..view };
    };
    let age = now.saturating_duration_since(heard.at);
    let (state, why) = by_age(age, node.draining);
    NodeView {
        state,
        why,
        age_ms: Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        posture: Some(posture::name(heard.report.posture).to_owned()),
        order: heard.report.order,
        level: Some(heard.report.level),
        ..view
    }
}

fn by_age(age: Duration, draining: bool) -> (State, Option<String>) {
    let silent = || Some(format!("the backend has told nothing of it for {} s", age.as_secs()));
    match age {
        age if age > GONE => (State::Down, silent()),
        age if age > FRESH => (State::Unknown, silent()),
        _ if draining => (State::Maintenance, Some("it drains".to_owned())),
        _ => (State::Up, None),
    }
}

impl NodeView {
    /// A process of which nothing but its name is known.
    pub fn unknown(node: &str, role: &str) -> Self {
        Self {
            node: node.to_owned(),
            role: role.to_owned(),
            admin: None,
            here: false,
            state: State::Unknown,
            why: None,
            age_ms: None,
            clock_skew_ms: None,
            posture: None,
            cause: None,
            order: None,
            level: None,
            sessions: None,
            draining: false,
            version: None,
            started_ms: None,
            lacks: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use buslane_shared::overload::posture::Report;
    use buslane_shared::wire::Posture;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_backend_passes_on_grows_old() {
        let begun = Instant::now();
        let report = Report { posture: Posture::Guard, level: 900, order: Some(3), ..Report::default() };
        let heard = Heard { report, at: begun };
        let node = wire::Node { name: "sm2".into(), sessions: 7, ..wire::Node::default() };
        let at = |ms| passed_on(&node, Some(&heard), begun + Duration::from_millis(ms));
        let cases = [(0, State::Up), (5_000, State::Up), (5_001, State::Unknown), (15_001, State::Down)];
        for (age_ms, state) in cases {
            let view = at(age_ms);
            assert_eq!((view.state, view.age_ms), (state, Some(age_ms)));
            assert_eq!(view.why.is_some(), state != State::Up);
        }
        let view = at(0);
        assert_eq!((view.posture.as_deref(), view.order, view.level), (Some("guard"), Some(3), Some(900)));
        assert_eq!(passed_on(&node, None, begun).state, State::Unknown);
        let draining = wire::Node { draining: true, ..node.clone() };
        assert_eq!(passed_on(&draining, Some(&heard), begun).state, State::Maintenance);
    }
}
