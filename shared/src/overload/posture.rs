//! The posture of a node: what is measured and what is ordered, combined, and what follows from it for clients.
//!
//! Two machines that know nothing of each other ([`super::surge`] and [`super::orders`]) meet here. An order wins; when it
//! ends, what is measured holds again at once. A posture switches features and advice. It has no way to end a session: what
//! it asks of clients is to be patient, and it is more patient itself for as long.

use crate::UnixMs;
use crate::class::{Class, Classes, Protocol};
use crate::overload::orders::{Kind, Order, Orders};
use crate::overload::settings::Times;
use crate::overload::signals::Cause;
use crate::wire::{self, AppState, Posture};

/// Its name: metric label, JSON value and word for people.
pub fn name(posture: Posture) -> &'static str {
    match posture {
        Posture::Normal => "normal",
        Posture::Guard => "guard",
        Posture::Emergency => "emergency",
        Posture::Recovery => "recovery",
    }
}

/// Where a posture comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    /// It is measured; the signal that is worst, if one is over its guard value.
    Measured(Option<Cause>),
    /// The order of this id says so.
    Ordered(u64),
}

impl Source {
    /// Its name: metric label and word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured(_) => "measured",
            Self::Ordered(_) => "ordered",
        }
    }

    /// The order that is obeyed.
    pub fn order(self) -> Option<u64> {
        match self {
            Self::Measured(_) => None,
            Self::Ordered(id) => Some(id),
        }
    }
}

/// Another posture, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// What held.
    pub from: Posture,
    /// What holds now.
    pub to: Posture,
    /// Why.
    pub why: Source,
}

/// What holds, of what is measured and what is ordered.
pub fn combine(measured: Posture, cause: Option<Cause>, order: Option<&Order>) -> (Posture, Source) {
    match order.map(|order| (order.kind, order.id)) {
        Some((Kind::Emergency, id)) => (Posture::Emergency, Source::Ordered(id)),
        Some((Kind::Normal, id)) => (Posture::Normal, Source::Ordered(id)),
        Some((Kind::Automatic, _)) | None => (measured, Source::Measured(cause)),
    }
}

/// The posture that holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stance {
    posture: Posture,
    source: Source,
}

impl Default for Stance {
    fn default() -> Self {
        Self { posture: Posture::Normal, source: Source::Measured(None) }
    }
}

impl Stance {
    /// What holds.
    pub fn posture(&self) -> Posture {
        self.posture
    }

    /// Why.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Takes over what is measured and ordered now. A change of the source alone is no change of the posture.
    pub fn update(
        &mut self,
        measured: Posture,
        cause: Option<Cause>,
        orders: &Orders,
        now_ms: UnixMs,
    ) -> Option<Change> {
        let from = self.posture;
        (self.posture, self.source) = combine(measured, cause, orders.in_force(now_ms));
        let change = Change { from, to: self.posture, why: self.source };
        (change.from != change.to).then_some(change)
    }

    /// The share of the node that background may have, where `measured` is what the measured posture gives it and `floor`
    /// what it always has.
    pub fn background_share(&self, measured: f64, floor: f64) -> f64 {
        match (self.source, self.posture) {
            (Source::Ordered(_), Posture::Emergency) => floor,
            (Source::Ordered(_), _) => 1.0,
            (Source::Measured(_), _) => measured,
        }
    }
}

/// Whether a posture itself refuses this, whatever room there is: in EMERGENCY what nobody waits for, and new sessions of
/// phones that act alone. Pings are always answered: that costs what refusing them would, and they keep sessions alive.
pub fn refuses(posture: Posture, protocol: Protocol, class: Class) -> bool {
    let emergency = posture == Posture::Emergency;
    match protocol {
        Protocol::Ping => false,
        Protocol::Login => emergency && !class.is_foreground(),
        _ => emergency && class >= Class::Pulse,
    }
}

/// What is asked of clients while nothing is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usual {
    /// The interval between pings.
    pub ping_interval_ms: u32,
    /// After this long without a sign of life a session ends.
    pub idle_limit_ms: u32,
}

/// What a session in this app state is told while a posture holds. Both times are at least the usual ones.
pub fn advice(
    posture: Posture,
    times: &Times,
    usual: Usual,
    classes: &Classes,
    app_state: AppState,
) -> wire::Advice {
    let emergency = posture == Posture::Emergency;
    let factor = if emergency { times.ping_factor.max(1) } else { 1 };
    let off = Protocol::ALL.into_iter().filter(|p| is_request(*p));
    wire::Advice {
        posture: posture.into(),
        ping_interval_ms: usual.ping_interval_ms.saturating_mul(factor),
        idle_limit_ms: usual.idle_limit_ms.saturating_mul(factor),
        receipt_batch_ms: if emergency { times.receipt_batch_ms } else { 0 },
        off: off
            .filter(|p| refuses(posture, *p, classes.of(*p, app_state)))
            .map(|p| p.name().to_owned())
            .collect(),
    }
}

/// Whether an app can ask for it by this name.
fn is_request(protocol: Protocol) -> bool {
    !matches!(protocol, Protocol::Login | Protocol::Resume | Protocol::Delivery | Protocol::Unknown)
}

/// How a node is, for those who call it: some forty bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// What holds.
    pub posture: Posture,
    /// First admission level that is refused, 0 to 1024; 1024: none.
    pub level: u16,
    /// Background logins that it takes, per second.
    pub background_per_s: f64,
    /// The same when the storm of now is over, as far as it knows. Slots that are far away are spaced by it.
    pub background_later_per_s: f64,
    /// Milliseconds until the first free place in its slot ledger.
    pub ledger_ms: u32,
    /// The order that it obeys.
    pub order: Option<u64>,
    /// Its own count of reports.
    pub no: u64,
}

impl From<Report> for wire::Load {
    fn from(report: Report) -> Self {
        Self {
            posture: report.posture.into(),
            level: report.level.into(),
            // Saturates; a rate that is no number is none.
            background_rate_milli: (report.background_per_s * 1e3) as u64,
            background_later_milli: (report.background_later_per_s * 1e3) as u64,
            ledger_ms: report.ledger_ms,
            order: report.order.unwrap_or(0),
            no: report.no,
        }
    }
}

impl From<&wire::Load> for Report {
    fn from(load: &wire::Load) -> Self {
        Self {
            posture: load.posture(),
            level: u16::try_from(load.level).unwrap_or(u16::MAX),
            background_per_s: load.background_rate_milli as f64 / 1e3,
            background_later_per_s: load.background_later_milli as f64 / 1e3,
            ledger_ms: load.ledger_ms,
            order: Some(load.order).filter(|id| *id > 0),
            no: load.no,
        }
    }
}

/// The share of the capacity of nodes, given as weight and posture, that is in EMERGENCY; 0 of none.
pub fn emergency_share(nodes: impl IntoIterator<Item = (u32, Posture)>) -> f64 {
    let (mut all, mut emergency) = (0.0, 0.0);
    for (weight, posture) in nodes {
        all += f64::from(weight);
        if posture == Posture::Emergency {
            emergency += f64::from(weight);
        }
    }
    if all > 0.0 { emergency / all } else { 0.0 }
}

#[cfg(test)]
mod tests;
