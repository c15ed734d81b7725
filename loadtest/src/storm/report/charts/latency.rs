//! Latencies of one stream over time: half, 99 of 100 and the slowest, by orders of magnitude.

use super::{Chart, Key, Reading, absent};
use crate::storm::report::axis::{Scale, latency_label};
use crate::storm::report::plot::{Plot, Size, TIME_AXIS, picture};
use crate::storm::report::timeline::Timeline;
use crate::storm::report::words;
use crate::storm::result::{QUANTILES, Run};
use crate::storm::tally::Stream;
use crate::storm::timing::Phase;

/// Latencies, point by point.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    begins_s: Vec<f64>,
    step_s: f64,
    p50: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    max: Vec<Option<f64>>,
}

impl Latency {
    /// Of a stream.
    pub fn of(timeline: &Timeline, stream: Stream) -> Self {
        Self {
            begins_s: timeline.begins_s(),
            step_s: timeline.step as f64,
            p50: timeline.latency_ms(stream, |of| of.p50_ms),
            p99: timeline.latency_ms(stream, |of| of.p99_ms),
            max: timeline.latency_ms(stream, |of| of.max_ms),
        }
    }

    /// Every latency that is drawn.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.p50.iter().chain(&self.p99).chain(&self.max).filter_map(|value| *value)
    }

    fn lines(&self, plot: &Plot) -> String {
        [(&self.max, "l-max"), (&self.p50, "l-p50"), (&self.p99, "l-p99")]
            .map(|(values, class)| plot.line(&self.begins_s, self.step_s, values, class))
            .concat()
    }

    /// Its numbers.
    pub fn readings(&self) -> Vec<Reading> {
        vec![
            Reading::measured("slowest", "ms", &self.max),
            Reading::measured("99 of 100 within", "ms", &self.p99),
            Reading::measured("half within", "ms", &self.p50),
        ]
    }
}

/// The 99th percentile of a stream in its quiet phase.
pub fn quiet_p99_ms(run: &Run, stream: Stream) -> Option<f64> {
    let place = QUANTILES.iter().position(|share| *share == 0.99)?;
    run.streams.get(&stream)?.phases.get(&Phase::Quiet)?.quantiles_ms.get(place).copied()
}

/// What the colours mean.
pub fn keys(quiet: Option<f64>) -> Vec<Key> {
    let mut keys = vec![
        Key::new("l-p99", "99 of 100 within (p99)"),
        Key::new("l-p50", "half within (p50)"),
        Key::new("l-max", "slowest"),
    ];
    keys.extend(quiet.map(|quiet| Key::new("l-quiet", format!("quiet p99: {}", words::ms(quiet)))));
    keys
}

const NOTE: &str =
    "Each line is ten times the one below. By when things were due, waits and all tries counted.";

/// Those whose latency is in no line, because it had no end. A message of a conversation counts with the time until the end of the run.
fn never(run: &Run, stream: Stream) -> String {
    let phases = run.streams.get(&stream).into_iter().flat_map(|figures| figures.phases.values());
    match phases.map(|phase| phase.counts.never()).sum::<u64>() {
        never if never == 0 || stream == Stream::Talk => String::new(),
        never => format!(" Not in it: {} that were never served.", words::count(never as f64)),
    }
}

/// The chart of a stream; `height` of its plot.
pub fn chart(run: &Run, timeline: &Timeline, stream: Stream, height: f64) -> String {
    let title = format!("Latency of {}", stream.title());
    let latency = Latency::of(timeline, stream);
    if latency.values().next().is_none() {
        return absent(&title, "Not measured: nothing of it was served.");
    }
    let quiet = quiet_p99_ms(run, stream);
    let scale = Scale::log(latency.values().chain(quiet));
    let note = format!("{NOTE}{}", never(run, stream));
    let chart = Chart { title: &title, note: &note, keys: keys(quiet), readings: latency.readings() };
    chart.drawn(timeline, |size| {
        drawn(run, &latency, Frame { size, height, span_s: (timeline.from_s, timeline.to_s), scale, quiet })
    })
}

/// What a drawing of latencies is drawn into.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// For which screen.
    pub size: Size,
    /// Height of the plot.
    pub height: f64,
    /// From when to when.
    pub span_s: (f64, f64),
    /// The scale.
    pub scale: Scale,
    /// The quiet 99th percentile.
    pub quiet: Option<f64>,
}

/// One drawing.
pub fn drawn(run: &Run, latency: &Latency, frame: Frame) -> String {
    let plot = Plot::new(frame.size, 8.0, frame.height, frame.span_s, frame.scale);
    let body = [
        plot.storm(f64::from(run.plan.phases.storm_s)),
        plot.grid(5, latency_label),
        frame.quiet.map(|quiet| plot.level(quiet, "l-quiet")).unwrap_or_default(),
        latency.lines(&plot),
        run.marks.iter().filter(|(at_s, _)| plot.holds(*at_s)).map(|(at_s, _)| plot.event(*at_s)).collect(),
        plot.time_axis(frame.size),
    ]
    .concat();
    picture(frame.size, plot.bottom() + TIME_AXIS, &plot, "Latency over time", &body)
}
