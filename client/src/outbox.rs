//! The outbox as an app sees it: what is on its way, and what can be done about it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buslane_shared::id::{ClientId, RoomId};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::core::Core;
use crate::error::{Error, Refused};
use crate::types::Receipt;

/// What has become of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendState {
    /// It waits for its turn or for a connection.
    Pending,
    /// It is on its way.
    Sending,
    /// It is on the server's stable storage.
    Sent {
        /// Its place in the room.
        seq: u64,
    },
    /// A device of another member has it.
    Delivered,
    /// Another member has read it.
    Read,
    /// The server does not take it. It stays in the outbox until the app retries or discards it.
    Failed {
        /// Why; says also whether trying again can help and whether it may have arrived all the same.
        reason: Refused,
    },
}

/// A message without a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxItem {
    /// The conversation.
    pub room: RoomId,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// What it says.
    pub body: Bytes,
    /// Whom it mentions.
    pub mentions: Vec<String>,
    /// Where it stands.
    pub state: SendState,
}

/// A message that is in the outbox. Dropping this changes nothing: the message is sent all the same.
#[derive(Debug)]
pub struct Outgoing {
    pub(crate) room: RoomId,
    pub(crate) client_id: ClientId,
    pub(crate) wait: oneshot::Receiver<Result<Receipt, Error>>,
}

impl Outgoing {
    /// The conversation.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// The sender's name for it: it is never sent twice under this name.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// Waits for the server's receipt, over lost connections, as long as it takes. Fails when the server refuses the message
    /// for good or too often, when the app takes it out of the outbox, or when the client is closed (the message then stays
    /// in a durable outbox and is sent by the next run).
    pub async fn receipt(self) -> Result<Receipt, Error> {
        self.await
    }
}

/// Resolves like [`Outgoing::receipt`]; can be kept in a set of futures.
impl Future for Outgoing {
    type Output = Result<Receipt, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.wait).poll(cx).map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}

/// A view of the outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(crate) core: Arc<Core>,
}

impl Outbox {
    /// Everything without a receipt, in the order of the sends.
    pub fn list(&self) -> Vec<OutboxItem> {
        self.core.outbox.lock().list_all()
    }

    /// How many messages have no receipt.
    pub fn len(&self) -> usize {
        self.core.outbox.lock().len()
    }

    /// Whether everything has its receipt.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back a message that was certainly never sent; [`Error::NotInOutbox`] otherwise.
    pub fn cancel(&self, client_id: ClientId) -> Result<(), Error> {
        let taken = self.core.outbox.lock().cancel(client_id);
        self.withdraw(taken)
    }

    /// Forgets a message that is not on its way at this moment. If it was sent before, it may have arrived.
    pub fn discard(&self, client_id: ClientId) -> Result<(), Error> {
        let taken = self.core.outbox.lock().discard(client_id);
        self.withdraw(taken)
    }

    /// Sends a failed message again, under the same name.
    pub fn retry(&self, client_id: ClientId) -> Result<(), Error> {
        let again = self.core.outbox.lock().retry(client_id);
        let (ordinal, room, send) = again.ok_or(Error::NotInOutbox)?;
        self.core.store.keep_send(ordinal, &send, None);
        self.core.on_send_state(client_id, room, SendState::Pending);
        self.core.wake.notify_one();
        Ok(())
    }

    fn withdraw(&self, taken: Option<(u64, crate::pending::Finished)>) -> Result<(), Error> {
        let (ordinal, finished) = taken.ok_or(Error::NotInOutbox)?;
        self.core.store.forget_send(ordinal);
        if let Some(reply) = finished.reply {
            let _ = reply.send(Err(Error::Withdrawn));
        }
        self.core.wake.notify_one();
        Ok(())
    }
}
