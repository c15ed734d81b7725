//! Leaving: an operator lets the node drain while it goes on, and takes it back; or it is stopped.
//!
//! Why it exists: a node is emptied before it is upgraded, at a rate that the others can take, and the person who does it must be able
//! to change his mind. While it drains nobody is let in (each is told to go elsewhere, with the first packet), gateways are told to send
//! nobody, and the sessions are asked to leave. It must never close a session that was not asked first, and a node that is being stopped
//! must never take anybody in again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use buslane_chassis::oversee::{DrainFacts, DrainWish};
use buslane_shared::wire::AppState;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::task::TaskTracker;

use crate::node::Node;
use crate::presence::{Farewell, Presence};

/// Sessions told to leave in one go; then others have their turn.
const TOLD_PER_ROUND: usize = 256;

/// Time beyond the drain for the last sessions to say goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// How far apart clients come back: the nodes that remain see a slope and not a wall.
const RETURN_SPREAD_MS: u64 = 2_000;

/// How often some are asked to leave, where a rate was given.
const STEP: Duration = Duration::from_millis(100);

/// More a second is no rate any more.
const PER_S_MAX: f64 = 1_000_000.0;

/// What holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    /// Everybody is welcome.
    Open,
    /// An operator lets the node drain.
    Draining {
        /// Which drain it is: one that was ended and begun again is another one, with others to ask.
        no: u64,
        /// How many are asked to leave in a second; none: all at once.
        per_s: Option<f64>,
    },
    /// The node is being stopped.
    Stopping,
}

/// How the node leaves.
pub(crate) struct Drain {
    phase: watch::Sender<Phase>,
    /// Whether nobody is let in: the same, for threads that must not lock.
    is_on: AtomicBool,
    from_sessions: AtomicU64,
    asked: AtomicU64,
    /// Drains that were taken back.
    ended: AtomicU64,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Open),
            is_on: AtomicBool::new(false),
            from_sessions: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }
    }
}

impl Drain {
    /// Whether nobody is let in.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// What holds, now and in future.
    pub(crate) fn changes(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Does what an operator wants.
    pub(crate) fn wish(&self, node: &Node, wish: DrainWish) -> Result<(), String> {
        match wish {
            DrainWish::Begin { per_s: Some(per_s) } if !(per_s > 0.0 && per_s <= PER_S_MAX) => {
                return Err(format!(
                    "sessions leave at a rate above 0 and up to {PER_S_MAX} a second, not at {per_s}"
                ));
            }
            DrainWish::Begin { per_s } => self.enter(node, Phase::Draining { no: 0, per_s }),
            DrainWish::End => self.enter(node, Phase::Open),
        }
        match *self.phase.borrow() {
            Phase::Stopping => {
                Err("the node is being stopped, and drains by itself; start it again".to_owned())
            }
            Phase::Open | Phase::Draining { .. } => Ok(()),
        }
    }

    /// How far it is.
    pub(crate) fn facts(&self, node: &Node) -> DrainFacts {
        let phase = *self.phase.borrow();
        DrainFacts {
            draining: phase != Phase::Open,
            from_sessions: self.from_sessions.load(Ordering::Relaxed),
            sessions: node.table.len() as u64,
            asked: self.asked.load(Ordering::Relaxed),
            per_s: if let Phase::Draining { per_s, .. } = phase { per_s } else { None },
        }
    }

    /// Changes what holds, and all that follows from it, as one step. A node that is being stopped stays so.
    fn enter(&self, node: &Node, next: Phase) {
        self.phase.send_if_modified(|phase| {
            // Numbered here, where nobody else changes it.
            let next = match next {
                Phase::Draining { per_s, .. } => {
                    Phase::Draining { no: self.ended.load(Ordering::Relaxed), per_s }
                }
                other => other,
            };
            if *phase == Phase::Stopping || *phase == next {
                return false;
            }
            if *phase == Phase::Open || next == Phase::Stopping {
                self.from_sessions.store(node.table.len() as u64, Ordering::Relaxed);
                self.asked.store(0, Ordering::Relaxed);
            }
            if next == Phase::Open {
                // Whoever begins again begins another one.
                self.ended.fetch_add(1, Ordering::Relaxed);
            }
            let is_on = next != Phase::Open;
            self.is_on.store(is_on, Ordering::Relaxed);
            if is_on {
                node.load.gate.begin_drain();
                node.table.begin_drain();
            } else {
                node.table.end_drain();
                node.load.gate.end_drain();
            }
            *phase = next;
            true
        });
    }

    fn on_asked(&self, count: usize) {
        self.asked.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Asks sessions to leave while an operator lets the node drain. For the desk: a session of the wake port may keep whoever
/// speaks to it waiting. Never returns; its owner stops it.
pub(crate) async fn run(node: Arc<Node>) {
    let mut changes = node.drain.changes();
    let mut left: Option<(u64, VecDeque<Weak<Presence>>)> = None;
    loop {
        let phase = *changes.borrow_and_update();
        match phase {
            Phase::Draining { no, per_s } => {
                // Between two drains somebody may have come, also where the end of the first was not seen here.
                left = left.filter(|(known, _)| *known == no);
                // Nobody comes in any more, so this is everybody, also when the rate is changed.
                let (_, left) = left.get_or_insert_with(|| (no, in_order(node.table.all())));
                tokio::select! {
                    () = ask(&node, left, per_s) => {}
                    changed = changes.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
            Phase::Open | Phase::Stopping => left = None,
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Those that nobody looks at first: who looks is disturbed as late as possible. They are not kept from ending by themselves.
fn in_order(all: Vec<Arc<Presence>>) -> VecDeque<Weak<Presence>> {
    let (looked_at, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|presence| presence.app_state() == AppState::Foreground);
    others.iter().chain(&looked_at).map(Arc::downgrade).collect()
}

/// Asks all of them, at this rate.
async fn ask(node: &Node, left: &mut VecDeque<Weak<Presence>>, per_s: Option<f64>) {
    let Some(per_s) = per_s else {
        while ask_some(node, left, TOLD_PER_ROUND) > 0 {
            tokio::task::yield_now().await;
        }
        return;
    };
    let mut timer = interval(STEP);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = 0.0_f64;
    while !left.is_empty() {
        timer.tick().await;
        // Never more than a second's worth: a thread that was held up must not make a wall of it.
        due = (due + per_s * STEP.as_secs_f64()).min(per_s.max(1.0));
        while due >= 1.0 && !left.is_empty() {
            let asked = ask_some(node, left, (due as usize).min(TOLD_PER_ROUND));
            due -= asked as f64;
            tokio::task::yield_now().await;
        }
    }
}

/// Asks up to so many that are still there; returns how many there were.
fn ask_some(node: &Node, left: &mut VecDeque<Weak<Presence>>, count_max: usize) -> usize {
    let mut asked = 0;
    while asked < count_max
        && let Some(next) = left.pop_front()
    {
        if let Some(presence) = next.upgrade() {
            presence.farewell(draining(node.config.times.drain()));
            asked += 1;
        }
    }
    node.drain.on_asked(asked);
    asked
}

/// To each another time to leave, and another to come back.
fn draining(limit: Duration) -> Farewell {
    let within = limit.mul_f64(rand::random_range(0.5..=1.0));
    let retry_after = Duration::from_millis(rand::random_range(0..=RETURN_SPREAD_MS));
    Farewell::Draining { within, retry_after }
}

/// The node is being stopped: asks every client to leave, each within its own part of the time, and waits until they have.
pub(crate) async fn stop(node: &Node, sessions: &TaskTracker) {
    let limit = node.config.times.drain();
    let until = Instant::now() + limit + GOODBYE_LIMIT;
    node.drain.enter(node, Phase::Stopping);
    let all = node.table.all();
    tracing::info!(sessions = all.len(), "asking every client to leave");
    for part in all.chunks(TOLD_PER_ROUND) {
        for presence in part {
            presence.farewell(draining(limit));
        }
        node.drain.on_asked(part.len());
        tokio::task::yield_now().await;
    }
    drop(all);
    sessions.close();
    if timeout_at(until, sessions.wait()).await.is_err() {
        tracing::warn!("some clients did not leave in time");
    }
}

#[cfg(test)]
mod tests {
    use buslane_shared::id::{DeviceId, SessionId};

    use super::*;

    #[test]
    fn who_looks_is_asked_last_and_nobody_is_kept() {
        let (device, session) = (DeviceId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let open = |state| Presence::open("alice".parse().unwrap(), device, session, 0, state).presence;
        let states =
            [AppState::Foreground, AppState::Background, AppState::Foreground, AppState::Unspecified];
        let all: Vec<_> = states.map(open).into();
        let mut left = in_order(all.clone());
        let order: Vec<_> = left.iter().map(|weak| weak.upgrade().unwrap().app_state()).collect();
        assert_eq!(
            order,
            [AppState::Background, AppState::Unspecified, AppState::Foreground, AppState::Foreground]
        );
        drop(all);
        assert!(left.pop_front().unwrap().upgrade().is_none(), "it may end by itself");
    }
}
