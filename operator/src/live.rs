//! Pushes what is new to whoever keeps a page open: server-sent events, the same bytes for all.
//!
//! Why it exists: a thousand open pages must cost the node little more than one. So an event is written down once and handed to
//! every reader; a reader that does not keep up is let go (its page comes back and asks for what it missed), a stream ends by
//! itself after a while so that rights that were taken away end too, and beyond a bound nobody is taken. It never waits for a
//! reader, and writes nothing down where nobody reads.
//!
//! Events: `hello` first, `sample` each second, `status`, `happening`, `incident`; a comment each five seconds where nothing
//! happens. Ids rise by one, so that a page sees whether it missed any.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Streams at a time. The admin surface takes twice as many connections, so that there is always one for an order.
pub const STREAMS_MAX: usize = 512;

/// Events that a reader may be behind: half a minute.
const BEHIND_MAX: usize = 64;

/// How long a stream lasts. Then the page opens another, and shows again who it is.
const STREAM_LIFE: Duration = Duration::from_secs(600);

/// How long nothing is written at most.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// After how long a page that lost its stream asks for another.
const RETRY_MS: u32 = 1_000;

/// Where events are told.
#[derive(Debug)]
pub struct Live {
    readers: broadcast::Sender<Bytes>,
    /// Number of the last event; held while one is sent, so that they leave in order.
    no: Mutex<u64>,
    places: Arc<Semaphore>,
    ending: CancellationToken,
}

impl Live {
    /// Without readers. Events are numbered from `begun` on: a page that comes back after a restart sees higher numbers.
    pub fn new(begun: u64) -> Self {
        Self::with(begun, STREAMS_MAX, BEHIND_MAX)
    }

    fn with(begun: u64, streams_max: usize, behind_max: usize) -> Self {
        Self {
            readers: broadcast::Sender::new(behind_max),
            no: Mutex::new(begun),
            places: Arc::new(Semaphore::new(streams_max)),
            ending: CancellationToken::new(),
        }
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        self.readers.receiver_count()
    }

    /// Tells all readers. What is told while nobody reads is not even written down.
    pub fn tell(&self, event: &str, data: &impl Serialize) {
        if self.readers() == 0 {
            return;
        }
        let mut no = self.no.lock();
        let Some(frame) = frame(event, no.saturating_add(1), data) else { return };
        *no = no.saturating_add(1);
        // The last reader may have left just now.
        let _ = self.readers.send(frame);
    }

    /// Lets readers and the network between know that the stream is alive.
    pub fn keep_alive(&self) {
        let _ = self.readers.send(Bytes::from_static(b": alive\n\n"));
    }

    /// Ends all streams, and takes none any more.
    pub fn end(&self) {
        self.places.close();
        self.ending.cancel();
    }

    /// Takes over the end of all streams: cancelled when [`Live::end`] was called.
    pub fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// A place for a stream; none: there are as many as there may be.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A stream that begins with `hello`. What is told from now on is in it; what `hello` shows may be told again.
    pub fn stream<T: Serialize>(
        &self,
        place: OwnedSemaphorePermit,
        hello: impl FnOnce() -> T,
    ) -> BoxStream<'static, Result<Bytes, Infallible>> {
        let events = self.readers.subscribe();
        let first = frame("hello", *self.no.lock(), &hello()).unwrap_or_default();
        let first = Bytes::from([format!("retry: {RETRY_MS}\n").as_bytes(), &first].concat());
        let end = self.ending.clone();
        let over = async move {
            let _ = tokio::time::timeout(STREAM_LIFE, end.cancelled()).await;
        };
        let rest = stream::unfold((events, place), |(mut events, place)| async move {
            match events.recv().await {
                Ok(frame) => Some((Ok(frame), (events, place))),
                Err(RecvError::Lagged(_)) => {
                    metrics::counter!("buslane_live_dropped_total").increment(1);
                    None
                }
                Err(RecvError::Closed) => None,
            }
        });
        stream::once(async { Ok(first) }).chain(rest).take_until(Box::pin(over)).boxed()
    }
}

/// An event as it is on the wire. None: it cannot be written, which is a fault of ours and is logged.
fn frame(event: &str, no: u64, data: &impl Serialize) -> Option<Bytes> {
    // JSON has no line breaks of its own.
    match serde_json::to_string(data) {
        Ok(data) => Some(Bytes::from(format!("id: {no}\nevent: {event}\ndata: {data}\n\n"))),
        Err(error) => {
            tracing::error!(event, %error, "an event cannot be written");
            None
        }
    }
}

#[cfg(test)]
mod tests;
