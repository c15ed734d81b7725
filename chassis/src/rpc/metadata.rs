//! What travels beside a request: how much time is left, how important it is, and the trace id.
//!
//! Why it exists: a callee that knows the deadline starts no work that nobody waits for, and one that knows the class can
//! prefer the right work. Time is sent as what is left, never as a point in time: clocks of machines differ.

use std::time::Duration;

use buslane_shared::class::Class;
use buslane_shared::limits::{DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX};
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};

const DEADLINE: &str = "buslane-deadline-ms";
const CLASS: &str = "buslane-class";
const TRACE: &str = "buslane-trace";

/// The terms of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) deadline: Instant,
    pub(super) class: Class,
    pub(super) trace: u128,
}

impl Terms {
    pub(super) fn write(&self, to: &mut MetadataMap, now: Instant) {
        let left_ms = self.deadline.saturating_duration_since(now).as_millis();
        to.insert(DEADLINE, MetadataValue::from(u64::try_from(left_ms).unwrap_or(u64::MAX)));
        to.insert(CLASS, MetadataValue::from(self.class as u8 as u16));
        if let Ok(trace) = format!("{:032x}", self.trace).parse() {
            to.insert(TRACE, trace);
        }
    }

    /// What is missing or makes no sense reads as the least: the default deadline, the last class, no trace.
    pub(super) fn read(from: &MetadataMap, now: Instant) -> Self {
        let text = |key: &str| from.get(key).and_then(|v| v.to_str().ok());
        let left_ms = text(DEADLINE)
            .and_then(|v| v.parse().ok())
            .unwrap_or(u64::from(DEADLINE_MS_DEFAULT))
            .min(u64::from(DEADLINE_MS_MAX));
        Self {
            deadline: now + Duration::from_millis(left_ms),
            class: text(CLASS).and_then(|v| v.parse().ok()).and_then(class).unwrap_or(Class::Spare),
            trace: text(TRACE).and_then(|v| u128::from_str_radix(v, 16).ok()).unwrap_or(0),
        }
    }
}

fn class(number: u8) -> Option<Class> {
    const ALL: [Class; 8] = [
        Class::Control,
        Class::Talk,
        Class::Look,
        Class::Bulk,
        Class::Social,
        Class::Wake,
        Class::Pulse,
        Class::Spare,
    ];
    ALL.into_iter().find(|class| *class as u8 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn terms_travel_as_time_left() {
        let now = Instant::now();
        let terms = Terms { deadline: now + Duration::from_millis(1500), class: Class::Social, trace: 77 };
        let mut map = MetadataMap::new();
        terms.write(&mut map, now);
        let later = now + Duration::from_secs(9);
        let read = Terms::read(&map, later);
        assert_eq!(read, Terms { deadline: later + Duration::from_millis(1500), ..terms });
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_reads_as_the_least() {
        let now = Instant::now();
        let mut map = MetadataMap::new();
        map.insert(DEADLINE, MetadataValue::from_static("99999999999"));
        map.insert(CLASS, MetadataValue::from_static("9"));
        map.insert(TRACE, MetadataValue::from_static("zz"));
        let read = Terms::read(&map, now);
        assert_eq!(read.deadline, now + Duration::from_millis(u64::from(DEADLINE_MS_MAX)));
        assert_eq!((read.class, read.trace), (Class::Spare, 0));
        let none = Terms::read(&MetadataMap::new(), now);
        assert_eq!(none.deadline, now + Duration::from_millis(u64::from(DEADLINE_MS_DEFAULT)));
    }
}
