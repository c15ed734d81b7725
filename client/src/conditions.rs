//! What the server does now and what it asks of its clients, checked before it is obeyed. Pure.
//!
//! A server under pressure asks for patience: fewer pings, receipts gathered, some features left alone. An app is told, so that
//! it can tell its user. It must never make a client so patient that it is lost: what is beyond reason is cut.

use std::time::Duration;

use buslane_shared::wire::{self, Posture};

/// Longest time for which receipts are gathered, whatever a server asks for: a person who reads wants others to know within a
/// minute.
const RECEIPT_BATCH_MAX: Duration = Duration::from_secs(60);

/// Features that are off, and the length of their names: far more than there are.
const OFF_MAX: usize = 64;

/// The interval between pings of a server that is not under pressure and does not name one: the default of the protocol.
const PING_INTERVAL_USUAL: Duration = Duration::from_secs(30);

/// What the server does now, and what follows for an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Conditions {
    /// What the node does.
    pub posture: Posture,
    /// Requests that are refused now, by name ("receipt.counts"): an app says so instead of trying.
    pub off: Vec<String>,
    /// For how long receipts are gathered before they are told.
    pub receipt_batch: Duration,
    /// The interval between pings that the server asks for; `None`: it names none.
    pub ping_interval: Option<Duration>,
}

impl Conditions {
    /// Of a server that says what it asks for.
    pub(crate) fn of(advice: wire::Advice) -> Self {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        let posture = advice.posture();
        let names = advice.off.into_iter().take(OFF_MAX);
        Self {
            posture,
            off: names.filter(|name| name.len() <= OFF_MAX && !name.chars().any(char::is_control)).collect(),
            receipt_batch: millis(advice.receipt_batch_ms).min(RECEIPT_BATCH_MAX),
            ping_interval: (advice.ping_interval_ms > 0).then(|| millis(advice.ping_interval_ms)),
        }
    }

    /// Of a server that names its posture and an interval only.
    pub(crate) fn plain(posture: Posture, ping_interval_ms: u32) -> Self {
        Self::of(wire::Advice { posture: posture.into(), ping_interval_ms, ..Default::default() })
    }

    /// The same without what is asked for only under pressure.
    pub(crate) fn relaxed(self) -> Self {
        let ping_interval = self.ping_interval.map(|asked| asked.min(PING_INTERVAL_USUAL));
        Self { off: Vec::new(), receipt_batch: Duration::ZERO, ping_interval, ..self }
    }

    /// Whether an app would show its user the same: how often the client pings is nobody's business.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        (self.posture, &self.off, self.receipt_batch) == (other.posture, &other.off, other.receipt_batch)
    }

    /// Whether requests of this name are refused now.
    pub fn is_off(&self, protocol: &str) -> bool {
        self.off.iter().any(|name| name == protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_taken_as_far_as_it_is_reasonable() {
        let conditions = Conditions::of(wire::Advice {
            posture: Posture::Emergency.into(),
            ping_interval_ms: 120_000,
            receipt_batch_ms: 3_600_000,
            off: vec!["receipt.counts".into(), "a\nb".into(), "x".repeat(1_000)],
            ..Default::default()
        });
        assert_eq!(conditions.posture, Posture::Emergency);
        assert_eq!(conditions.ping_interval, Some(Duration::from_secs(120)));
        assert_eq!(conditions.receipt_batch, RECEIPT_BATCH_MAX);
        assert!(conditions.is_off("receipt.counts") && !conditions.is_off("message.send"));
        assert_eq!(conditions.off.len(), 1);
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let off = (0..10_000).map(|n| n.to_string()).collect();
        assert_eq!(Conditions::of(wire::Advice { off, ..Default::default() }).off.len(), OFF_MAX);
    }

    #[test]
    fn when_the_pressure_is_over_pings_are_not_rarer_than_usual() {
        let patient = Conditions::of(wire::Advice { ping_interval_ms: 120_000, ..Default::default() });
        assert_eq!(patient.relaxed().ping_interval, Some(PING_INTERVAL_USUAL));
        let brisk = Conditions::of(wire::Advice { ping_interval_ms: 1_000, ..Default::default() });
        assert_eq!(brisk.relaxed().ping_interval, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_posture_of_the_future_is_normal_and_no_interval_is_none() {
        let conditions = Conditions::of(wire::Advice { posture: 99, ..Default::default() });
        assert_eq!(conditions, Conditions::default());
    }
}
