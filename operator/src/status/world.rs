//! Systems to be looked at in tests: one process with everything, and many processes seen by one of the gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::{Facts, Heard, Manager, Probe};
use crate::view::{ClassSample, LoginSample, NodeView, ProbeStep, ProbeView, Sample, State};

/// The time at which everything begins.
pub const BEGUN_MS: u64 = 1_700_000_000_000;

pub fn manager(node: &str, heard: Heard) -> Manager {
    Manager {
        node: node.to_owned(),
        age_ms: 100,
        heard,
        draining: false,
        measured: "normal".to_owned(),
        cause: None,
        order: None,
        lacks: None,
    }
}

pub fn node(name: &str, role: &str) -> NodeView {
    NodeView {
        node: name.to_owned(),
        role: role.to_owned(),
        admin: Some("127.0.0.1:7480".to_owned()),
        here: false,
        state: State::Up,
        why: None,
        age_ms: Some(100),
        clock_skew_ms: Some(3),
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

pub fn probed(at_ms: u64, failed: Option<(&str, &str)>) -> Probe {
    let names = ["enter", "hello", "send", "receive"];
    let until = failed.and_then(|(step, _)| names.iter().position(|name| *name == step)).unwrap_or(3);
    let steps = names[..=until].iter().map(|name| ProbeStep {
        step: (*name).to_owned(),
        took_us: 900,
        error: failed.filter(|(step, _)| step == name).map(|(_, why)| why.to_owned()),
    });
    let last = ProbeView { at_ms, ok: failed.is_none(), steps: steps.collect() };
    Probe::Done { last, fresh_ms: 25_000 }
}

/// Everything in one process, well.
pub fn up() -> Facts {
    Facts {
        now_ms: BEGUN_MS,
        here: "up".to_owned(),
        role: "up",
        checks: [("store".to_owned(), None), ("backend".to_owned(), None)].into(),
        feed_connected: true,
        gateways_attached: 1,
        managers: vec![manager("up", Heard::Here)],
        probe: probed(BEGUN_MS, None),
        certificate_ends_ms: Some(BEGUN_MS + 300 * 86_400_000),
        ..Facts::default()
    }
}

/// A gateway that sees the others, all of them well: the backend, another gateway and these session managers.
pub fn apart(managers: &[&str]) -> Facts {
    let mut nodes = vec![node("backend", "backend"), node("g2", "gateway")];
    nodes.extend(managers.iter().map(|name| node(name, "session-manager")));
    Facts {
        here: "g1".to_owned(),
        role: "gateway",
        checks: [("backend".to_owned(), None)].into(),
        managers: managers.iter().map(|name| manager(name, Heard::Directly)).collect(),
        nodes,
        gateways_attached: 2,
        ..up()
    }
}

pub const MANAGERS: [&str; 4] = ["sm1", "sm2", "sm3", "sm4"];

/// What can fail of [`apart`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Store,
    Backend,
    Gateway,
    Manager(usize),
    /// Nothing that is looked at.
    Way,
}

/// A system in which things fail and are mended, second by second.
#[derive(Debug, Default)]
pub struct World {
    pub failed: BTreeSet<Failure>,
    ages_ms: BTreeMap<String, u64>,
    now_s: u64,
    probe: Option<Probe>,
    /// What the backend said last of the store.
    store_said_lost: bool,
}

impl World {
    pub fn has(&self, failure: Failure) -> bool {
        self.failed.contains(&failure)
    }

    /// Whether a client gets through, and otherwise where it stops.
    fn way(&self) -> Option<(&'static str, &'static str)> {
        let no_manager = (0..MANAGERS.len()).all(|n| self.has(Failure::Manager(n)));
        if no_manager {
            Some(("hello", "no answer to the handshake"))
        } else if self.has(Failure::Backend) {
            Some(("send", "unavailable"))
        } else if self.has(Failure::Store) {
            Some(("send", "store_stopped"))
        } else if self.has(Failure::Way) {
            Some(("enter", "a certificate of another authority"))
        } else {
            None
        }
    }

    fn age_ms(&mut self, name: &str, is_silent: bool) -> u64 {
        let age_ms = self.ages_ms.entry(name.to_owned()).or_insert(0);
        *age_ms = if is_silent { *age_ms + 1_000 } else { 500 };
        *age_ms
    }

    /// What is seen a second later.
    pub fn second(&mut self) -> Facts {
        self.now_s += 1;
        let now_ms = BEGUN_MS + 1_000 * self.now_s;
        if self.now_s % 5 == 1 {
            self.probe = Some(probed(now_ms, self.way()));
        }
        let backend_fails = self.has(Failure::Backend);
        if !backend_fails {
            self.store_said_lost = self.has(Failure::Store);
        }
        let lack = backend_fails.then(|| "the backend does not answer".to_owned());
        let mut facts = Facts { now_ms, feed_connected: !backend_fails, ..apart(&MANAGERS) };
        facts.probe = self.probe.clone().unwrap_or_default();
        facts.checks.insert("backend".to_owned(), lack.clone());
        for node in &mut facts.nodes {
            let silent = match node.node.as_str() {
                "backend" => backend_fails,
                "g2" => self.has(Failure::Gateway),
                name => {
                    MANAGERS.iter().position(|m| *m == name).is_some_and(|n| self.has(Failure::Manager(n)))
                }
            };
            node.age_ms = Some(self.age_ms(&node.node, silent));
            if node.node == "backend" && self.store_said_lost {
                node.lacks.insert("store".to_owned(), "the disk is full".to_owned());
            } else if let Some(lack) = lack.clone().filter(|_| node.node != "backend") {
                node.lacks.insert("backend".to_owned(), lack);
            }
        }
        for one in &mut facts.managers {
            let seen = facts.nodes.iter().find(|node| node.node == one.node).unwrap();
            one.age_ms = seen.age_ms.unwrap();
            one.lacks = lack.clone();
        }
        facts
    }

    /// Keys of what people should be told in the end.
    pub fn causes(&self) -> BTreeSet<&'static str> {
        let mut causes = BTreeSet::new();
        let managers = (0..MANAGERS.len()).filter(|n| self.has(Failure::Manager(*n))).count();
        let backend = self.has(Failure::Backend);
        // Without the backend nobody sees the store.
        let store = self.has(Failure::Store) && !backend;
        for (is_cause, key) in [
            (backend, "backend/down"),
            (store, "store/down"),
            (self.has(Failure::Gateway), "gateways/down"),
            (managers > 0, "session-managers/down"),
        ] {
            if is_cause {
                causes.insert(key);
            }
        }
        let explained = backend || store || managers == MANAGERS.len();
        if self.has(Failure::Way) && !explained {
            causes.insert("probe/failing");
        }
        causes
    }
}

/// A second of a node: what was asked for of foreground and refused, how slow talk was, what was asked for of background and done.
pub fn sample(at_ms: u64, front: (f64, f64), talk_p99_us: u64, back: (f64, f64)) -> Arc<Sample> {
    let mut classes = vec![ClassSample::default(); 8];
    classes[1] = ClassSample {
        offered_per_s: front.0,
        refused_per_s: front.1,
        served_per_s: front.0 - front.1,
        p99_us: Some(talk_p99_us),
        ..ClassSample::default()
    };
    classes[5] = ClassSample { offered_per_s: back.0, served_per_s: back.1, ..ClassSample::default() };
    Arc::new(Sample {
        at_ms,
        span_ms: 1_000,
        posture: "normal".to_owned(),
        measured: "normal".to_owned(),
        order: None,
        level: 1_024,
        classes,
        logins: LoginSample::default(),
        messages_per_s: 0.0,
        messages_trend: None,
        processors: 0.1,
        resident_bytes: 1,
        sessions_front: 1,
        sessions_wake: 1,
    })
}

/// Ten equal seconds that end now.
pub fn ten_seconds(now_ms: u64, front: (f64, f64), talk_p99_us: u64, back: (f64, f64)) -> Vec<Arc<Sample>> {
    (0..10).rev().map(|n| sample(now_ms - 1_000 * n, front, talk_p99_us, back)).collect()
}
