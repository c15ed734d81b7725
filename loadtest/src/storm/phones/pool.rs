//! Phones that nobody uses now, by kind, and the clients that wait for one.
//!
//! It must never give a phone to two: the newer session would replace the older one.

use std::collections::VecDeque;
use std::time::Instant;

use crate::storm::fleet::Phone;

/// The phones of one kind.
#[derive(Debug)]
pub struct Pool {
    free: VecDeque<Phone>,
    waiting: VecDeque<Instant>,
}

impl Pool {
    /// All of them are free.
    pub fn new(phones: Vec<Phone>) -> Self {
        Self { free: phones.into(), waiting: VecDeque::new() }
    }

    /// A phone for a client that is due; without one it waits its turn.
    pub fn take(&mut self, due: Instant) -> Option<Phone> {
        let phone = self.free.pop_front();
        if phone.is_none() {
            self.waiting.push_back(due);
        }
        phone
    }

    /// A phone is free again: it goes to the client that has waited longest, if there is one.
    pub fn give_back(&mut self, phone: Phone) -> Option<(Instant, Phone)> {
        match self.waiting.pop_front() {
            Some(due) => Some((due, phone)),
            None => {
                self.free.push_back(phone);
                None
            }
        }
    }

    /// Since when each client that waits was due.
    pub fn waiting(&self) -> impl Iterator<Item = Instant> {
        self.waiting.iter().copied()
    }
}
