//! What the plan hands to one member, between the loop that knows when things are due and the task that does them. Both run on
//! one thread.
//!
//! Bounded: a member that cannot keep up is given no more, and whoever plans counts it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use super::work::{IN_FLIGHT_MAX, Item, Kind, Work};

/// Where what is due waits for its member. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    items: RefCell<Vec<Item>>,
    /// Given to the member and not ended.
    owed: Cell<usize>,
    changed: Notify,
    /// The drop that takes the connection away.
    dropped: Cell<Option<usize>>,
    is_closed: Cell<bool>,
    /// The last message of the member that has a receipt.
    stored: Cell<u64>,
    /// The member has everything of its room up to here.
    heard: Cell<u64>,
}

impl Outbox {
    /// Hands over `count` things that are due. How many of them the member has no room for: those are not handed over.
    pub fn put(&self, count: usize, due: Instant, mut kind: impl FnMut() -> Kind) -> usize {
        // One burst is always taken, however large.
        let room = match self.0.owed.get() {
            0 => count,
            owed => IN_FLIGHT_MAX.saturating_sub(owed).min(count),
        };
        self.0.items.borrow_mut().extend((0..room).map(|_| Item { kind: kind(), due, tries: 0 }));
        self.0.owed.set(self.0.owed.get() + room);
        self.0.changed.notify_one();
        count - room
    }

    /// Takes the connection away, as the drop of this number.
    pub fn drop_connection(&self, drop: usize) {
        self.0.dropped.set(Some(drop));
        self.0.changed.notify_one();
    }

    /// The run is over.
    pub fn close(&self) {
        self.0.is_closed.set(true);
        self.0.changed.notify_one();
    }

    /// Whether it is.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.get()
    }

    /// Whether the member has nothing left to do.
    pub fn is_done(&self) -> bool {
        self.0.owed.get() == 0
    }

    /// Whether the member has heard everything that this neighbour has a receipt for.
    pub fn has_heard(&self, neighbour: &Self) -> bool {
        self.0.heard.get() >= neighbour.0.stored.get()
    }

    /// For the member: a message of its own is stored under this number.
    pub fn on_stored(&self, seq: u64) {
        self.0.stored.set(self.0.stored.get().max(seq));
    }

    /// For the member: it has everything of its room up to this number.
    pub fn on_heard(&self, through: u64) {
        self.0.heard.set(through);
    }

    /// For the member: takes over what is there.
    pub fn move_into(&self, work: &mut Work) {
        self.0.items.borrow_mut().drain(..).for_each(|item| work.put(item));
    }

    /// For the member: one thing has ended.
    pub fn on_ended(&self) {
        self.0.owed.set(self.0.owed.get().saturating_sub(1));
    }

    /// For the member: the drop that takes its connection away, once.
    pub fn take_drop(&self) -> Option<usize> {
        self.0.dropped.take()
    }

    /// Waits until something was changed.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Waits until the run is over.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_does_not_keep_up_is_given_no_more() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        let fetch = || Kind::Fetch;
        assert_eq!(outbox.put(IN_FLIGHT_MAX - 1, now, fetch), 0);
        assert_eq!(outbox.put(3, now, fetch), 2);
        outbox.on_ended();
        assert_eq!(outbox.put(1, now, fetch), 0);
        (0..IN_FLIGHT_MAX).for_each(|_| outbox.on_ended());
        assert!(outbox.is_done());
        assert_eq!(outbox.put(200, now, fetch), 0, "a whole burst");
        let mut work = Work::new(IN_FLIGHT_MAX);
        outbox.move_into(&mut work);
        assert!(!outbox.is_done());
    }

    #[test]
    fn a_neighbour_has_heard_what_has_a_receipt_or_not() {
        let (one, other) = (Outbox::default(), Outbox::default());
        assert!(one.has_heard(&other));
        other.on_stored(7);
        other.on_stored(5);
        one.on_heard(6);
        assert!(!one.has_heard(&other) && other.has_heard(&one));
        one.on_heard(7);
        assert!(one.has_heard(&other));
    }

    #[test]
    fn a_drop_is_heard_of_once() {
        let outbox = Outbox::default();
        outbox.drop_connection(2);
        assert_eq!((outbox.take_drop(), outbox.take_drop()), (Some(2), None));
    }
}
