//! What one member has to do: what waits for its turn, what is on the way to the server, what goes again later. Pure: `now` is
//! an argument.
//!
//! It must never lose an item: each one that comes in is answered, given up or still here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests of one session without an answer, at most, of those who keep to no manners: a quarter of what a server takes.
pub const IN_FLIGHT_MAX: usize = 64;

/// The same of a person's app. Whoever waits for eight answers sends no ninth message; it waits in the phone, and counts from when it was
/// due.
pub const IN_FLIGHT_USUAL: usize = 8;

/// How long the server is given for a request.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// Longer than the server takes to say that its time is over: by then an answer does not come any more.
const ANSWER_LIMIT: Duration = Duration::from_millis(2_500);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message to the neighbour.
    Message {
        /// The same for each try, so that it is stored once.
        client_id: [u8; 16],
    },
    /// What a person looks at, or what a phone missed.
    Fetch,
}

/// One thing that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub kind: Kind,
    /// Since when.
    pub due: Instant,
    /// How often it was tried and turned away.
    pub tries: u32,
}

/// Everything of one member.
#[derive(Debug)]
pub struct Work {
    in_flight_max: usize,
    /// Requests that were given up and may still be on their way: they take the place of others until they are answered.
    given_up: usize,
    waiting: VecDeque<Item>,
    /// In the order of their ids, which is that of their limits.
    flights: VecDeque<Flight>,
    again: Vec<(Instant, Item)>,
}

#[derive(Debug)]
struct Flight {
    id: u64,
    item: Item,
    until: Instant,
}

impl Work {
    /// Nothing is to be done, and so much may be on its way at a time.
    pub fn new(in_flight_max: usize) -> Self {
        let (waiting, flights, again) = Default::default();
        Self { in_flight_max, given_up: 0, waiting, flights, again }
    }

    fn has_room(&self) -> bool {
        self.flights.len() + self.given_up < self.in_flight_max
    }

    /// Something is due.
    pub fn put(&mut self, item: Item) {
        self.waiting.push_back(item);
    }

    /// Goes again at `at`.
    pub fn put_again(&mut self, at: Instant, item: Item) {
        self.again.push((at, item));
    }

    /// What to send now under this id; `None`: nothing, or enough is on the way.
    pub fn start(&mut self, id: u64, now: Instant) -> Option<Item> {
        if !self.has_room() {
            return None;
        }
        let ready = self.again.iter().position(|(at, _)| *at <= now);
        let item = match ready {
            Some(ready) => Some(self.again.swap_remove(ready).1),
            None => self.waiting.pop_front(),
        }?;
        self.flights.push_back(Flight { id, item, until: now + ANSWER_LIMIT });
        Some(item)
    }

    /// An answer came; `None`: for nothing that is waited for.
    pub fn on_answer(&mut self, id: u64) -> Option<Item> {
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else {
            self.given_up = self.given_up.saturating_sub(1);
            return None;
        };
        self.flights.remove(at).map(|flight| flight.item)
    }

    /// Something whose answer does not come any more.
    pub fn take_overdue(&mut self, now: Instant) -> Option<Item> {
        let is_overdue = self.flights.front().is_some_and(|flight| flight.until <= now);
        let overdue = if is_overdue { self.flights.pop_front() } else { None }?;
        self.given_up += 1;
        Some(overdue.item)
    }

    /// The session is lost: what had no answer goes again first, in its order. What was asked for is not known.
    pub fn on_lost(&mut self) {
        self.given_up = 0;
        while let Some(flight) = self.flights.pop_back() {
            self.waiting.push_front(flight.item);
        }
    }

    /// When something goes again, if there is room for it.
    pub fn next_again(&self) -> Option<Instant> {
        let has_room = self.has_room();
        self.again.iter().map(|(at, _)| *at).filter(|_| has_room).min()
    }

    /// When the next answer is overdue.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.flights.front().map(|flight| flight.until)
    }

    /// Whether answers are waited for.
    pub fn is_on_the_way(&self) -> bool {
        !self.flights.is_empty()
    }

    /// All that is left, with what had no answer first.
    pub fn into_rest(self) -> (Vec<Item>, Vec<Item>) {
        let unanswered = self.flights.into_iter().map(|flight| flight.item).collect();
        let unsent = self.waiting.into_iter().chain(self.again.into_iter().map(|(_, item)| item)).collect();
        (unanswered, unsent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: u8, due: Instant) -> Item {
        Item { kind: Kind::Message { client_id: [n; 16] }, due, tries: 0 }
    }

    #[test]
    fn no_more_is_on_the_way_than_may_be() {
        let now = Instant::now();
        let mut work = Work::new(IN_FLIGHT_MAX);
        (0..100).for_each(|n| work.put(item(n, now)));
        let started = (0..100).take_while(|id| work.start(*id, now).is_some()).count();
        assert_eq!(started, IN_FLIGHT_MAX);
        assert_eq!(work.on_answer(3), Some(item(3, now)));
        assert_eq!(work.on_answer(3), None);
        assert_eq!(work.start(200, now), Some(item(IN_FLIGHT_MAX as u8, now)));
    }

    #[test]
    fn what_goes_again_waits_for_its_time_and_then_goes_first() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut work = Work::new(IN_FLIGHT_MAX);
        work.put_again(later, item(9, now));
        work.put(item(1, now));
        work.put(item(2, now));
        assert_eq!(work.next_again(), Some(later));
        assert_eq!(work.start(1, now), Some(item(1, now)));
        assert_eq!(work.start(2, later), Some(item(9, now)));
    }

    #[test]
    fn what_gets_no_answer_is_given_back() {
        let now = Instant::now();
        let mut work = Work::new(IN_FLIGHT_MAX);
        work.put(item(1, now));
        work.start(1, now);
        assert_eq!(work.next_overdue(), Some(now + ANSWER_LIMIT));
        assert_eq!(work.take_overdue(now), None);
        assert_eq!(work.take_overdue(now + ANSWER_LIMIT), Some(item(1, now)));
        assert!(!work.is_on_the_way());
    }

    #[test]
    fn what_was_given_up_takes_its_place_until_it_is_answered() {
        let now = Instant::now();
        let mut work = Work::new(1);
        work.put(item(1, now));
        work.put(item(2, now));
        work.start(1, now);
        assert!(work.take_overdue(now + ANSWER_LIMIT).is_some());
        assert_eq!(work.start(2, now), None);
        assert_eq!(work.on_answer(1), None);
        assert_eq!(work.start(2, now), Some(item(2, now)));
        assert!(work.take_overdue(now + ANSWER_LIMIT).is_some());
        work.put(item(3, now));
        work.on_lost();
        assert_eq!(work.start(3, now), Some(item(3, now)), "a new session has nothing on its way");
    }

    #[test]
    fn a_lost_session_loses_nothing_and_keeps_the_order() {
        let now = Instant::now();
        let mut work = Work::new(IN_FLIGHT_MAX);
        (1..=4).for_each(|n| work.put(item(n, now)));
        (1..=3).for_each(|id| assert!(work.start(id, now).is_some()));
        work.on_answer(1);
        work.on_lost();
        let order: Vec<_> = (10..14).map_while(|id| work.start(id, now)).collect();
        assert_eq!(order, [item(2, now), item(3, now), item(4, now)]);
        let (unanswered, unsent) = work.into_rest();
        assert_eq!((unanswered.len(), unsent.len()), (3, 0));
    }
}
