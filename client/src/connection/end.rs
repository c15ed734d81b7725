//! The end of a session on this connection, and what it leaves to the next one.

use std::time::Duration;

use crate::error::Error;

use super::{Connection, Purpose};

/// How long a client that is closed waits for the answers that are on their way.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long a session that moves to another connection waits for the answers that are on their way. What has none then is asked
/// again on the new one.
pub(super) const MOVE_LIMIT: Duration = Duration::from_millis(300);

/// Why a session ended, and what the server said about coming back.
#[derive(Debug)]
pub(crate) struct End {
    pub cause: Error,
    pub retry_after: Option<Duration>,
    /// The server said that coming back is of no use.
    pub for_good: bool,
}

/// What is left of a session when its connection ends.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub end: End,
    /// The last event that was taken over.
    pub seen: u64,
    /// The connection on which the session goes on.
    pub moved: Option<quinn::Connection>,
}

impl End {
    pub(super) fn lost(cause: Error) -> Self {
        let retry_after = cause.retry_after();
        Self { cause, retry_after, for_good: false }
    }
}

impl Connection<'_> {
    /// Closes the connection and leaves everything as the next one needs it.
    pub(super) async fn wind_up(mut self, for_good: bool) {
        self.core.events.put_messages(&mut self.scratch);
        if for_good {
            self.session.close();
        } else {
            // Not a goodbye: should this arrive after all, the server is to keep the session.
            self.session.connection.close(0u32.into(), b"");
        }
        tracing::debug!(duplicates = self.inbox.duplicates(), seen = self.seen, "session has ended");
        self.core.caught_up.send_replace(false);
        let mut open = Vec::new();
        for lane in [self.bulk.take(), self.heal.take()].into_iter().flatten() {
            open.extend(lane.close().await);
        }
        for (_, awaited) in std::mem::take(&mut self.table) {
            match awaited.purpose {
                Purpose::Call(call) => open.push(call),
                Purpose::Mark(batch) => self.put_marks_back(&batch),
                Purpose::Send { .. } | Purpose::AppState | Purpose::Ping => {}
            }
        }
        // The fetches of this session are not carried over: the inbox knows what is missing.
        drop(std::mem::take(&mut self.fetches));
        for call in open {
            if call.reply.is_closed() {
                continue;
            }
            if call.is_repeatable() {
                self.carried.push_back(call);
            } else {
                let _ = call.reply.send(Err(Error::Interrupted));
            }
        }
        self.core.outbox.lock().rewind();
        self.inbox.on_disconnect();
    }
}
