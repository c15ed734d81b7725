//! How a session of a member ends: with the run, by the plan, by the server, or by the network.
//!
//! It must never take an end that the server wanted for one that just happened, nor the other way round.

use std::time::{Duration, Instant};

use buslane_client::raw::FrameReader;
use buslane_shared::refusal::Code;
use buslane_shared::wire;

use super::notes::Notes;
use crate::storm::net::Turned;

/// The server finished the stream of a session and said nothing.
pub const STREAM_ENDED: &str = "stream_ended";

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// With the run.
    Over,
    /// By the plan. What is left of it is kept, without a word, until the client is back.
    Dropped {
        /// The number of the drop.
        drop: usize,
        /// The connection, with its streams.
        _rest: Forgotten,
    },
    /// By the server, or by the network.
    Lost {
        /// When to come back, if the server said so.
        retry_after: Option<Duration>,
    },
}

impl End {
    /// When to come back, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Lost { retry_after } => *retry_after,
            Self::Over | Self::Dropped { .. } => None,
        }
    }
}

/// A session of which the client knows nothing any more. The server hears nothing from it: no ping, no `seen`, no close; only
/// QUIC itself still acknowledges what arrives.
#[derive(Debug)]
pub struct Forgotten {
    connection: quinn::Connection,
    _send: quinn::SendStream,
    _recv: FrameReader,
}

impl Forgotten {
    /// Forgets a session.
    pub fn new(connection: quinn::Connection, send: quinn::SendStream, recv: FrameReader) -> Self {
        Self { connection, _send: send, _recv: recv }
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        // First of all: a stream that is dropped alone is finished, and that would mean the end of the session.
        self.connection.close((Code::Unspecified as u32).into(), b"");
    }
}

/// The server has said that the end is near.
#[derive(Debug)]
pub struct GoingAway {
    code: Code,
    /// By then it is over.
    pub until: Instant,
    retry_after: Option<Duration>,
}

impl GoingAway {
    /// What it said, and when.
    pub fn new(said: &wire::GoAway, now: Instant) -> Self {
        let retry_after =
            (said.retry_after_ms > 0).then(|| Duration::from_millis(said.retry_after_ms.into()));
        Self { code: said.code(), until: now + Duration::from_millis(said.within_ms.into()), retry_after }
    }
}

/// A session is over that nobody here has ended: notes whose doing it was. `why` is what its reader or writer saw.
pub fn lost(
    notes: &Notes,
    connection: &quinn::Connection,
    going_away: Option<&GoingAway>,
    why: &'static str,
) -> End {
    let said = connection.close_reason().map(Turned::from);
    match (going_away, &said) {
        (Some(GoingAway { code: Code::Draining, .. }), _)
        | (None, Some(Turned::Refused { name: "draining", .. })) => notes.on_drained(),
        (Some(going), _) => notes.on_closed(going.code.name()),
        (None, Some(Turned::Refused { name, .. })) => notes.on_closed(name),
        (None, Some(broken)) => notes.on_broken(broken.name()),
        (None, None) if why == STREAM_ENDED => notes.on_closed(why),
        (None, None) => notes.on_broken(why),
    }
    connection.close((Code::Unspecified as u32).into(), b"");
    End::Lost { retry_after: going_away.and_then(|going| going.retry_after) }
}
