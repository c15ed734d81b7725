//! The link to the backend: which sessions are here goes up, what is for them comes down.
//!
//! Why it exists: the backend must know where to send, and must not know more. The link comes back by itself after a loss
//! and begins with the whole list, so the two never drift apart for longer than that. It must never hold up a session: a
//! delivery is put into a mailbox and forgotten.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::api::LINK_QUEUE;
use buslane_chassis::clock;
use buslane_chassis::trace::{Context, Kind, Span};
use buslane_shared::backoff::{Backoff, Policy};
use buslane_shared::class::Protocol;
use buslane_shared::id::{DeviceId, SessionId};
use buslane_shared::mailbox::Pushed;
use buslane_shared::overload::orders::Orders;
use buslane_shared::wire::{self, from_manager, to_manager};
use metrics::{counter, gauge};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::drain::Phase;
use crate::event::Forms;
use crate::load::Decision;
use crate::load::outcome::{Outcome, Reason};
use crate::node::Node;
use crate::presence::Presence;
use crate::table::Change;

/// A backend that restarts is back within a second or two; session managers are few, so they may ask often.
const RECONNECT: Policy = Policy {
    base: Duration::from_millis(200),
    cap: Duration::from_secs(2),
    quick: Duration::from_millis(50),
    settle: Duration::from_secs(5),
};

/// Sessions in one frame: 300 KiB.
const SESSIONS_PER_FRAME: usize = 4_096;

/// Frames taken from the backend in one go.
const FRAMES_PER_ROUND: usize = 256;

/// Reports that the backend has not confirmed yet. Beyond it no more changes are taken; requests of new sessions wait.
const UNCONFIRMED_MAX: usize = 64;

/// The manager's end of the link.
pub(crate) struct Link {
    node: Arc<Node>,
    announcement: wire::Node,
    changes: mpsc::Receiver<Change>,
    /// Whether the node takes nobody in.
    phases: watch::Receiver<Phase>,
    reports: Reports,
    /// What was reported under which number, until the backend confirms it.
    unconfirmed: VecDeque<(u64, Vec<Arc<Presence>>)>,
    reported: u64,
}

/// What else goes up, whenever it changes: only the last of each counts.
pub(crate) struct Reports {
    /// How loaded this node is.
    pub(crate) load: watch::Receiver<wire::Load>,
    /// What operators have ordered here, for the others.
    pub(crate) orders: watch::Receiver<Arc<Orders>>,
}

type Up = mpsc::Sender<wire::FromManager>;
type Down = mpsc::Receiver<wire::ToManager>;

impl Link {
    pub(crate) fn new(
        node: Arc<Node>,
        announcement: wire::Node,
        changes: mpsc::Receiver<Change>,
        reports: Reports,
    ) -> Self {
        let phases = node.drain.changes();
        Self { node, announcement, changes, phases, reports, unconfirmed: VecDeque::new(), reported: 0 }
    }

    /// Keeps the link. Never returns; its owner stops it.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(RECONNECT);
        loop {
            let (up, for_backend) = mpsc::channel(LINK_QUEUE);
            let node = Arc::clone(&self.node);
            match node.backend.link(for_backend).await {
                Ok(down) => {
                    let began = Instant::now();
                    gauge!("buslane_session_manager_linked").set(1.0);
                    // `None`: the other end let go.
                    let _ = self.attached(up, down).await;
                    gauge!("buslane_session_manager_linked").set(0.0);
                    backoff.on_session_end(began.elapsed());
                    tracing::warn!("the link to the backend has ended; sessions go on without deliveries");
                }
                Err(refusal) => tracing::warn!(%refusal, "the backend gives no link"),
            }
            counter!("buslane_session_manager_link_reconnects_total").increment(1);
            let wait = backoff.next_wait(None, u64::from_le_bytes(clock::random()));
            tokio::time::sleep(wait).await;
        }
    }

    /// Serves one link until its end.
    async fn attached(&mut self, up: Up, mut down: Down) -> Option<()> {
        self.unconfirmed.clear();
        self.announce(&up).await?;
        self.report_all(&up).await?;
        self.send_load(&up).await?;
        self.send_orders(&up).await?;
        let (mut changes, mut frames) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                count = down.recv_many(&mut frames, FRAMES_PER_ROUND) => {
                    if count == 0 {
                        return None;
                    }
                    for frame in frames.drain(..) {
                        self.on_frame(frame);
                    }
                }
                count = self.changes.recv_many(&mut changes, SESSIONS_PER_FRAME), if self.takes_changes() => {
                    if count == 0 {
                        return None;
                    }
                    if self.node.table.take_changes_missed() {
                        changes.clear();
                        self.report_all(&up).await?;
                    } else {
                        self.report(&up, changes.drain(..)).await?;
                    }
                }
                Ok(()) = self.reports.load.changed() => self.send_load(&up).await?,
                Ok(()) = self.reports.orders.changed() => self.send_orders(&up).await?,
                Ok(()) = self.phases.changed() => self.announce(&up).await?,
            }
        }
    }

    async fn announce(&mut self, up: &Up) -> Option<()> {
        let phase = *self.phases.borrow_and_update();
        let node = wire::Node {
            draining: phase != Phase::Open,
            sessions: u32::try_from(self.node.table.len()).unwrap_or(u32::MAX),
            ..self.announcement.clone()
        };
        send(up, from_manager::Kind::Announce(node)).await
    }

    async fn send_load(&mut self, up: &Up) -> Option<()> {
        let load = *self.reports.load.borrow_and_update();
        send(up, from_manager::Kind::Load(load)).await
    }

    async fn send_orders(&mut self, up: &Up) -> Option<()> {
        let orders = wire::OrderSet::from(&**self.reports.orders.borrow_and_update());
        send(up, from_manager::Kind::Orders(orders)).await
    }

    fn takes_changes(&self) -> bool {
        self.unconfirmed.len() < UNCONFIRMED_MAX
    }

    /// The whole list. Changes that are already in it are not reported again; those that come meanwhile follow.
    async fn report_all(&mut self, up: &Up) -> Option<()> {
        while self.changes.try_recv().is_ok() {}
        self.node.table.take_changes_missed();
        let all = self.node.table.all();
        self.send_changes(up, true, Vec::new(), Vec::new()).await?;
        for part in all.chunks(SESSIONS_PER_FRAME) {
            self.send_changes(up, false, part.to_vec(), Vec::new()).await?;
        }
        Some(())
    }

    async fn report(&mut self, up: &Up, changes: impl Iterator<Item = Change>) -> Option<()> {
        let (opened, closed) = merge(changes);
        self.send_changes(up, false, opened, closed).await
    }

    async fn send_changes(
        &mut self,
        up: &Up,
        reset: bool,
        opened: Vec<Arc<Presence>>,
        closed: Vec<wire::SessionRef>,
    ) -> Option<()> {
        let no = if opened.is_empty() { 0 } else { self.reported + 1 };
        let refs = opened.iter().map(|p| p.to_wire()).collect();
        if no > 0 {
            self.reported = no;
            self.unconfirmed.push_back((no, opened));
        }
        let changes = wire::SessionChanges { reset, opened: refs, closed, no };
        send(up, from_manager::Kind::Sessions(changes)).await
    }

    /// The backend knows of these sessions now.
    fn on_applied(&mut self, no: u64) {
        while self.unconfirmed.front().is_some_and(|(first, _)| *first <= no) {
            for presence in self.unconfirmed.pop_front().map(|(_, opened)| opened).unwrap_or_default() {
                presence.on_registered();
            }
        }
    }

    fn on_frame(&mut self, frame: wire::ToManager) {
        match frame.kind {
            Some(to_manager::Kind::Deliver(deliver)) => self.deliver(&deliver),
            Some(to_manager::Kind::AllBehind(_)) => self.all_behind(),
            Some(to_manager::Kind::Replaced(older)) => {
                if let Ok(session) = SessionId::try_from(&older.session) {
                    self.node.table.replaced_elsewhere(&older.user, session);
                }
            }
            Some(to_manager::Kind::Applied(no)) => self.on_applied(no),
            // Of a later release.
            None => {}
        }
    }

    /// Those that somebody looks at get the event now, all others from the courier.
    fn deliver(&self, deliver: &wire::Deliver) {
        let parent = Context::of_wire(&deliver.trace, deliver.span);
        let mut span = Span::child(parent, "push", Kind::Consumer);
        span.note("buslane.role", "session-manager");
        let (mut kept, mut behind, mut others) = (0, 0, Vec::new());
        let (knobs, tally) = (self.node.load.knobs(), &self.node.load.tally);
        let forms = Forms::new(&deliver.event).and_then(|mut forms| {
            for target in &deliver.targets {
                let except = DeviceId::try_from(&target.except_device).ok();
                let event = forms.of(target.notify)?;
                self.node.table.visit(&target.user, except, |presence| {
                    let class = knobs.classes.of(Protocol::Delivery, presence.app_state());
                    self.node.load.census.on(Protocol::Delivery, class, Decision::Admitted);
                    tally.on_offered(Protocol::Delivery, class);
                    // The mailbox of a session at the wake port may be held by a thread that does not run.
                    let goes_first = class.is_foreground() && presence.is_at_front();
                    if !goes_first || presence.is_backlogged() {
                        others.push((Arc::clone(presence), class, event.clone()));
                        return;
                    }
                    let outcome = match presence.push(event.clone()) {
                        Pushed::Kept => {
                            kept += 1;
                            Outcome::Served
                        }
                        Pushed::FellBehind => {
                            behind += 1;
                            Outcome::Refused(Reason::Behind)
                        }
                    };
                    tally.on_ended(Protocol::Delivery, class, outcome);
                });
            }
            Ok(())
        });
        if let Err(error) = forms {
            tracing::error!(%error, "the backend delivered what is no event; the versions do not fit");
        }
        span.note("buslane.sessions_now", kept);
        span.note("buslane.sessions_later", others.len() as u64);
        span.note("buslane.sessions_behind", behind);
        if !others.is_empty() {
            kept += others.len() as u64;
            behind += self.node.backlog.add(others);
        }
        counter!("buslane_session_manager_deliveries_total").increment(kept);
        if behind > 0 {
            counter!("buslane_session_manager_mailbox_overflows_total").increment(behind);
        }
    }

    fn all_behind(&self) {
        for presence in self.node.table.all() {
            presence.fall_behind();
        }
    }
}

async fn send(up: &Up, kind: from_manager::Kind) -> Option<()> {
    up.send(wire::FromManager { kind: Some(kind) }).await.ok()
}

/// What was opened and what was closed. What was opened and closed since is only closed: whoever applies the two in
/// whichever order ends with the truth.
fn merge(changes: impl Iterator<Item = Change>) -> (Vec<Arc<Presence>>, Vec<wire::SessionRef>) {
    let (mut opened, mut closed, mut gone) = (Vec::new(), Vec::new(), HashSet::new());
    for change in changes {
        match change {
            Change::Opened(presence) => opened.push(presence),
            Change::Closed(presence) => {
                gone.insert(presence.session);
                closed.push(presence.to_wire());
            }
        }
    }
    opened.retain(|presence| !gone.contains(&presence.session));
    (opened, closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_is_only_gone() {
        let presence = |n: u8| {
            let user = "alice".parse().unwrap();
            let (device, session) = (DeviceId::from_bytes([n; 16]), SessionId::from_bytes([n; 16]));
            Presence::open(user, device, session, 0, wire::AppState::Background).presence
        };
        let (stays, goes) = (presence(1), presence(2));
        let changes = [
            Change::Opened(Arc::clone(&goes)),
            Change::Opened(Arc::clone(&stays)),
            Change::Closed(Arc::clone(&goes)),
        ];
        let (opened, closed) = merge(changes.into_iter());
        assert!(matches!(&opened[..], [only] if Arc::ptr_eq(only, &stays)));
        assert_eq!(closed, [goes.to_wire()]);
    }
}
