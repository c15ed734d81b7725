//! Each class's part of the seats, as numbers of seats.

use crate::class::{CLASSES, Class, PROTOCOLS, Protocol};
use crate::overload::leftover::floor_seats;
use crate::overload::settings::{Policy, Settings};

/// A class's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    pub guarantee: u32,
    pub ceiling: u32,
}

/// All parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    pub seats: u32,
    /// What background always has.
    pub floor: u32,
    /// What its classes are promised together.
    pub background_guarantee: u32,
    classes: [Share; CLASSES],
    caps: [u32; PROTOCOLS],
}

impl Shares {
    pub fn new(settings: &Settings) -> Self {
        let seats = settings.lanes.seats;
        let classes = match settings.policy {
            Policy::Buslane => borrowed(settings),
            Policy::Static => fixed(settings),
            Policy::None => [Share { guarantee: 0, ceiling: seats }; CLASSES],
        };
        let caps = match settings.policy {
            // Settings that were checked have a table.
            Policy::Buslane | Policy::Static => settings.cap_table().unwrap_or([100; PROTOCOLS]),
            Policy::None => [100; PROTOCOLS],
        };
        let background = Class::ALL.into_iter().zip(classes).filter(|(class, _)| !class.is_foreground());
        Self {
            seats,
            floor: floor_seats(seats, settings.background.floor_percent),
            background_guarantee: background.map(|(_, share)| share.guarantee).sum(),
            classes,
            caps: caps.map(|percent| part(seats, percent).max(1)),
        }
    }

    pub fn of(&self, class: Class) -> Share {
        self.classes.get(class.index()).copied().unwrap_or_default()
    }

    pub fn cap(&self, protocol: Protocol) -> u32 {
        self.caps.get(protocol.index()).copied().unwrap_or(self.seats)
    }
}

fn part(seats: u32, percent: u8) -> u32 {
    (u64::from(seats) * u64::from(percent) / 100) as u32
}

/// Whoever is promised anything has at least one seat, and nobody is shut out by rounding.
fn borrowed(settings: &Settings) -> [Share; CLASSES] {
    let seats = settings.lanes.seats;
    settings.lanes.shares().map(|share| {
        let guarantee = part(seats, share.guarantee).max(u32::from(share.guarantee > 0));
        Share { guarantee, ceiling: part(seats, share.ceiling).max(guarantee).max(1) }
    })
}

/// Guarantees stretched to all of the seats; nobody is left without one.
fn fixed(settings: &Settings) -> [Share; CLASSES] {
    let seats = settings.lanes.seats;
    let wanted = settings.lanes.shares().map(|share| u32::from(share.guarantee));
    // Where nothing is promised all get the same.
    let wanted = if wanted.iter().sum::<u32>() == 0 { [1; CLASSES] } else { wanted };
    let sum: u32 = wanted.iter().sum();
    let mut parts = wanted.map(|w| ((u64::from(seats) * u64::from(w) / u64::from(sum.max(1))) as u32).max(1));
    // What rounding left over, or took too much, is settled with the largest.
    let given: u32 = parts.iter().sum();
    if let Some(largest) = parts.iter_mut().max_by_key(|p| **p) {
        *largest = (*largest + seats).saturating_sub(given).max(1);
    }
    parts.map(|seats| Share { guarantee: seats, ceiling: seats })
}
