//! Traces for a collector of OpenTelemetry: what a role says of a login or a message while it is under way.
//!
//! Why it exists: a number says that logins are slow, a trace says where one of them has waited, from the gateway to the disk. It is
//! compiled in with the feature `otel` only; without it [`Span`] and [`Context`] have no size and their functions do nothing, so
//! that the roles need no second version of themselves.
//!
//! Whether something is traced is decided first, from an id that is drawn anyway: what is not traced allocates nothing. Values are
//! numbers, or words of the program's own ([`Value`]), so a text, a key, a token, a room or a user can never be one. It must never
//! hold up what it watches: a span that has no place in the queue is dropped and counted.

mod config;

#[cfg(feature = "otel")]
mod carry;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod headers;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod on;
#[cfg(feature = "otel")]
mod queue;

use std::path::PathBuf;
use std::time::Duration;

use buslane_shared::wire::{self, answer::Result as Answered};

pub use config::{Config, is_built_in};
#[cfg(not(feature = "otel"))]
pub use off::{Context, Lead, Span, Traces};
#[cfg(feature = "otel")]
pub use on::{Context, Lead, Span, Traces};

/// How long the last spans may take to leave at the end of a process, whatever the collector does.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// What a span is to the one that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It answers somebody from outside of the process.
    Server,
    /// It asks another process.
    Client,
    /// It hands on what others take later.
    Producer,
    /// It takes what was handed on.
    Consumer,
    /// A part of the one above.
    Internal,
}

/// What may be said in a span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A word of the program.
    Word(&'static str),
    /// A count.
    Count(u64),
    /// A time.
    Seconds(f64),
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

/// Whose spans they are.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// "gateway", "session-manager", "backend" or "up".
    pub role: &'a str,
    /// The name of the node.
    pub node: &'a str,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file with the headers cannot be read.
    #[error("[traces] headers: {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something in that file is no header.
    #[error("[traces] headers: {}:{line}: write `name: value`, the name in small letters", path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable has a wrong value.
    #[error("{name} = {value:?}: write a number from 0 to 1, or sample_ratio in [traces]")]
    BadRatio {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// An environment variable has a wrong value.
    #[error("{name} = {value:?}: write milliseconds, 1 or more, or export_timeout_ms in [traces]")]
    BadTimeout {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The exporter cannot be made of these settings.
    #[error("[traces]: {0}")]
    Exporter(String),
    /// The thread cannot be started.
    #[error("[traces]: the thread that exports cannot be started: {0}; check the limits of this user")]
    Thread(std::io::Error),
    /// It was begun already.
    #[error("[traces]: this process exports its traces already")]
    Begun,
}

impl Span {
    /// A call between roles, at either end. `method`: as gRPC names it.
    pub fn call(parent: Context, method: &'static str, kind: Kind) -> Self {
        let mut span = Self::child(parent, method, kind);
        span.note("rpc.system.name", "grpc");
        span.note("rpc.method", method);
        span
    }

    /// It ends with this answer.
    pub fn answered(&mut self, answer: &wire::Answer) {
        match &answer.result {
            Some(Answered::Refusal(refusal)) => self.fail(refusal.code().name()),
            _ => self.settle(),
        }
    }
}

#[cfg(all(test, feature = "otel"))]
mod tests;
