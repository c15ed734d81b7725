//! Marks that were used, so that none is used twice.
//!
//! Two generations: what was added is remembered for at least [`LIFE_MS_MAX`], which no mark outlives. It must never grow
//! beyond its bound: when it is full it says so, and what cannot be remembered is not honoured.

use std::collections::HashSet;

use super::LIFE_MS_MAX;
use crate::UnixMs;

/// What becomes of a mark that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It was not shown before. Now it is used up.
    First,
    /// It was.
    Again,
    /// There is no room to remember it.
    Full,
}

impl Use {
    /// Its stable name: metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "replayed",
            Self::Full => "unremembered",
        }
    }
}

/// The marks that were used in the last eleven minutes or more.
#[derive(Debug)]
pub struct Used {
    young: HashSet<u64>,
    old: HashSet<u64>,
    since_ms: UnixMs,
    /// Of each generation.
    count_max: usize,
}

impl Used {
    /// Nothing is used yet. At most `count_max` marks are remembered of each generation, nine to eighteen bytes each.
    pub fn new(count_max: usize) -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), since_ms: 0, count_max }
    }

    /// Uses the mark with this [identity](super::identity) up.
    pub fn take(&mut self, identity: u64, now_ms: UnixMs) -> Use {
        self.age(now_ms);
        if self.old.contains(&identity) || self.young.contains(&identity) {
            return Use::Again;
        }
        if self.young.len() >= self.count_max {
            return Use::Full;
        }
        self.young.insert(identity);
        Use::First
    }

    fn age(&mut self, now_ms: UnixMs) {
        let age_ms = now_ms.saturating_sub(self.since_ms);
        if age_ms < LIFE_MS_MAX {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age_ms >= 2 * LIFE_MS_MAX {
            self.old = HashSet::new();
        }
        self.since_ms = now_ms;
    }
}
