//! Which of one's own messages the others have received and read: decides what is worth a line on the screen.
//!
//! Pure: facts go in, a mark comes out when it says something new.

use std::collections::BTreeSet;

/// Own messages that are remembered: a mark for an older one is of no interest any more.
const REMEMBERED_MAX: usize = 256;

/// Something new about one's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Some device of the other one has everything up to this message.
    Delivered(u64),
    /// The other one has read up to this message.
    Read(u64),
}

/// What is known about one's own messages.
#[derive(Debug, Default)]
pub struct Marks {
    own: BTreeSet<u64>,
    delivered: u64,
    read: u64,
    shown_delivered: u64,
    shown_read: u64,
}

impl Marks {
    /// An own message is on stable storage.
    pub fn on_own(&mut self, seq: u64) -> Option<Mark> {
        self.own.insert(seq);
        if self.own.len() > REMEMBERED_MAX {
            self.own.pop_first();
        }
        self.news()
    }

    /// The other one's cursors have moved; 0 says nothing.
    pub fn on_cursor(&mut self, delivered: u64, read: u64) -> Option<Mark> {
        self.delivered = self.delivered.max(delivered);
        self.read = self.read.max(read);
        self.news()
    }

    /// The best that is new: read says more than delivered.
    fn news(&mut self) -> Option<Mark> {
        let newest = |upto: u64| self.own.range(..=upto).next_back().copied().unwrap_or(0);
        let (read, delivered) = (newest(self.read), newest(self.delivered.max(self.read)));
        if read > self.shown_read {
            self.shown_read = read;
            self.shown_delivered = self.shown_delivered.max(read);
            Some(Mark::Read(read))
        } else if delivered > self.shown_delivered {
            self.shown_delivered = delivered;
            Some(Mark::Delivered(delivered))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_shown_once_and_only_for_own_messages() {
        let mut marks = Marks::default();
        assert_eq!(marks.on_cursor(3, 3), None);
        assert_eq!(marks.on_own(5), None);
        assert_eq!(marks.on_cursor(5, 0), Some(Mark::Delivered(5)));
        assert_eq!(marks.on_cursor(5, 0), None);
        assert_eq!(marks.on_cursor(6, 5), Some(Mark::Read(5)));
        assert_eq!(marks.on_cursor(7, 7), None);
    }

    #[test]
    fn read_says_more_than_delivered_and_cursors_never_move_back() {
        let mut marks = Marks::default();
        marks.on_own(2);
        assert_eq!(marks.on_cursor(0, 2), Some(Mark::Read(2)));
        assert_eq!(marks.on_cursor(2, 0), None);
        assert_eq!(marks.on_cursor(1, 1), None);
    }

    #[test]
    fn a_cursor_that_comes_before_the_receipt_is_not_lost() {
        let mut marks = Marks::default();
        assert_eq!(marks.on_cursor(9, 0), None);
        assert_eq!(marks.on_own(9), Some(Mark::Delivered(9)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut marks = Marks::default();
        for seq in 1..=10_000 {
            marks.on_own(seq);
        }
        assert_eq!(marks.own.len(), REMEMBERED_MAX);
        assert_eq!(marks.on_cursor(0, 10_000), Some(Mark::Read(10_000)));
    }
}
