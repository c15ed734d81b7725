//! Traces in a binary that was built without them: nothing, of no size.
//!
//! Why it exists: the roles are written once. It must never cost anything: there is no state here, and nothing to call.

use bytes::Bytes;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use super::{Config, Kind, TraceError, Value, Whose};

/// A place in a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context;

#[allow(clippy::unused_self)]
impl Context {
    /// A place in no trace.
    pub const NONE: Self = Self;

    /// As it came from another role.
    #[inline(always)]
    pub fn of_wire(_trace: &[u8], _span: u64) -> Self {
        Self
    }

    /// The id of the trace, for another role; empty: not traced.
    #[inline(always)]
    pub fn trace_wire(self) -> Bytes {
        Bytes::new()
    }

    /// The id of the span, for another role; 0: not traced.
    #[inline(always)]
    pub fn span_wire(self) -> u64 {
        0
    }

    /// Whether it is one.
    #[inline(always)]
    pub fn is_traced(self) -> bool {
        false
    }

    /// The id of the trace, or this one.
    #[inline(always)]
    pub fn trace_or(self, other: u128) -> u128 {
        other
    }

    /// The one that [`Context::scope`] has set.
    #[inline(always)]
    pub fn current() -> Self {
        Self
    }

    /// Runs something in this place.
    #[inline(always)]
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        work.await
    }

    /// Writes it beside a call.
    #[inline(always)]
    pub fn write(self, _to: &mut MetadataMap) {}

    /// Reads it beside a call.
    #[inline(always)]
    pub fn read(_from: &MetadataMap) -> Self {
        Self
    }
}

/// A span.
#[derive(Debug, Default)]
pub struct Span(());

#[allow(clippy::unused_self, clippy::needless_pass_by_value)]
impl Span {
    /// The first of a trace.
    #[inline(always)]
    pub fn root(_name: &'static str, _kind: Kind) -> Self {
        Self(())
    }

    /// The first of the trace of this id, or one below `parent`.
    #[inline(always)]
    pub fn below_or_root(_parent: Context, _trace: u128, _name: &'static str, _kind: Kind) -> Self {
        Self(())
    }

    /// One below `parent`.
    #[inline(always)]
    pub fn child(_parent: Context, _name: &'static str, _kind: Kind) -> Self {
        Self(())
    }

    /// Of something that was refused for lack of capacity before it was begun.
    #[inline(always)]
    pub fn refused(_name: &'static str, _kind: Kind) -> Self {
        Self(())
    }

    /// Its place.
    #[inline(always)]
    pub fn context(&self) -> Context {
        Context
    }

    /// Its place, or where it would have been.
    #[inline(always)]
    pub fn context_or(&self, _other: Context) -> Context {
        Context
    }

    /// It began at this time.
    #[inline(always)]
    #[must_use]
    pub fn since(self, _began: Instant) -> Self {
        self
    }

    /// Says something.
    #[inline(always)]
    pub fn note(&mut self, _key: &'static str, _value: impl Into<Value>) {}

    /// Says how long something has taken.
    #[inline(always)]
    pub fn note_since(&mut self, _key: &'static str, _began: Instant) {}

    /// It ends badly.
    #[inline(always)]
    pub fn fail(&mut self, _code: &'static str) {}

    /// It ends well.
    #[inline(always)]
    pub fn settle(&mut self) {}

    /// It ends, refused for lack of capacity.
    #[inline(always)]
    pub fn turn_away(self, _code: &'static str) {}
}

/// A place in a trace to which what follows at once belongs as well.
#[derive(Debug, Default)]
pub struct Lead(());

#[allow(clippy::unused_self)]
impl Lead {
    /// What follows this span.
    #[inline(always)]
    pub fn of(_span: &Span) -> Self {
        Self(())
    }

    /// The place, for the first that follows soon enough.
    #[inline(always)]
    pub fn take(&mut self) -> Context {
        Context
    }
}

/// The export, while there is one.
pub struct Traces;

impl Traces {
    /// There is none: settings that ask for it are refused when they are read.
    pub fn begin(_config: &Config, _whose: Whose<'_>) -> Result<Self, TraceError> {
        Ok(Self)
    }

    /// Exports what is left.
    pub async fn finish(self) {}
}
