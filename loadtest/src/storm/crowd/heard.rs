//! Which messages of a room one has: to count each once, and to know from where to ask when some were missed.
//!
//! Own messages and those of the other one share the sequence; a receipt tells the number of an own one. Bounded: a hole that
//! stays far behind is an own message whose receipt never came, and is given up.

use std::collections::BTreeSet;

/// Numbers beyond a hole that are kept: far more than a mailbox holds.
const AHEAD_MAX: usize = 1_024;

/// What is known of one room.
#[derive(Debug, Default)]
pub struct Heard {
    /// Everything up to here is known.
    through: u64,
    /// Known beyond a hole.
    ahead: BTreeSet<u64>,
}

impl Heard {
    /// Everything up to this number is known.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// A message of this number is there. True: for the first time.
    pub fn on_message(&mut self, seq: u64) -> bool {
        if seq <= self.through || !self.ahead.insert(seq) {
            return false;
        }
        if self.ahead.len() > AHEAD_MAX
            && let Some(lowest) = self.ahead.first()
        {
            self.through = lowest - 1;
        }
        while self.ahead.remove(&(self.through + 1)) {
            self.through += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once() {
        let mut heard = Heard::default();
        let new: Vec<bool> = [1, 2, 2, 5, 4, 5, 1, 3, 4].map(|seq| heard.on_message(seq)).into();
        assert_eq!(new, [true, true, false, true, true, false, false, true, false]);
        assert_eq!(heard.through(), 5);
    }

    #[test]
    fn a_hole_is_given_up_in_the_end() {
        let mut heard = Heard::default();
        for seq in 2..=AHEAD_MAX as u64 + 1 {
            assert!(heard.on_message(seq));
        }
        assert_eq!((heard.through(), heard.ahead.len()), (0, AHEAD_MAX));
        assert!(heard.on_message(AHEAD_MAX as u64 + 2));
        assert_eq!((heard.through(), heard.ahead.len()), (AHEAD_MAX as u64 + 2, 0));
    }
}
