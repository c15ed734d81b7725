//! The last few of something.

use std::collections::VecDeque;

/// A queue that forgets its oldest beyond a bound.
#[derive(Debug, Clone)]
pub struct Ring<T> {
    items: VecDeque<T>,
    most: usize,
}

impl<T> Ring<T> {
    /// One that keeps this many.
    pub fn new(most: usize) -> Self {
        Self { items: VecDeque::new(), most }
    }

    /// Adds the newest.
    pub fn push(&mut self, item: T) {
        if self.items.len() >= self.most {
            self.items.pop_front();
        }
        self.items.push_back(item);
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    /// The newest.
    pub fn last(&self) -> Option<&T> {
        self.items.back()
    }
}
