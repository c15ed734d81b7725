//! Spans: begun where something is sampled, filled while it is under way, handed to the queue when it is dropped.
//!
//! Why it exists: the usual way (a subscriber that sees every span and then asks a sampler) builds each span before it knows that
//! nobody wants it. Here the id of the trace decides, before anything is allocated: what is not traced is a null pointer. The rule is
//! that of OpenTelemetry's `TraceIdRatioBased`, parent-based: whoever is asked goes by who asks. It must never wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Kind, Value, queue};

pub use super::export::Traces;

/// Ids of traces below this are sampled; 0: none.
static SAMPLED: AtomicU64 = AtomicU64::new(0);

/// The same for what is refused for lack of capacity.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// What comes later than this has nothing to do with what it followed.
const LEAD_LIMIT: Duration = Duration::from_secs(5);

/// A call or a request that ends without any of its ends was given up by whoever waited for it.
const GIVEN_UP: &str = "given_up";

/// Sets which part of the traces is sampled.
pub(super) fn sample(ratio: f64, refused_ratio: f64) {
    SAMPLED.store(bound(ratio), Ordering::Relaxed);
    REFUSED.store(bound(refused_ratio), Ordering::Relaxed);
}

/// As in `TraceIdRatioBased`: 63 bits of the id are a number that is the same everywhere.
fn bound(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return 1 << 63;
    }
    (ratio.max(0.0) * (1_u64 << 63) as f64) as u64
}

fn is_below(trace: u128, bound: &AtomicU64) -> bool {
    (trace as u64) >> 1 < bound.load(Ordering::Relaxed)
}

/// A place in a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    /// Halves, so that it needs no wider alignment than everything around it.
    trace: [u64; 2],
    /// 0: none.
    span: u64,
    /// It is in another process.
    is_remote: bool,
}

tokio::task_local! {
    static CURRENT: Context;
}

impl Context {
    /// A place in no trace.
    pub const NONE: Self = Self { trace: [0; 2], span: 0, is_remote: false };

    fn new(trace: u128, span: u64, is_remote: bool) -> Self {
        if trace == 0 || span == 0 {
            return Self::NONE;
        }
        Self { trace: [(trace >> 64) as u64, trace as u64], span, is_remote }
    }

    pub(super) fn remote(trace: u128, span: u64) -> Self {
        Self::new(trace, span, true)
    }

    /// As it came from another role.
    pub fn of_wire(trace: &[u8], span: u64) -> Self {
        let trace = trace.try_into().map(u128::from_be_bytes).unwrap_or(0);
        Self::remote(trace, span)
    }

    /// The id of the trace, for another role; empty: not traced.
    pub fn trace_wire(self) -> Bytes {
        if self.is_traced() { Bytes::copy_from_slice(&self.trace().to_be_bytes()) } else { Bytes::new() }
    }

    /// The id of the span, for another role; 0: not traced.
    pub fn span_wire(self) -> u64 {
        self.span
    }

    /// Whether it is one.
    pub fn is_traced(self) -> bool {
        self.span != 0
    }

    /// The id of the trace, or this one.
    pub fn trace_or(self, other: u128) -> u128 {
        if self.is_traced() { self.trace() } else { other }
    }

    /// The one that [`Context::scope`] has set.
    pub fn current() -> Self {
        CURRENT.try_with(|context| *context).unwrap_or(Self::NONE)
    }

    /// Runs something in this place.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    pub(super) fn is_remote(self) -> bool {
        self.is_remote
    }

    pub(super) fn trace(self) -> u128 {
        let [high, low] = self.trace;
        u128::from(high) << 64 | u128::from(low)
    }
}

/// A place in a trace to which what follows at once belongs as well.
#[derive(Debug, Default)]
pub struct Lead(Option<Box<(Context, Instant)>>);

impl Lead {
    /// What follows this span.
    pub fn of(span: &Span) -> Self {
        let context = span.context();
        Self(context.is_traced().then(|| Box::new((context, Instant::now()))))
    }

    /// The place, for the first that follows soon enough.
    pub fn take(&mut self) -> Context {
        let lead = self.0.take().filter(|lead| lead.1.elapsed() <= LEAD_LIMIT);
        lead.map_or(Context::NONE, |lead| lead.0)
    }
}

/// A span. Dropping it ends it.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Open>>);

/// What is known of a span; without an end it is under way.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) context: Context,
    pub(super) parent: Context,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) notes: Vec<(&'static str, Value)>,
    pub(super) failed: Option<&'static str>,
    is_settled: bool,
}

impl Span {
    /// The first of a trace.
    pub fn root(name: &'static str, kind: Kind) -> Self {
        Self::below_or_root(Context::NONE, rand::random(), name, kind)
    }

    /// The first of the trace of this id, or one below `parent`.
    pub fn below_or_root(parent: Context, trace: u128, name: &'static str, kind: Kind) -> Self {
        if parent.is_traced() {
            return Self::child(parent, name, kind);
        }
        if is_below(trace, &SAMPLED) { Self::open(trace, Context::NONE, name, kind) } else { Self(None) }
    }

    /// One below `parent`.
    pub fn child(parent: Context, name: &'static str, kind: Kind) -> Self {
        // A role that exports nothing adds nothing to a trace of others.
        if !parent.is_traced() || !queue::is_open() {
            return Self(None);
        }
        Self::open(parent.trace(), parent, name, kind)
    }

    /// Of something that was refused for lack of capacity before it was begun.
    pub fn refused(name: &'static str, kind: Kind) -> Self {
        if REFUSED.load(Ordering::Relaxed) == 0 {
            return Self(None);
        }
        let trace = rand::random();
        if is_below(trace, &REFUSED) { Self::open(trace, Context::NONE, name, kind) } else { Self(None) }
    }

    fn open(trace: u128, parent: Context, name: &'static str, kind: Kind) -> Self {
        let began = SystemTime::now();
        // A trace of id 0 is none: one in 2^128.
        let context = Context::new(trace.max(1), rand::random::<u64>().max(1), false);
        let notes = Vec::with_capacity(4);
        let open =
            Open { context, parent, kind, name, began, ended: began, notes, failed: None, is_settled: false };
        Self(Some(Box::new(open)))
    }

    /// Its place.
    pub fn context(&self) -> Context {
        self.context_or(Context::NONE)
    }

    /// Its place, or where it would have been.
    pub fn context_or(&self, other: Context) -> Context {
        self.0.as_ref().map_or(other, |open| open.context)
    }

    /// It began at this time.
    #[must_use]
    pub fn since(mut self, began: Instant) -> Self {
        if let Some(open) = &mut self.0 {
            open.began = open.began.checked_sub(began.elapsed()).unwrap_or(open.began);
        }
        self
    }

    /// Says something.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.notes.push((key, value.into()));
        }
    }

    /// Says how long something has taken.
    pub fn note_since(&mut self, key: &'static str, began: Instant) {
        if let Some(open) = &mut self.0 {
            open.notes.push((key, Value::Seconds(began.elapsed().as_secs_f64())));
        }
    }

    /// It ends badly.
    pub fn fail(&mut self, code: &'static str) {
        if let Some(open) = &mut self.0 {
            open.failed = Some(code);
        }
    }

    /// It ends well.
    pub fn settle(&mut self) {
        if let Some(open) = &mut self.0 {
            open.is_settled = true;
        }
    }

    /// It ends, refused for lack of capacity. Nothing may be below it: where refusals are not sampled it is forgotten.
    pub fn turn_away(mut self, code: &'static str) {
        self.fail(code);
        if self.0.as_ref().is_some_and(|open| !is_below(open.context.trace(), &REFUSED)) {
            self.0 = None;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(mut open) = self.0.take() else { return };
        open.ended = SystemTime::now();
        if !open.is_settled && matches!(open.kind, Kind::Server | Kind::Client) {
            open.failed.get_or_insert(GIVEN_UP);
        }
        queue::offer(open);
    }
}
