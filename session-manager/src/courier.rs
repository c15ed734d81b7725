//! Deliveries to sessions that nobody looks at: they wait here until those that somebody looks at have theirs.
//!
//! Why it exists: an event for a thousand members is a thousand pieces of work, and a person waits for a few of them only. And
//! the mailboxes of the wake port's sessions are held by threads that run only when nothing else wants to: whoever delivers to
//! them may have to wait, so it is done at the desk. The order of a session's events holds: as long as any of them waits here, the next one
//! goes behind it. It must never hold more than its bound; what is beyond it is lost, and the session is told that it is
//! behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::class::{Class, Protocol};
use buslane_shared::mailbox::Pushed;
use buslane_shared::wire::Posture;
use bytes::Bytes;
use metrics::{Gauge, counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::load::outcome::{Outcome, Reason};
use crate::load::tally::Tally;
use crate::node::Node;
use crate::presence::Presence;

/// Events that wait: a second of a storm of messages in large rooms. They are shared, so that is some ten MiB.
const BACKLOG_MAX: usize = 256 * 1024;

/// Events delivered in one go.
const CHUNK: usize = 256;

/// The pause after each while the node is pressed: at least 50,000 a second still leave.
const PAUSE: Duration = Duration::from_millis(5);

/// An event for one session, and its class. None: others before it were lost.
type Item = (Arc<Presence>, Option<(Class, Bytes)>);

/// What waits.
pub(crate) struct Backlog {
    items: Mutex<VecDeque<Item>>,
    more: Notify,
    gauge: Gauge,
    tally: Arc<Tally>,
}

impl Backlog {
    pub(crate) fn new(tally: &Arc<Tally>) -> Self {
        Self {
            tally: Arc::clone(tally),
            items: Mutex::default(),
            more: Notify::new(),
            gauge: gauge!("buslane_session_manager_delivery_backlog"),
        }
    }

    /// Adds events; returns how many sessions are behind for it.
    pub(crate) fn add(&self, new: impl IntoIterator<Item = (Arc<Presence>, Class, Bytes)>) -> u64 {
        let mut behind = 0;
        let mut items = self.items.lock();
        for (presence, class, event) in new {
            if items.len() < BACKLOG_MAX {
                presence.on_backlogged();
                items.push_back((presence, Some((class, event))));
                continue;
            }
            self.tally.on_ended(Protocol::Delivery, class, Outcome::Refused(Reason::Behind));
            if presence.owe_behind() {
                // One for each session at most, so that is the bound of these.
                presence.on_backlogged();
                items.push_back((presence, None));
                behind += 1;
            }
        }
        self.gauge.set(items.len() as f64);
        drop(items);
        self.more.notify_one();
        behind
    }

    /// Delivers; never returns, its owner stops it.
    pub(crate) async fn run(self: Arc<Self>, node: Arc<Node>) {
        loop {
            let chunk = self.take_chunk();
            if chunk.is_empty() {
                self.more.notified().await;
                continue;
            }
            deliver(chunk, &self.tally);
            match node.load.stances.get().posture {
                Posture::Normal | Posture::Recovery => tokio::task::yield_now().await,
                Posture::Guard | Posture::Emergency => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn take_chunk(&self) -> Vec<Item> {
        let mut items = self.items.lock();
        let count = items.len().min(CHUNK);
        let chunk = items.drain(..count).collect();
        if items.is_empty() {
            // The memory of a storm is given back.
            items.shrink_to(CHUNK);
        }
        self.gauge.set(items.len() as f64);
        chunk
    }
}

fn deliver(chunk: Vec<Item>, tally: &Tally) {
    let mut overflows = 0;
    for (presence, event) in chunk {
        match event {
            Some((class, event)) => {
                let outcome = match presence.push(event) {
                    Pushed::Kept => Outcome::Served,
                    Pushed::FellBehind => {
                        overflows += 1;
                        Outcome::Refused(Reason::Behind)
                    }
                };
                tally.on_ended(Protocol::Delivery, class, outcome);
            }
            None => presence.pay_behind(),
        }
        presence.on_unbacklogged();
    }
    if overflows > 0 {
        counter!("buslane_session_manager_mailbox_overflows_total").increment(overflows);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use buslane_shared::id::{DeviceId, SessionId};
    use buslane_shared::wire::AppState;
    use bytes::BytesMut;

    use super::*;
    use crate::presence::Hold;

    fn session() -> Hold {
        let (device, session) = (DeviceId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        Presence::open("alice".parse().unwrap(), device, session, 0, AppState::Background)
    }

    fn backlog() -> Backlog {
        Backlog::new(&Arc::new(Tally::new()))
    }

    fn events(hold: &Hold) -> usize {
        hold.collect(&Context::from_waker(Waker::noop()), &mut BytesMut::new(), usize::MAX).events
    }

    #[test]
    fn what_waits_is_delivered_in_its_order_and_then_nothing_waits() {
        let (backlog, hold) = (backlog(), session());
        let add = |text| backlog.add([(Arc::clone(&hold.presence), Class::Social, Bytes::from_static(text))]);
        assert_eq!((add(b"one"), add(b"two")), (0, 0));
        assert!(hold.presence.is_backlogged());
        deliver(backlog.take_chunk(), &backlog.tally);
        assert!(!hold.presence.is_backlogged());
        let mut out = BytesMut::new();
        let found = hold.collect(&Context::from_waker(Waker::noop()), &mut out, usize::MAX);
        assert_eq!(found.events, 2);
        let at = |what: &[u8]| out.windows(what.len()).position(|w| w == what).unwrap();
        assert!(at(b"one") < at(b"two"));
    }

    #[test]
    fn beyond_the_bound_a_session_is_told_once_that_it_is_behind() {
        let (backlog, full, late) = (backlog(), session(), session());
        let event = Bytes::from_static(b"event");
        let to = |hold: &Hold| (Arc::clone(&hold.presence), Class::Social, event.clone());
        backlog.add((0..BACKLOG_MAX).map(|_| to(&full)));
        let behind = backlog.add((0..10).map(|_| to(&late)));
        assert_eq!(behind, 1);
        assert_eq!(backlog.items.lock().len(), BACKLOG_MAX + 1);
        loop {
            let chunk = backlog.take_chunk();
            if chunk.is_empty() {
                break;
            }
            deliver(chunk, &backlog.tally);
        }
        assert_eq!(events(&late), 1, "it is behind");
        assert!(late.presence.owe_behind(), "and may be again");
    }
}
