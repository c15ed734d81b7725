//! Makes samples of three resolutions from one row of readings.
//!
//! Why it exists: a minute is not the mean of sixty seconds (a percentile has none, and the worst posture must not be lost in it), so
//! each resolution keeps the reading at which its span began, and what was worst since.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::oversee::PostureView;

use super::reading::{Picture, Reading, between};
use crate::history::Stretch;
use crate::view::Sample;

/// A reading comes a little early or late; a span that is shorter by less than this is whole.
const EARLY: Duration = Duration::from_millis(250);

/// Seconds over which the present is measured: a single second of few logins says little.
const PRESENT_READINGS: usize = 10;

/// The spans that go on.
#[derive(Debug)]
pub struct Steps {
    spans: [Span; 3],
    recent: VecDeque<Arc<Reading>>,
}

/// A span that goes on.
#[derive(Debug, Clone)]
struct Span {
    stretch: Stretch,
    begun: Arc<Reading>,
    picture: Picture,
}

/// How much was asked for in the last seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Present {
    /// Logins, per second.
    pub logins_per_s: f64,
    /// Messages that were taken, per second.
    pub messages_per_s: f64,
}

impl Steps {
    /// All spans begin with this reading.
    pub fn begin(reading: &Arc<Reading>, picture: Picture) -> Self {
        let spans = Stretch::ALL.map(|stretch| Span { stretch, begun: Arc::clone(reading), picture });
        Self { spans, recent: VecDeque::from([Arc::clone(reading)]) }
    }

    /// Notes a look between two readings, so that a posture which holds for less than a second is seen.
    pub fn on_look(&mut self, view: &PostureView) {
        for span in &mut self.spans {
            span.picture = span.picture.and_then(Picture {
                posture: view.posture,
                measured: view.measured,
                order: view.order,
                level: view.level,
                ledger_ms: view.ledger_ms,
                background_per_s: view.background_per_s,
                ..span.picture
            });
        }
    }

    /// Takes over a reading; the spans that end with it.
    pub fn on_reading(&mut self, reading: &Arc<Reading>, picture: Picture) -> Vec<(Stretch, Sample)> {
        self.recent.push_back(Arc::clone(reading));
        while self.recent.len() > PRESENT_READINGS + 1 {
            self.recent.pop_front();
        }
        let ended = self.spans.iter_mut().filter_map(|span| {
            let sample = span.on_reading(reading, picture)?;
            Some((span.stretch, sample))
        });
        ended.collect()
    }

    /// The last seconds. None: there was only one reading.
    pub fn present(&self) -> Option<Present> {
        let span = self.spans.first()?;
        let sample = between(self.recent.front()?, self.recent.back()?, &span.picture)?;
        Some(Present { logins_per_s: sample.logins.offered_per_s, messages_per_s: sample.messages_per_s })
    }
}

impl Span {
    fn on_reading(&mut self, reading: &Arc<Reading>, picture: Picture) -> Option<Sample> {
        self.picture = self.picture.and_then(picture);
        let step = Duration::from_millis(self.stretch.step_ms().into());
        let passed = reading.at.saturating_sub(self.begun.at);
        if passed + EARLY < step {
            return None;
        }
        let sample = between(&self.begun, reading, &self.picture)?;
        self.begun = Arc::clone(reading);
        self.picture = picture;
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use buslane_chassis::oversee::{Traffic, TrafficRow};
    use buslane_shared::wire::Posture;

    use super::*;
    use crate::testing::picture;

    fn reading(at_ms: u64, served: u64) -> Arc<Reading> {
        let row = TrafficRow {
            class: "C1",
            protocol: "message.send",
            offered: served,
            served,
            deferred: 0,
            refused: 0,
            reasons: Vec::new(),
        };
        let traffic = Traffic { rows: vec![row], latency: Vec::new() };
        Arc::new(Reading {
            at_ms: 1_000_000 + at_ms,
            at: Duration::from_millis(at_ms),
            traffic,
            processor_time: Duration::ZERO,
        })
    }

    #[test]
    fn each_resolution_ends_in_its_time_and_nothing_is_lost_between() {
        let mut steps = Steps::begin(&reading(0, 0), picture(Posture::Normal));
        let mut totals = [0.0; 3];
        let mut counts = [0; 3];
        for second in 1..=120 {
            // Each reading is up to 90 ms late.
            let at_ms = second * 1_000 + (second * 37) % 90;
            for (stretch, sample) in
                steps.on_reading(&reading(at_ms, second * second), picture(Posture::Normal))
            {
                totals[stretch as usize] += sample.messages_per_s * f64::from(sample.span_ms) / 1_000.0;
                counts[stretch as usize] += 1;
            }
        }
        assert_eq!(counts, [120, 12, 2]);
        for total in totals {
            assert!((total - 14_400.0).abs() < 1.0, "{totals:?}");
        }
    }

    #[test]
    fn a_missed_second_makes_a_longer_span_and_no_gap_in_the_sum() {
        let mut steps = Steps::begin(&reading(0, 0), picture(Posture::Normal));
        steps.on_reading(&reading(1_000, 10), picture(Posture::Normal));
        let ended = steps.on_reading(&reading(4_000, 40), picture(Posture::Normal));
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].1.span_ms, 3_000);
        assert!((ended[0].1.messages_per_s - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_emergency_is_in_every_resolution() {
        let mut steps = Steps::begin(&reading(0, 0), picture(Posture::Normal));
        let view = PostureView {
            node: "sm1".into(),
            posture: Posture::Emergency,
            since_ms: 0,
            measured: Posture::Emergency,
            cause: None,
            order: None,
            level: 640,
            background_per_s: 1.0,
            ledger_ms: 9,
        };
        steps.on_look(&view);
        let mut seen = Vec::new();
        for second in 1..=60 {
            let ended = steps.on_reading(&reading(second * 1_000, 0), picture(Posture::Normal));
            seen.extend(
                ended.into_iter().filter(|(_, sample)| sample.posture == "emergency" && sample.level == 640),
            );
        }
        let resolutions: Vec<Stretch> = seen.iter().map(|(stretch, _)| *stretch).collect();
        assert_eq!(resolutions, Stretch::ALL, "once in each");
    }

    #[test]
    fn the_present_is_that_of_the_last_ten_seconds() {
        let mut steps = Steps::begin(&reading(0, 0), picture(Posture::Normal));
        assert_eq!(steps.present(), None);
        for second in 1..=100 {
            let served = if second <= 90 { 0 } else { (second - 90) * 6 };
            steps.on_reading(&reading(second * 1_000, served), picture(Posture::Normal));
        }
        assert!((steps.present().unwrap().messages_per_s - 6.0).abs() < 1e-9);
        assert_eq!(steps.recent.len(), PRESENT_READINGS + 1);
    }
}
