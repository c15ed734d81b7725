//! What can fail, how it is, whom it makes suffer, and what people are told of it.
//!
//! Every second: `look` gathers what is known here, `judge` makes components of it, `graph` finds who is to blame, `troubles` names the
//! causes, `damper` says which of them people are told. All but `look` are pure.
//!
//! Why it exists: a system that fails in forty places has one thing to mend. It must never show as well what it does not know: its
//! own view, too, is unknown when it was not renewed.

pub mod alerts;

mod damper;
mod facts;
mod graph;
mod judge;
mod look;
mod stocks;
mod summary;
mod troubles;
#[cfg(test)]
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::UnixMs;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config;
use crate::happening::What;
use crate::probe::{Probe, Target};
use crate::seat::Seat;
use crate::view::{Component, State, StatusView};

use alerts::ALL;
use damper::{Change, Damper};
use facts::Facts;
use graph::{Blame, Judged};
use look::{Memory, Seldom};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks from one reading of memory and descriptors to the next.
const STOCKS_EVERY: u64 = 5;

/// Looks from one check of the audit to the next: it reads all of it.
const AUDIT_EVERY: u64 = 3_600;

/// Looks after which a page is told even if nothing has changed: ages do.
const TELL_EVERY: u64 = 5;

/// A view that was not renewed for this long is not believed.
const VIEW_FRESH_MS: u64 = 5_000;

/// The status of the system, as this process sees it.
pub struct Status {
    probe: Arc<Probe>,
    seen: Mutex<Seen>,
}

/// What was seen last.
struct Seen {
    at_ms: UnixMs,
    view: StatusView,
}

impl Status {
    /// One that has not looked yet, of the process of this name.
    pub fn open(node: &str, folder: &Path, target: Option<Target>, config: &config::Probe) -> Arc<Self> {
        let view = StatusView {
            state: State::Unknown,
            summary: "Nothing was looked at yet.".to_owned(),
            components: Vec::new(),
            alerts: Vec::new(),
            probe: None,
            now_ms: 0,
        };
        let seen = Mutex::new(Seen { at_ms: clock::unix_ms(), view });
        Arc::new(Self { probe: Probe::new(node, folder, target, config), seen })
    }

    /// The client from outside.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.probe
    }

    /// What it has seen.
    pub fn view(&self) -> StatusView {
        let now_ms = clock::unix_ms();
        let seen = self.seen.lock();
        let view = StatusView { now_ms, probe: self.probe.last(), ..seen.view.clone() };
        renewed(view, now_ms.saturating_sub(seen.at_ms))
    }

    /// Looks every second until the shutdown, and probes.
    pub fn run(seat: &Arc<Seat>, shutdown: &Shutdown) {
        seat.status.probe.run(seat.readiness.clone(), shutdown);
        let (seat, token) = (Arc::clone(seat), shutdown.token().clone());
        shutdown.tracker().spawn(async move {
            token.run_until_cancelled(watch(&seat)).await;
        });
    }
}

/// A view of this age: one that is too old says so, and is never shown as if all were well.
fn renewed(view: StatusView, age_ms: u64) -> StatusView {
    if age_ms <= VIEW_FRESH_MS {
        return view;
    }
    let summary = format!("Nothing was looked at for {} s: this process is stuck.", age_ms / 1_000);
    StatusView { state: view.state.max(State::Unknown), summary, ..view }
}

async fn watch(seat: &Arc<Seat>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher::default();
    let (mut memory, mut seldom, mut before) = (Memory::default(), Seldom::default(), Instant::now());
    for no in 0_u64.. {
        tick.tick().await;
        if no.is_multiple_of(STOCKS_EVERY) {
            seldom.stocks = tokio::task::spawn_blocking(stocks::read).await.unwrap_or_default();
        }
        if no.is_multiple_of(AUDIT_EVERY) {
            seldom.audit_damage = audit_damage(seat).await;
        }
        let elapsed = u64::try_from(before.elapsed().as_millis()).unwrap_or(u64::MAX);
        before = Instant::now();
        let facts = look::look(seat, &mut memory, &seldom, clock::unix_ms(), elapsed);
        let step = watcher.step(&facts);
        on_step(seat, step, no.is_multiple_of(TELL_EVERY));
    }
}

async fn audit_damage(seat: &Seat) -> Option<String> {
    let audit = Arc::clone(seat.audit());
    let checked = tokio::task::spawn_blocking(move || audit.verify()).await.ok()?;
    match checked {
        Ok(report) => {
            let first = report.damage.first()?;
            Some(format!("{}, line {}: {}", first.file, first.line, first.what))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn on_step(seat: &Seat, step: Step, is_due: bool) {
    let Step { at_ms, view, changes, has_changed, mends } = step;
    for rule in ALL {
        let is_told = view.alerts.iter().any(|alert| alert.key == rule.key);
        metrics::gauge!("buslane_alert_active", "alert" => rule.key).set(f64::from(u8::from(is_told)));
    }
    *seat.status.seen.lock() = Seen { at_ms, view };
    for change in changes {
        match change {
            Change::Raised(alert) => {
                tracing::warn!(key = alert.key, why = ?alert.why, "{}", alert.title);
                seat.tell(What::AlertRaised(alert));
            }
            Change::Cleared(alert) => {
                tracing::info!(key = alert.key, "over: {}", alert.title);
                seat.tell(What::AlertCleared(alert));
            }
        }
    }
    if mends {
        // What has come back is to be seen from outside as well.
        seat.status.probe.hurry();
    }
    if has_changed || is_due {
        seat.live.tell("status", &seat.status.view());
    }
}

/// What is carried from one look to the next.
#[derive(Debug, Default)]
struct Watcher {
    damper: Damper,
    since: BTreeMap<String, (State, UnixMs)>,
    told: Vec<String>,
}

/// What a look amounts to.
struct Step {
    at_ms: UnixMs,
    view: StatusView,
    changes: Vec<Change>,
    /// Something about it is to be shown at once.
    has_changed: bool,
    /// A component that failed does so no more.
    mends: bool,
}

impl Watcher {
    fn step(&mut self, facts: &Facts) -> Step {
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
