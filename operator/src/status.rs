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
mod watcher;
#[cfg(test)]
mod world;

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
use crate::view::{State, StatusView};

use alerts::ALL;
use damper::Change;
use look::{Memory, Seldom};
use watcher::{Step, Watcher};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_was_not_renewed_is_never_green() {
        let view = Watcher::default().step(&world::up()).view;
        assert_eq!(renewed(view.clone(), 5_000).state, State::Up);
        let old = renewed(view, 6_000);
        assert_eq!(old.state, State::Unknown);
        assert!(old.summary.contains("6 s"), "{}", old.summary);
    }
}
