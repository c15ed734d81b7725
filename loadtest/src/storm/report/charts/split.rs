//! The picture that matters: what was offered and what was served, foreground and background, with the posture above.
//!
//! Foreground has a plot of its own first, because beside a storm it is too small to be seen.

use super::{Chart, Key, Reading, marks, posture};
use crate::storm::report::axis::{Scale, amount_label};
use crate::storm::report::plot::{Plot, Size, TIME_AXIS, picture};
use crate::storm::report::timeline::{BACKGROUND, FOREGROUND, Timeline, stacked};
use crate::storm::result::{Run, StreamSecond};
use crate::storm::tally::Stream;

/// Room for a caption over a plot.
const CAPTION: f64 = 26.0;

/// Over what people wait for, so that its upper edge is seen.
const HEADROOM: f64 = 1.2;

/// Amounts a second, point by point.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    begins_s: Vec<f64>,
    foreground_offered: Vec<f64>,
    foreground: Vec<f64>,
    background_offered: Vec<f64>,
    background: Vec<f64>,
    turned_away: Vec<f64>,
}

impl Split {
    /// Of a run.
    pub fn of(timeline: &Timeline) -> Self {
        let due = |of: &StreamSecond| of.due.offered;
        let served = |of: &StreamSecond| of.served;
        Self {
            begins_s: timeline.begins_s(),
            foreground_offered: timeline.streams_per_s(&FOREGROUND, due),
            foreground: timeline.streams_per_s(&FOREGROUND, served),
            background_offered: timeline.streams_per_s(&BACKGROUND, due),
            background: timeline.streams_per_s(&BACKGROUND, served),
            turned_away: timeline.streams_per_s(&Stream::ALL, |of| of.turned_away),
        }
    }

    /// The most that is drawn.
    pub fn most(&self) -> f64 {
        self.offered().into_iter().chain(self.all()).fold(0.0, f64::max)
    }

    fn offered(&self) -> Vec<f64> {
        stacked(&self.foreground_offered, &self.background_offered)
    }

    fn served(&self) -> Vec<f64> {
        stacked(&self.foreground, &self.background)
    }

    fn all(&self) -> Vec<f64> {
        stacked(&self.served(), &self.turned_away)
    }

    fn is_foreground_alone(&self) -> bool {
        self.background_offered.iter().chain(&self.turned_away).all(|amount| *amount == 0.0)
    }

    fn readings(&self) -> Vec<Reading> {
        vec![
            Reading::amounts("foreground offered", "/s", &self.foreground_offered),
            Reading::amounts("foreground served", "/s", &self.foreground),
            Reading::amounts("background offered", "/s", &self.background_offered),
            Reading::amounts("background served", "/s", &self.background),
            Reading::amounts("turned away", "/s", &self.turned_away),
        ]
    }

    /// Everything, stacked.
    pub fn stack(&self, plot: &Plot) -> String {
        let floor = vec![0.0; self.begins_s.len()];
        [
            plot.area(&self.begins_s, &self.served(), &self.all(), "a-away"),
            plot.area(&self.begins_s, &self.foreground, &self.served(), "a-background"),
            plot.area(&self.begins_s, &floor, &self.foreground, "a-foreground"),
            plot.steps(&self.begins_s, &self.offered(), "l-offered"),
        ]
        .concat()
    }

    fn foreground_alone(&self, plot: &Plot) -> String {
        let floor = vec![0.0; self.begins_s.len()];
        plot.area(&self.begins_s, &floor, &self.foreground, "a-foreground")
            + &plot.steps(&self.begins_s, &self.foreground_offered, "l-offered")
    }
}

/// What the colours mean.
pub fn keys() -> Vec<Key> {
    vec![
        Key::new("a-foreground", "foreground served: what people wait for"),
        Key::new("a-background", "background served: what phones do by themselves"),
        Key::new("a-away", "turned away, to come back in a slot or later"),
        Key::new("l-offered", "offered"),
        Key::new("storm", "storm"),
    ]
}

/// The chart.
pub fn chart(run: &Run, timeline: &Timeline) -> String {
    let split = Split::of(timeline);
    let span_s = (timeline.from_s, timeline.to_s);
    let spells = posture::spells(run, span_s);
    let mut readings = split.readings();
    readings.push(Reading::words(
        "posture",
        split.begins_s.iter().map(|at_s| posture::at(&spells, *at_s)).collect(),
    ));
    let chart = Chart {
        title: "Offered and served",
        note: "A second, by when it happened. A client that is turned away and comes again is turned away each time, but offered once.",
        keys: keys(),
        readings,
    };
    chart.drawn(timeline, |size| drawn(run, &split, span_s, &spells, size)) + &marks::listed(run)
}

fn drawn(run: &Run, split: &Split, span_s: (f64, f64), spells: &[posture::Spell], size: Size) -> String {
    let band_top = marks::height(run, size);
    let mut top = band_top + posture::HEIGHT + CAPTION;
    let mut body = String::new();
    let mut plots = Vec::new();
    let storm_s = f64::from(run.plan.phases.storm_s);
    if !split.is_foreground_alone() {
        let most = split.foreground.iter().chain(&split.foreground_offered).map(|amount| amount * HEADROOM);
        let people = Plot::new(size, top, 90.0, span_s, Scale::linear(most));
        body += &[
            people.storm(storm_s),
            people.grid(2, amount_label),
            split.foreground_alone(&people),
            people.caption("What people wait for, a second"),
        ]
        .concat();
        top = people.bottom() + CAPTION + 6.0;
        plots.push(people);
    }
    let most = split.most() * if plots.is_empty() { HEADROOM } else { 1.0 };
    let height = if size == Size::Wide { 250.0 } else { 210.0 };
    let all = Plot::new(size, top, height, span_s, Scale::linear([most].into_iter()));
    body += &[
        all.storm(storm_s),
        all.grid(5, amount_label),
        split.stack(&all),
        all.caption("Everything, a second"),
        all.time_axis(size),
        posture::band(&all, band_top, spells),
    ]
    .concat();
    plots.push(all);
    body += &marks::drawn(run, size, &plots.iter().collect::<Vec<_>>());
    picture(
        size,
        all.bottom() + TIME_AXIS,
        &all,
        "Offered and served over time, with the posture of the server",
        &body,
    )
}

/// The same, small, with a scale that others share.
pub fn small(run: &Run, split: &Split, span_s: (f64, f64), most: f64) -> String {
    let spells = posture::spells(run, span_s);
    let plot =
        Plot::new(Size::Narrow, posture::HEIGHT + 8.0, 170.0, span_s, Scale::linear([most].into_iter()));
    let body = [
        plot.storm(f64::from(run.plan.phases.storm_s)),
        plot.grid(4, amount_label),
        split.stack(&plot),
        plot.time_axis(Size::Narrow),
        posture::band(&plot, 0.0, &spells),
    ]
    .concat();
    picture(Size::Narrow, plot.bottom() + TIME_AXIS, &plot, "Offered and served over time", &body)
}

/// Numbers of the small one.
pub fn small_readings(split: &Split) -> Vec<Reading> {
    split.readings()
}
