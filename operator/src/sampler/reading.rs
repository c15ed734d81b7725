//! What a node has counted up to a moment, and what it looks like then; and what lies between two such moments.
//!
//! Why it exists: rates over a second, ten seconds and a minute are all taken from counters at the two ends, so that nothing is
//! averaged twice and a percentile is that of the whole span. Where a second was missed, the span is longer and says so. A
//! counter that is lower than before has begun anew, and everything in it is new. It must never invent a rate.

use std::time::Duration;

use buslane_chassis::oversee::{LatencyRow, Traffic, TrafficRow, percentile_us};
use buslane_shared::UnixMs;
use buslane_shared::class::{CLASSES, Class, Protocol};
use buslane_shared::overload::posture;
use buslane_shared::wire::Posture;

use crate::view::{ClassSample, LoginSample, Sample};

/// Everything that was counted up to a moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// When, by the wall clock.
    pub at_ms: UnixMs,
    /// When, by a clock that is never set.
    pub at: Duration,
    /// Requests and logins.
    pub traffic: Traffic,
    /// Processor time of the process.
    pub processor_time: Duration,
}

/// What a node looks like at a moment, or at the worst moments of a span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture {
    /// What holds.
    pub posture: Posture,
    /// What is measured.
    pub measured: Posture,
    /// The order that is obeyed.
    pub order: Option<u64>,
    /// First admission level that is refused.
    pub level: u16,
    /// Background logins that the node takes, per second.
    pub background_per_s: f64,
    /// Milliseconds until the first free slot.
    pub ledger_ms: u32,
    /// Jobs that wait, by class.
    pub waiting: [u32; CLASSES],
    /// Resident memory.
    pub resident_bytes: u64,
    /// Sessions at the front port.
    pub sessions_front: u64,
    /// Sessions at the wake port.
    pub sessions_wake: u64,
}

impl Picture {
    /// The picture of a span that ends with `later`: how things are then, and what was worst on the way.
    pub fn and_then(self, later: Self) -> Self {
        let mut waiting = later.waiting;
        for (most, before) in waiting.iter_mut().zip(self.waiting) {
            *most = before.max(*most);
        }
        Self {
            posture: worse(self.posture, later.posture),
            measured: worse(self.measured, later.measured),
            order: later.order.or(self.order),
            level: self.level.min(later.level),
            ledger_ms: self.ledger_ms.max(later.ledger_ms),
            waiting,
            ..later
        }
    }
}

/// The more severe of two postures.
fn worse(one: Posture, other: Posture) -> Posture {
    let severity = |posture| match posture {
        Posture::Normal => 0,
        Posture::Recovery => 1,
        Posture::Guard => 2,
        Posture::Emergency => 3,
    };
    if severity(other) > severity(one) { other } else { one }
}

/// What lies between two readings. None: no time has passed.
pub fn between(before: &Reading, after: &Reading, picture: &Picture) -> Option<Sample> {
    let span = after.at.checked_sub(before.at).filter(|span| !span.is_zero())?;
    let rates = Rates { before: &before.traffic, after: &after.traffic, span_s: span.as_secs_f64() };
    let processors = after.processor_time.saturating_sub(before.processor_time);
    Some(Sample {
        at_ms: after.at_ms,
        span_ms: u32::try_from(span.as_millis()).unwrap_or(u32::MAX),
        posture: posture::name(picture.posture).to_owned(),
        measured: posture::name(picture.measured).to_owned(),
        order: picture.order,
        level: picture.level,
        classes: rates.classes(picture),
        logins: LoginSample {
            offered_per_s: rates.of(is_login, |row| row.offered),
            served_per_s: rates.of(is_login, |row| row.served),
            deferred_per_s: rates.of(is_login, |row| row.deferred),
            background_per_s: picture.background_per_s,
            ledger_ms: picture.ledger_ms,
            trend: None,
        },
        messages_per_s: rates.of(is_message, |row| row.served),
        messages_trend: None,
        processors: processors.as_secs_f64() / rates.span_s,
        resident_bytes: picture.resident_bytes,
        sessions_front: picture.sessions_front,
        sessions_wake: picture.sessions_wake,
    })
}

fn is_login(row: &TrafficRow) -> bool {
    row.protocol == Protocol::Login.name() || row.protocol == Protocol::Resume.name()
}

fn is_message(row: &TrafficRow) -> bool {
    row.protocol == Protocol::MessageSend.name()
}

/// Two states of the same counters.
struct Rates<'a> {
    before: &'a Traffic,
    after: &'a Traffic,
    span_s: f64,
}

impl Rates<'_> {
    /// What was counted in these rows, per second.
    fn of(&self, rows: impl Fn(&TrafficRow) -> bool, count: impl Fn(&TrafficRow) -> u64) -> f64 {
        let new = self.after.rows.iter().filter(|row| rows(row)).map(|row| {
            let known = self.before.rows.iter();
            let before = known.clone().find(|b| b.class == row.class && b.protocol == row.protocol);
            increase(before.map_or(0, &count), count(row))
        });
        new.sum::<u64>() as f64 / self.span_s
    }

    fn classes(&self, picture: &Picture) -> Vec<ClassSample> {
        let classes = Class::ALL.into_iter().zip(picture.waiting);
        classes.map(|(class, waiting)| self.class(class.name(), waiting)).collect()
    }

    fn class(&self, class: &'static str, waiting: u32) -> ClassSample {
        let of = |count: fn(&TrafficRow) -> u64| self.of(|row| row.class == class, count);
        let took = self.took(class);
        ClassSample {
            class: class.to_owned(),
            offered_per_s: of(|row| row.offered),
            served_per_s: of(|row| row.served),
            deferred_per_s: of(|row| row.deferred),
            refused_per_s: of(|row| row.refused),
            waiting,
            p50_us: percentile_us(&took, 0.5),
            p99_us: percentile_us(&took, 0.99),
        }
    }

    /// How long the answers of a class took, counted by bound.
    fn took(&self, class: &str) -> Vec<u64> {
        let counts = |traffic: &Traffic| {
            let row: Option<&LatencyRow> = traffic.latency.iter().find(|row| row.class == class);
            row.map(|row| row.counts.clone()).unwrap_or_default()
        };
        let (mut before, after) = (counts(self.before), counts(self.after));
        before.resize(after.len(), 0);
        before.into_iter().zip(after).map(|(before, after)| increase(before, after)).collect()
    }
}

/// What a counter has counted since it was `before`.
fn increase(before: u64, after: u64) -> u64 {
    after.checked_sub(before).unwrap_or(after)
}

#[cfg(test)]
mod tests;
