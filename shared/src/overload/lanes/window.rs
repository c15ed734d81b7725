//! What the lanes have seen since the last tick: the readings that other decisions are made from.

use super::Lanes;
use crate::Nanos;
use crate::class::Class;

/// The smallest sojourn is that of two intervals of this length.
const INTERVAL: Nanos = 10_000_000;

/// Where fewer than one seat in so many is free, the node is as full as it gets.
const SPARE_PART: u32 = 50;

/// What was seen since the last time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// How long that was.
    pub elapsed: Nanos,
    /// Cost of the jobs that were done.
    pub completed: Nanos,
    /// Seats that foreground used on average.
    pub foreground_erlangs: f64,
    /// Cost of the foreground work that waits now.
    pub foreground_backlog: Nanos,
    /// Predicted wait of the foreground class that waits longest.
    pub foreground_wait: Nanos,
    /// Predicted wait of the background class that waits longest.
    pub background_wait: Nanos,
    /// Share of the seats in use, without those that background only borrows.
    pub seats_busy: f64,
    /// Work waits, or hardly a seat is free.
    pub saturated: bool,
}

/// Sums since the last window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    elapsed: Nanos,
    completed: Nanos,
    /// Seats of foreground by time.
    foreground: u128,
}

impl Work {
    pub fn pass(&mut self, elapsed: Nanos, foreground_seats: u32) {
        self.elapsed += elapsed;
        self.foreground += u128::from(elapsed) * u128::from(foreground_seats);
    }

    pub fn complete(&mut self, cost: Nanos) {
        self.completed += cost;
    }
}

/// The smallest time that foreground waited: a queue that was empty once in a while is no standing queue (Nichols and
/// Jacobson, "Controlling Queue Delay", ACM Queue 2012).
#[derive(Debug, Clone, Copy, Default)]
pub struct Sojourns {
    now: Option<Nanos>,
    before: Option<Nanos>,
    began: Nanos,
}

impl Sojourns {
    fn note(&mut self, sojourn: Nanos) {
        self.now = least(self.now, Some(sojourn));
    }

    fn take(&mut self, now: Nanos) -> Option<Nanos> {
        let smallest = least(self.now, self.before);
        if now.saturating_sub(self.began) >= INTERVAL {
            (self.before, self.now, self.began) = (self.now, None, now);
        }
        smallest
    }
}

fn least(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    [a, b].into_iter().flatten().min()
}

impl Lanes {
    /// The smallest time that foreground waited for its seat, of the last 20 ms; if nobody got one, how long the oldest has
    /// waited. To be asked every 10 ms.
    pub fn take_sojourn_min(&mut self, now: Nanos) -> Option<Nanos> {
        self.advance(now);
        let smallest = self.sojourns.take(self.now);
        smallest.or_else(|| {
            let heads = Class::ALL.into_iter().filter(|class| class.is_foreground());
            let heads = heads.filter_map(|class| self.queue.oldest(class, !self.capped));
            heads.map(|(_, waiting)| self.now.saturating_sub(waiting.since)).max()
        })
    }

    /// What was seen since the last time.
    pub fn take_window(&mut self, now: Nanos) -> Window {
        self.advance(now);
        let Work { elapsed, completed, foreground } = std::mem::take(&mut self.work);
        let wait = |of_foreground: bool| {
            let classes = Class::ALL.into_iter().filter(|c| c.is_foreground() == of_foreground);
            classes.map(|class| self.predicted_wait(class)).max().unwrap_or(0)
        };
        Window {
            elapsed,
            completed,
            foreground_erlangs: foreground as f64 / elapsed.max(1) as f64,
            foreground_backlog: Class::ALL
                .into_iter()
                .filter(|class| class.is_foreground())
                .map(|class| self.backlog(class))
                .sum(),
            foreground_wait: wait(true),
            background_wait: wait(false),
            seats_busy: f64::from(self.busy()) / f64::from(self.shares.seats.max(1)),
            saturated: self.presses() || self.in_use + self.shares.seats / SPARE_PART >= self.shares.seats,
        }
    }

    /// Control does not wait, and would hide how long the others do.
    pub(super) fn note_sojourn(&mut self, class: Class, sojourn: Nanos) {
        if class.is_foreground() && class != Class::Control {
            self.sojourns.note(sojourn);
        }
    }

    fn busy(&self) -> u32 {
        let own = |class: Class| match class.is_foreground() {
            true => self.used(class),
            false => self.used(class).min(self.shares.of(class).guarantee),
        };
        Class::ALL.into_iter().map(own).sum()
    }
}
