//! Which sessions are connected where: user → devices → the link of the session manager that holds them.
//!
//! Why it exists: a delivery goes to one session manager once, whatever the number of users it is for. This is never the
//! truth about anything: it is rebuilt from the announcements of the session managers, and a lost delivery is healed by
//! the receiver, who sees the gap.
//!
//! It must never wait for a slow link: what does not fit is dropped, and the link is told that its sessions are behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use buslane_chassis::api::LINK_QUEUE;
use buslane_chassis::trace::Context;
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::wire;
use buslane_shared::wire::to_manager::Kind;
use bytes::Bytes;
use dashmap::DashMap;
use metrics::{counter, gauge};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// Session managers linked at a time: the largest system has a hundred; a loop that reconnects without end is stopped here.
pub(crate) const LINKS_MAX: usize = 1024;

/// The way down to one session manager.
pub(crate) struct Link {
    id: u64,
    node: Mutex<wire::Node>,
    down: mpsc::Sender<wire::ToManager>,
    behind: AtomicBool,
    /// Cancelled when the link ends, from whichever side.
    pub(crate) over: CancellationToken,
}

impl Link {
    /// Name of the session manager.
    pub(crate) fn name(&self) -> String {
        self.node.lock().name.clone()
    }

    fn send(self: &Arc<Self>, kind: Kind, tasks: &Tasks) -> bool {
        let frame = wire::ToManager { kind: Some(kind) };
        if !self.behind.load(Ordering::Acquire) && self.down.try_send(frame).is_ok() {
            return true;
        }
        counter!("buslane_backend_deliveries_dropped_total").increment(1);
        if !self.behind.swap(true, Ordering::AcqRel) {
            tasks.spawn(self.clone().catch_up());
        }
        false
    }

    /// Says that deliveries were dropped, as soon as there is room for saying so. The mark is taken away *before* it is
    /// said: whatever is dropped afterwards makes a new mark.
    async fn catch_up(self: Arc<Self>) {
        let permit = tokio::select! {
            permit = self.down.reserve() => permit,
            () = self.over.cancelled() => return,
        };
        if let Ok(permit) = permit {
            self.behind.store(false, Ordering::Release);
            permit.send(wire::ToManager { kind: Some(Kind::AllBehind(true)) });
        }
    }
}

/// One connected session.
struct Live {
    device: DeviceId,
    session: SessionId,
    link: Arc<Link>,
}

/// One user who is to receive an event.
pub(crate) struct Recipient<'a> {
    pub(crate) user: &'a UserId,
    /// The device that made the event; it has it already.
    pub(crate) except: Option<DeviceId>,
    pub(crate) notify: bool,
}

/// All connected sessions.
pub(crate) struct Registry {
    users: DashMap<UserId, Vec<Live>>,
    links: RwLock<Vec<Arc<Link>>>,
    next_link: AtomicU64,
    tasks: Tasks,
}

impl Registry {
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self { users: DashMap::new(), links: RwLock::default(), next_link: AtomicU64::new(1), tasks }
    }

    /// Attaches a session manager. An older link of the same node ends: that node has forgotten it. `None`: too many links.
    pub(crate) fn attach(&self, node: wire::Node, down: mpsc::Sender<wire::ToManager>) -> Option<Arc<Link>> {
        let id = self.next_link.fetch_add(1, Ordering::Relaxed);
        let name = node.name.clone();
        let link = Arc::new(Link {
            id,
            node: Mutex::new(node),
            down,
            behind: AtomicBool::new(false),
            over: CancellationToken::new(),
        });
        let mut links = self.links.write();
        links.iter().filter(|l| l.node.lock().name == name).for_each(|l| l.over.cancel());
        if links.len() >= LINKS_MAX {
            return None;
        }
        links.push(link.clone());
        gauge!("buslane_backend_links").set(links.len() as f64);
        Some(link)
    }

    /// Forgets a link and every session that was reached through it.
    pub(crate) fn detach(&self, link: &Link) {
        link.over.cancel();
        let mut links = self.links.write();
        links.retain(|l| l.id != link.id);
        gauge!("buslane_backend_links").set(links.len() as f64);
        drop(links);
        self.forget_sessions(link);
    }

    /// A session manager announced itself anew.
    pub(crate) fn announce(&self, link: &Link, node: wire::Node) {
        *link.node.lock() = node;
    }

    /// The nodes of all links that have not ended; of two of one name the newer.
    pub(crate) fn nodes(&self) -> Vec<wire::Node> {
        let links = self.links.read();
        links.iter().filter(|l| !l.over.is_cancelled()).map(|l| l.node.lock().clone()).collect()
    }

    /// Forgets the sessions of a link.
    pub(crate) fn forget_sessions(&self, link: &Link) {
        self.users.retain(|_, live| {
            live.retain(|l| l.link.id != link.id);
            !live.is_empty()
        });
    }

    /// A session was opened. An older session of the device at another manager is told.
    pub(crate) fn opened(&self, link: &Arc<Link>, user: UserId, device: DeviceId, session: SessionId) {
        let live = Live { device, session, link: link.clone() };
        let mut sessions = self.users.entry(user.clone()).or_default();
        let older = match sessions.iter_mut().find(|l| l.device == device) {
            Some(known) => Some(std::mem::replace(known, live)),
            None => {
                sessions.push(live);
                None
            }
        };
        drop(sessions);
        if let Some(older) = older.filter(|o| o.link.id != link.id && o.session != session) {
            self.tell_replaced(&user, older);
        }
    }

    /// A session has ended.
    pub(crate) fn closed(&self, link: &Link, user: &UserId, device: DeviceId, session: SessionId) {
        if let Some(mut sessions) = self.users.get_mut(user) {
            sessions.retain(|l| !(l.link.id == link.id && l.device == device && l.session == session));
        }
        self.users.remove_if(user, |_, sessions| sessions.is_empty());
    }

    /// Whether a device is connected.
    pub(crate) fn is_connected(&self, user: &UserId, device: DeviceId) -> bool {
        self.users.get(user).is_some_and(|live| live.iter().any(|l| l.device == device))
    }

    /// This one is not droppable like a delivery: it waits for room in the queue, or for the end of the link.
    fn tell_replaced(&self, user: &UserId, older: Live) {
        let reference = wire::SessionRef {
            user: user.as_str().to_owned(),
            device: older.device.to_wire(),
            session: older.session.to_wire(),
        };
        let frame = wire::ToManager { kind: Some(Kind::Replaced(reference)) };
        let link = older.link;
        self.tasks.spawn(async move {
            tokio::select! {
                _ = link.down.send(frame) => {}
                () = link.over.cancelled() => {}
            }
        });
    }

    /// Hands an event to every session manager that holds a session of a recipient. `event` is only encoded when there is
    /// one. `traced`: where in a trace it happens. Never waits; the calls' order is the order in which each manager gets the events.
    pub(crate) fn deliver<'a>(
        &self,
        recipients: impl IntoIterator<Item = Recipient<'a>>,
        traced: Context,
        event: impl FnOnce() -> Bytes,
    ) {
        let mut by_link: Vec<(Arc<Link>, Vec<wire::DeliverTarget>)> = Vec::new();
        for recipient in recipients {
            let Some(live) = self.users.get(recipient.user) else { continue };
            let wanted = live.iter().filter(|l| Some(l.device) != recipient.except);
            let mut reached: Option<u64> = None;
            for session in wanted {
                // Devices of one user meet at one manager; a second one exists only while they move.
                if reached.replace(session.link.id) != Some(session.link.id) {
                    push_target(&mut by_link, &session.link, &recipient);
                }
            }
        }
        if by_link.is_empty() {
            return;
        }
        let event = event();
        for (link, targets) in by_link {
            let count = targets.len() as u64;
            let (trace, span) = (traced.trace_wire(), traced.span_wire());
            let deliver = wire::Deliver { event: event.clone(), targets, trace, span };
            if link.send(Kind::Deliver(deliver), &self.tasks) {
                counter!("buslane_backend_deliveries_total").increment(count);
            }
        }
    }
}

fn push_target(
    by_link: &mut Vec<(Arc<Link>, Vec<wire::DeliverTarget>)>,
    link: &Arc<Link>,
    recipient: &Recipient<'_>,
) {
    let target = wire::DeliverTarget {
        user: recipient.user.as_str().to_owned(),
        except_device: recipient.except.map(DeviceId::to_wire).unwrap_or_default(),
        notify: recipient.notify,
    };
    match by_link.iter_mut().find(|(known, _)| known.id == link.id) {
        // A user whose devices alternate between two managers is named once for each.
        Some((_, targets)) if targets.last().is_some_and(|t| t.user == target.user) => {}
        Some((_, targets)) => targets.push(target),
        None => by_link.push((link.clone(), vec![target])),
    }
}

/// The queue of a link.
pub(crate) fn queue() -> (mpsc::Sender<wire::ToManager>, mpsc::Receiver<wire::ToManager>) {
    mpsc::channel(LINK_QUEUE)
}

#[cfg(test)]
mod tests;
