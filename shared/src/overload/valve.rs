//! The valve: whether a request is admitted, decided in the path of every request.
//!
//! One relaxed load and one addition, nothing allocated, nothing waited for. The additions are the histogram of offered cost
//! by level, from which [`super::admission`] computes the next cut. Foreground and background are cut apart: background has
//! a floor that foreground cannot take, and beyond it nothing while any foreground is refused.

use std::sync::atomic::{AtomicU64, Ordering};

use super::level::{BACKGROUND, LEVELS, Level, STEPS};
use crate::Nanos;
use crate::class::{PROTOCOLS, Protocol};

/// Offered cost by level.
pub type Offered = [Nanos; LEVELS];

/// What a job costs before anything has been measured.
pub const COST_DEFAULT: Nanos = 1_000_000;

/// Where a range of levels is cut: levels below `below` are admitted, and of the level itself the part
/// `share` / 65,536 of its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// First level that is not admitted as a whole.
    pub below: u16,
    /// Part of it that is admitted.
    pub share: u16,
}

impl Edge {
    /// Everything up to `level` (exclusive).
    pub const fn at(level: u16) -> Self {
        Self { below: level, share: 0 }
    }

    fn admits(self, level: u16, bits: u16) -> bool {
        level < self.below || (level == self.below && bits < self.share)
    }
}

/// What is admitted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Levels 0 to 511. Control (level 0 to 127) is never cut.
    pub foreground: Edge,
    /// Levels 512 to 1023.
    pub background: Edge,
}

impl Cut {
    /// Everything.
    pub const OPEN: Self = Self { foreground: Edge::at(BACKGROUND), background: Edge::at(LEVELS as u16) };

    /// Whether a request of this level, by a user with these bits, is admitted.
    pub fn admits(self, level: Level, bits: u16) -> bool {
        let number = level.number();
        let edge = if number < BACKGROUND { self.foreground } else { self.background };
        number < STEPS || edge.admits(number, bits)
    }

    /// Whether any foreground is refused.
    pub fn cuts_foreground(self) -> bool {
        self.foreground < Self::OPEN.foreground
    }

    /// One number for people and for the wire: the first level that is not admitted; 1024: all are.
    pub fn level(self) -> u16 {
        if self.cuts_foreground() { self.foreground.below } else { self.background.below }
    }

    fn pack(self) -> u64 {
        let edge = |e: Edge| u64::from(e.below) << 16 | u64::from(e.share);
        edge(self.foreground) << 32 | edge(self.background)
    }

    fn unpack(bits: u64) -> Self {
        let edge = |b: u64| Edge { below: (b >> 16) as u16, share: b as u16 };
        Self { foreground: edge(bits >> 32), background: edge(bits) }
    }
}

/// Shared by all threads that take requests.
pub struct Valve {
    cut: AtomicU64,
    costs: [AtomicU64; PROTOCOLS],
    offered: Box<[AtomicU64]>,
}

impl Default for Valve {
    fn default() -> Self {
        Self {
            cut: AtomicU64::new(Cut::OPEN.pack()),
            costs: std::array::from_fn(|_| AtomicU64::new(COST_DEFAULT)),
            offered: (0..LEVELS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Valve {
    /// Counts the request, and says whether it is admitted.
    pub fn admit(&self, protocol: Protocol, level: Level, bits: u16) -> bool {
        let cost = self.costs.get(protocol.index()).map_or(COST_DEFAULT, |c| c.load(Ordering::Relaxed));
        if let Some(offered) = self.offered.get(usize::from(level.number())) {
            offered.fetch_add(cost, Ordering::Relaxed);
        }
        self.cut().admits(level, bits)
    }

    /// What is admitted now.
    pub fn cut(&self) -> Cut {
        Cut::unpack(self.cut.load(Ordering::Relaxed))
    }

    /// Sets what is admitted from now on.
    pub fn set_cut(&self, cut: Cut) {
        self.cut.store(cut.pack(), Ordering::Relaxed);
    }

    /// Sets what a job of a protocol costs on average.
    pub fn set_cost(&self, protocol: Protocol, cost: Nanos) {
        if let Some(known) = self.costs.get(protocol.index()) {
            known.store(cost.max(1), Ordering::Relaxed);
        }
    }

    /// Moves what was offered since the last time into `window`.
    pub fn take_offered(&self, window: &mut Offered) {
        for (into, from) in window.iter_mut().zip(&self.offered) {
            // Most levels saw nothing; a load is cheaper than a swap.
            *into = if from.load(Ordering::Relaxed) == 0 { 0 } else { from.swap(0, Ordering::Relaxed) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::overload::level::Standing;
    use proptest::prelude::*;

    fn level(class: Class, user: &str) -> (Level, u16) {
        let standing = Standing::of(user, 1, 0);
        (Level::new(class, standing), standing.bits)
    }

    #[test]
    fn an_open_valve_admits_everything_and_counts_it() {
        let valve = Valve::default();
        valve.set_cost(Protocol::MessageSend, 500);
        for class in Class::ALL {
            let (level, bits) = level(class, "alice");
            assert!(valve.admit(Protocol::MessageSend, level, bits));
        }
        let mut window = [0; LEVELS];
        valve.take_offered(&mut window);
        assert_eq!(window.iter().sum::<u64>(), 8 * 500);
        valve.take_offered(&mut window);
        assert_eq!(window.iter().sum::<u64>(), 0, "each is counted once");
    }

    #[test]
    fn control_is_never_cut() {
        let cut = Cut { foreground: Edge::at(0), background: Edge::at(BACKGROUND) };
        let (control, bits) = level(Class::Control, "alice");
        assert!(cut.admits(control, bits));
        let (talk, bits) = level(Class::Talk, "alice");
        assert!(!cut.admits(talk, bits));
    }

    #[test]
    fn a_level_can_be_cut_in_part_and_always_the_same_users_stay() {
        let cut =
            |share| Cut { foreground: Edge { below: STEPS + 5, share }, background: Edge::at(BACKGROUND) };
        let users: Vec<_> = (0..50_000).map(|n| level(Class::Talk, &format!("u{n}"))).collect();
        let at_edge: Vec<_> = users.iter().filter(|(l, _)| l.number() == STEPS + 5).collect();
        let half = at_edge.iter().filter(|(l, b)| cut(0x8000).admits(*l, *b)).count();
        assert!((half as f64 / at_edge.len() as f64 - 0.5).abs() < 0.1, "{half} of {}", at_edge.len());
        assert!(at_edge.iter().all(|(l, b)| !cut(0).admits(*l, *b)));
        // Whoever is admitted by a lower edge is admitted by a higher one.
        assert!(at_edge.iter().all(|(l, b)| !cut(0x4000).admits(*l, *b) || cut(0x8000).admits(*l, *b)));
    }

    proptest! {
        #[test]
        fn a_cut_is_read_back(a in 0u16..=512, b: u16, c in 512u16..=1024, d: u16) {
            let cut = Cut { foreground: Edge { below: a, share: b }, background: Edge { below: c, share: d } };
            let valve = Valve::default();
            valve.set_cut(cut);
            prop_assert_eq!(valve.cut(), cut);
        }
    }
}
