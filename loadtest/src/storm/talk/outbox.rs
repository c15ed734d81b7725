//! What a person has to say and has not said yet. It must never lose a message, nor change their order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

/// Where what is due waits for its turn. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Rc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    letters: RefCell<VecDeque<Letter>>,
    changed: Notify,
    closed: Cell<bool>,
}

/// A message that is due.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its conversation.
    pub conversation: u32,
    /// Its place in it.
    pub number: u32,
    /// When.
    pub due: Instant,
    /// The sender's name for it, the same however often it goes.
    pub client_id: Bytes,
}

impl Outbox {
    /// A message is due.
    pub fn put(&self, conversation: u32, number: u32, due: Instant) {
        let client_id = Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes());
        self.0.letters.borrow_mut().push_back(Letter { conversation, number, due, client_id });
        self.0.changed.notify_one();
    }

    /// The run is over.
    pub fn close(&self) {
        self.0.closed.set(true);
        self.0.changed.notify_one();
    }

    /// Whether the run is over.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Waits until something is put or it is closed.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The next message.
    pub fn pop(&self) -> Option<Letter> {
        self.0.letters.borrow_mut().pop_front()
    }

    /// It comes first next time.
    pub fn put_back(&self, letter: Letter) {
        self.0.letters.borrow_mut().push_front(letter);
    }
}
