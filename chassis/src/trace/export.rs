//! The thread that exports: takes what has ended from the queue, in batches, and sends it to the collector as OTLP over gRPC.
//!
//! Why it exists: a collector is somebody else's machine, slow or gone at the worst time. One thread, which runs when nothing else
//! wants to, talks to it; when it does not answer, spans are dropped and counted, it is left alone for a while, and one line a minute
//! says so. It must never be waited for, but by the end of the process and within a limit.

mod batch;
mod exporter;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SpanExporter as _;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::queue::Ended;
use super::{Config, FLUSH_LIMIT, TraceError, Whose, on, queue};

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Spans of one export: what collectors take well.
const BATCH_SPANS_MAX: usize = 512;

/// After an export that failed nothing is tried for so long, doubled each time up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often it is said that the collector does not take anything.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How long the thread may take to begin.
const START_LIMIT: Duration = Duration::from_secs(5);

/// The part of logins and requests that is traced where nobody says anything.
const SAMPLE_RATIO: f64 = 0.01;

/// The variable of OpenTelemetry that says it otherwise.
const RATIO_VARIABLE: &str = "OTEL_TRACES_SAMPLER_ARG";

/// The export of a process.
pub struct Traces {
    ending: Arc<AtomicBool>,
    thread: Thread,
    ended: oneshot::Receiver<()>,
}

impl Traces {
    /// Exports from now on, once in a process.
    pub fn begin(config: &Config, whose: Whose<'_>) -> Result<Self, TraceError> {
        let ratio = config.sample_ratio.map_or_else(ratio_of_environment, Ok)?;
        let plan = exporter::Plan::make(config, whose)?;
        let spans = queue::open(config.queue_spans_max as usize).ok_or(TraceError::Begun)?;
        let ending = Arc::new(AtomicBool::new(false));
        let (to_caller, began) = mpsc::sync_channel(1);
        let (done, ended) = oneshot::channel();
        let (told, counters) = (Arc::clone(&ending), Counters::look_up());
        let thread = thread::Builder::new().name("buslane-traces".to_owned());
        let thread = thread.spawn(move || {
            match Courier::begin(&plan, spans, told, counters) {
                Ok(courier) => {
                    let _ = to_caller.send(Ok(()));
                    courier.run();
                }
                Err(error) => {
                    let _ = to_caller.send(Err(error));
                }
            }
            // An error means that nobody waits.
            let _ = done.send(());
        });
        let thread = thread.map_err(TraceError::Thread)?.thread().clone();
        began.recv_timeout(START_LIMIT).map_err(|e| TraceError::Exporter(e.to_string()))??;
        on::sample(ratio, config.refused_sample_ratio);
        Ok(Self { ending, thread, ended })
    }

    /// Exports what is left, within [`FLUSH_LIMIT`].
    pub async fn finish(self) {
        on::sample(0.0, 0.0);
        self.ending.store(true, Ordering::Release);
        self.thread.unpark();
        if tokio::time::timeout(FLUSH_LIMIT, self.ended).await.is_err() {
            tracing::warn!("some traces had not reached the collector at the end");
        }
    }
}

fn ratio_of_environment() -> Result<f64, TraceError> {
    let Ok(value) = env::var(RATIO_VARIABLE) else { return Ok(SAMPLE_RATIO) };
    match value.trim().parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(TraceError::BadRatio { name: RATIO_VARIABLE, value }),
    }
}

/// What lives on the thread.
struct Courier {
    spans: Ended,
    ending: Arc<AtomicBool>,
    exporter: SpanExporter,
    runtime: Runtime,
    timeout: Duration,
    /// Until when the collector is left alone, and how long that was.
    pause: Option<(Instant, Duration)>,
    /// Lost since the last line, and when that was.
    lost: u64,
    said_at: Option<Instant>,
    counters: Counters,
}

/// Looked up once, by whoever begins: to look them up takes a lock, and this thread runs last.
#[derive(Clone)]
struct Counters {
    exported: Counter,
    dropped: Counter,
}

impl Counters {
    fn look_up() -> Self {
        Self {
            exported: counter!("buslane_spans_exported_total"),
            dropped: counter!("buslane_spans_dropped_total", "why" => "export"),
        }
    }
}

impl Courier {
    fn begin(
        plan: &exporter::Plan,
        spans: Ended,
        ending: Arc<AtomicBool>,
        counters: Counters,
    ) -> Result<Self, TraceError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(TraceError::Thread)?;
        let exporter = runtime.block_on(async { plan.exporter() })?;
        let timeout = plan.timeout();
        Ok(Self { spans, ending, exporter, runtime, timeout, pause: None, lost: 0, said_at: None, counters })
    }

    fn run(mut self) {
        // Not before: the start of the process waits until it has begun, also in a storm.
        runs_last();
        while !self.ending.load(Ordering::Acquire) {
            let is_left_alone = self.pause.is_some_and(|(until, _)| Instant::now() < until);
            // While the collector is left alone the queue fills, and counts what finds no place.
            if is_left_alone || !self.export(self.timeout) {
                thread::park_timeout(LOOK_EVERY);
            }
        }
        let end = Instant::now() + FLUSH_LIMIT;
        while self.export(end.saturating_duration_since(Instant::now()).min(self.timeout)) {
            if self.pause.is_some() || Instant::now() >= end {
                break;
            }
        }
        let left = self.spans.take(usize::MAX).len() as u64;
        if left > 0 {
            self.counters.dropped.increment(left);
        }
        // Its own time, not ours: it must not hold up the end of the thread.
        self.runtime.shutdown_background();
    }

    /// Sends a batch. False: there was none.
    fn export(&mut self, limit: Duration) -> bool {
        let open = self.spans.take(BATCH_SPANS_MAX);
        if open.is_empty() {
            return false;
        }
        let count = open.len() as u64;
        let spans = open.into_iter().map(batch::span).collect();
        let sending = async { tokio::time::timeout(limit, self.exporter.export(spans)).await };
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => {
                self.counters.exported.increment(count);
                self.pause = None;
            }
            Ok(Err(error)) => self.on_lost(count, &error.to_string()),
            Err(_) => self.on_lost(count, "it did not answer in time"),
        }
        true
    }

    fn on_lost(&mut self, count: u64, why: &str) {
        self.counters.dropped.increment(count);
        self.lost += count;
        let length = self.pause.map_or(PAUSE, |(_, length)| (length * 2).min(PAUSE_MAX));
        self.pause = Some((Instant::now() + length, length));
        if self.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            tracing::warn!(
                spans = self.lost,
                why,
                "the collector of [traces] took nothing; serving goes on without it"
            );
            (self.lost, self.said_at) = (0, Some(Instant::now()));
        }
    }
}

/// This thread runs when nothing else wants to. It is a wish: where the system does not know it, it works all the same.
fn runs_last() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        tracing::warn!(%error, "the thread that exports traces has the usual priority");
    }
}
