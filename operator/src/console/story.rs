//! What is happening, in a sentence or two. `words.js` says the same with each second that comes.

use super::words::{count, micros, percent, rate};
use crate::view::{ClassSample, Sample};

/// Less than this per second is nothing.
const QUIET_PER_S: f64 = 0.05;

/// Talk that takes longer is called slow.
const SLOW_US: u64 = 250_000;

/// Scores above are unusual.
const UNUSUAL: f64 = 4.0;

/// Classes that a person looks at.
const FOREGROUND: usize = 4;

/// What some classes ask for and get, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Split {
    pub(super) offered: f64,
    pub(super) served: f64,
    pub(super) deferred: f64,
    pub(super) refused: f64,
}

impl Split {
    fn of<'a>(classes: impl Iterator<Item = &'a ClassSample>) -> Self {
        classes.fold(Self::default(), |sum, class| Self {
            offered: sum.offered + class.offered_per_s,
            served: sum.served + class.served_per_s,
            deferred: sum.deferred + class.deferred_per_s,
            refused: sum.refused + class.refused_per_s,
        })
    }

    /// Whether there is nothing to speak of.
    pub(super) fn is_quiet(self) -> bool {
        self.offered < QUIET_PER_S
    }
}

/// Foreground and background.
pub(super) fn split(sample: &Sample) -> (Split, Split) {
    (Split::of(sample.classes.iter().take(FOREGROUND)), Split::of(sample.classes.iter().skip(FOREGROUND)))
}

/// What is happening.
pub(super) fn story(sample: &Sample) -> String {
    let (front, back) = split(sample);
    format!("{} {}{}{}", foreground(front), background(back), logins(sample), talk(sample))
}

fn foreground(front: Split) -> String {
    let lost = front.refused + front.deferred;
    if front.is_quiet() {
        "Foreground is quiet.".to_owned()
    } else if lost < QUIET_PER_S {
        format!("Foreground gets all it asks for, {}.", rate(front.served))
    } else {
        let share = percent(front.served, front.offered);
        format!("Foreground gets {share} of {}; {} must wait.", rate(front.offered), rate(lost))
    }
}

fn background(back: Split) -> String {
    if back.is_quiet() {
        return "Background is quiet.".to_owned();
    }
    let mut put = Vec::new();
    if back.deferred >= QUIET_PER_S {
        put.push(format!("{} are told when to come back", rate(back.deferred)));
    }
    if back.refused >= QUIET_PER_S {
        put.push(format!("{} are refused", rate(back.refused)));
    }
    if put.is_empty() {
        return format!("Background gets all it asks for, {}.", rate(back.served));
    }
    format!("Background asks for {}: {} served, {}.", rate(back.offered), rate(back.served), put.join(", "))
}

fn logins(sample: &Sample) -> String {
    match sample.logins.trend {
        Some(trend) if trend.score > UNUSUAL && trend.usual_per_s > 0.0 => {
            let times = count(sample.logins.offered_per_s / trend.usual_per_s);
            format!(" Logins are {times} times the usual of this hour.")
        }
        _ => String::new(),
    }
}

fn talk(sample: &Sample) -> String {
    match sample.classes.get(1).and_then(|talk| talk.p99_us) {
        Some(us) if us > SLOW_US => format!(" Talk is slow: {} at the 99th percentile.", micros(Some(us))),
        _ => String::new(),
    }
}
