//! What is to be written to the talk stream: gathered over one wake-up of the session, written in one go.
//!
//! Why it exists: a write per answer costs more than the answer. And a client that does not read must neither make the
//! buffer grow nor keep the session from hearing it. So writing never waits: it does what it can, and tells how long
//! nothing has moved. It must never take more while it holds its fill.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use buslane_shared::frame;
use bytes::{Buf, BytesMut};
use prost::Message;
use quinn::{SendStream, WriteError};
use tokio::time::Instant;

/// Bytes that wait in the session before it stops taking answers and events. One answer may go beyond it.
pub(crate) const OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a slow client must take within the limit while any wait: 500 bytes a second at the default. Less is no
/// progress, or a client that takes one byte at a time would hold its session's memory for ever.
const PROGRESS_BYTES: usize = 16 * 1024;

/// Since when the client takes nothing, or too little.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    written: usize,
}

/// The writing half of a talk stream.
pub(crate) struct Outbound {
    send: SendStream,
    buffer: BytesMut,
    stall: Option<Stall>,
}

impl Outbound {
    pub(crate) fn new(send: SendStream) -> Self {
        Self { send, buffer: BytesMut::new(), stall: None }
    }

    /// Adds one frame.
    pub(crate) fn put<M: Message>(&mut self, message: &M) {
        frame::encode(message, &mut self.buffer);
    }

    /// Where frames are added.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether more may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.buffer.len() < OUT_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes what the connection takes now; returns how much that was. The task is woken when it takes more.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<usize, WriteError> {
        let mut total = 0;
        while !self.buffer.is_empty() {
            match Pin::new(&mut self.send).poll_write(cx, &self.buffer) {
                Poll::Ready(written) => {
                    let written = written?;
                    self.buffer.advance(written);
                    total += written;
                    self.on_progress(now, written);
                }
                Poll::Pending => {
                    self.stall.get_or_insert(Stall { since: now, written: 0 });
                    return Ok(total);
                }
            }
        }
        self.stall = None;
        Ok(total)
    }

    /// When the client counts as one that does not read, if nothing moves until then.
    pub(crate) fn stalled_at(&self, limit: Duration) -> Option<Instant> {
        self.stall.map(|stall| stall.since + limit)
    }

    /// Gives the buffer back; an idle session keeps none.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
    }

    /// The stream, and what was not written to it.
    pub(crate) fn into_parts(self) -> (SendStream, BytesMut) {
        (self.send, self.buffer)
    }

    fn on_progress(&mut self, now: Instant, written: usize) {
        if let Some(stall) = &mut self.stall {
            stall.written += written;
            if stall.written >= PROGRESS_BYTES {
                *stall = Stall { since: now, written: 0 };
            }
        }
    }
}
