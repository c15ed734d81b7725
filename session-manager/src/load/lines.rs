//! What waits for a seat in one session.
//!
//! Why it exists: a session has one entry in a lane, however much it asks for, so that those who ask for much do not push out those
//! who ask for little, and so that lanes in which the newest goes first never change the order of one sender's messages.
//! What else it asks for waits here, first come, first served. All writes of a session are one line, whatever their class.
//! When one of a better class comes behind one of a worse, the two change classes: the first in line takes the better place, and the
//! order stays. It must never begin anything itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use buslane_shared::class::Class;
use buslane_shared::overload::lanes::Why;

use super::seats::{Offered, Seated, Seats, Waiting};
use crate::request::Relay;

/// What comes next.
pub(crate) enum Step {
    /// Begin it.
    Begin(Box<Relay>, Seated),
    /// Turn it away.
    Refuse(Box<Relay>, Why),
}

/// Which requests wait behind each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// What changes something.
    Writes,
    /// What only reads, of one class.
    Reads(Class),
}

impl Order {
    fn of(relay: &Relay) -> Self {
        if relay.terms.is_write { Self::Writes } else { Self::Reads(relay.terms.class) }
    }
}

struct Line {
    order: Order,
    /// The place of the first one in its lane; none until it was asked for.
    place: Option<Waiting>,
    relays: VecDeque<Box<Relay>>,
}

/// All lines of a session; there are no more than there are classes, and one.
#[derive(Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// Asks for a seat, or waits behind what was asked for before. `None`: it waits.
    pub(crate) fn enter(&mut self, relay: Box<Relay>, seats: &Arc<Seats>) -> Option<Step> {
        let order = Order::of(&relay);
        if let Some(line) = self.0.iter_mut().find(|line| line.order == order) {
            line.join(relay);
            return None;
        }
        match seats.offer(relay.want()) {
            Offered::Seated(seat) => Some(Step::Begin(relay, seat)),
            Offered::Refused(why) => Some(Step::Refuse(relay, why)),
            Offered::Waits(place) => {
                self.0.push(Line { order, place: Some(place), relays: VecDeque::from([relay]) });
                None
            }
        }
    }

    /// The next that begins or is turned away. To be asked until there is none.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, seats: &Arc<Seats>) -> Option<Step> {
        let step = self.0.iter_mut().find_map(|line| line.poll(cx, seats));
        self.0.retain(|line| !line.relays.is_empty());
        step
    }

    /// Takes out a request that is no longer wanted.
    pub(crate) fn withdraw(&mut self, id: u64) -> Option<Box<Relay>> {
        let taken = self.0.iter_mut().find_map(|line| line.withdraw(id));
        self.0.retain(|line| !line.relays.is_empty());
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|line| line.relays.len()).sum()
    }
}

impl Line {
    fn join(&mut self, mut relay: Box<Relay>) {
        if let Some(first) = self.relays.front_mut()
            && relay.terms.class < first.terms.class
        {
            std::mem::swap(&mut relay.terms.class, &mut first.terms.class);
            std::mem::swap(&mut relay.terms.level, &mut first.terms.level);
            // It asks again, in its new class, when the line is looked at.
            self.place = None;
        }
        self.relays.push_back(relay);
    }

    fn poll(&mut self, cx: &Context<'_>, seats: &Arc<Seats>) -> Option<Step> {
        loop {
            let first = self.relays.front()?;
            let outcome = match &mut self.place {
                Some(place) => match place.poll(cx) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => return None,
                },
                None => match seats.offer(first.want()) {
                    Offered::Seated(seat) => Ok(seat),
                    Offered::Refused(why) => Err(why),
                    Offered::Waits(place) => {
                        self.place = Some(place);
                        continue;
                    }
                },
            };
            self.place = None;
            let first = self.relays.pop_front()?;
            return Some(match outcome {
                Ok(seat) => Step::Begin(first, seat),
                Err(why) => Step::Refuse(first, why),
            });
        }
    }

    fn withdraw(&mut self, id: u64) -> Option<Box<Relay>> {
        let at = self.relays.iter().position(|relay| relay.id == id)?;
        if at == 0 {
            self.place = None;
        }
        self.relays.remove(at)
    }
}
