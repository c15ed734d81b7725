//! What is due when, and who does it: the plan of a crowd as one list in order of time. Pure: it knows offsets, not clocks.
//!
//! It must never leave anything out: what is in the plan comes, once, in its order.

use crate::simulate::random::Random;

/// Streams of random numbers of one seed.
const ORDER: u64 = 1;
const DROPS: u64 = 2;

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// One member sends a burst.
    Messages {
        /// Who.
        member: usize,
    },
    /// One member fetches something.
    Fetch {
        /// Who.
        member: usize,
    },
    /// These lose their connections.
    Drop {
        /// Who.
        members: Vec<usize>,
    },
}

/// The plan, from its beginning to its end.
#[derive(Debug)]
pub struct Agenda {
    messages: Vec<f64>,
    fetches: Vec<f64>,
    drops: Vec<(f64, u8)>,
    /// How much of each is done.
    sent: usize,
    fetched: usize,
    dropped: usize,
    /// Members in the order of their turns.
    order: Vec<usize>,
    lots: Random,
}

impl Agenda {
    /// The plan of so many members: offsets in seconds, ascending; drops with the percentage of those who are lost.
    pub fn new(
        members: usize,
        messages: Vec<f64>,
        fetches: Vec<f64>,
        mut drops: Vec<(f64, u8)>,
        seed: u64,
    ) -> Self {
        drops.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut order: Vec<usize> = (0..members).collect();
        shuffle(&mut order, &mut Random::new(seed, ORDER));
        let lots = Random::new(seed, DROPS);
        Self { messages, fetches, drops, sent: 0, fetched: 0, dropped: 0, order, lots }
    }

    /// What is due next, and when. A drop comes before what is due in the same moment.
    pub fn take_next(&mut self) -> Option<(f64, Due)> {
        if self.order.is_empty() {
            return None;
        }
        let end = f64::INFINITY;
        let message = self.messages.get(self.sent).copied().unwrap_or(end);
        let fetch = self.fetches.get(self.fetched).copied().unwrap_or(end);
        let (drop, percent) = self.drops.get(self.dropped).copied().unwrap_or((end, 0));
        let first = message.min(fetch).min(drop);
        if first == end {
            return None;
        }
        let due = if drop <= first {
            self.dropped += 1;
            Due::Drop { members: self.draw(percent) }
        } else if message <= first {
            self.sent += 1;
            Due::Messages { member: self.turn(self.sent) }
        } else {
            self.fetched += 1;
            // Half a round behind the messages, so that not the same member does both.
            Due::Fetch { member: self.turn(self.fetched + self.order.len() / 2) }
        };
        Some((first, due))
    }

    fn turn(&self, number: usize) -> usize {
        self.order.get(number % self.order.len()).copied().unwrap_or_default()
    }

    /// So many percent of the members, by lot; at least one when it is not nobody.
    fn draw(&mut self, percent: u8) -> Vec<usize> {
        let mut drawn: Vec<usize> = (0..self.order.len()).collect();
        shuffle(&mut drawn, &mut self.lots);
        drawn.truncate((drawn.len() * usize::from(percent.min(100))).div_ceil(100));
        drawn
    }
}

/// Fisher and Yates, with the numbers of a seed.
fn shuffle(items: &mut [usize], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut agenda: Agenda) -> Vec<(f64, Due)> {
        std::iter::from_fn(|| agenda.take_next()).collect()
    }

    fn agenda(seed: u64) -> Agenda {
        Agenda::new(4, vec![-1.0, 0.0, 0.5, 2.0, 3.0], vec![0.5, 1.0], vec![(2.0, 50), (0.2, 1)], seed)
    }

    #[test]
    fn everything_comes_once_and_in_order() {
        let plan = all(agenda(7));
        let offsets: Vec<f64> = plan.iter().map(|(at, _)| *at).collect();
        assert_eq!(offsets, [-1.0, 0.0, 0.2, 0.5, 0.5, 1.0, 2.0, 2.0, 3.0]);
        let senders: Vec<usize> = plan
            .iter()
            .filter_map(|(_, due)| match due {
                Due::Messages { member } => Some(*member),
                _ => None,
            })
            .collect();
        let mut round = senders[..4].to_vec();
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2, 3], "each in its turn");
        assert_eq!(senders[4], senders[0]);
    }

    #[test]
    fn a_drop_takes_its_share_and_comes_first() {
        let plan = all(agenda(7));
        let drops: Vec<usize> = plan
            .iter()
            .filter_map(|(_, due)| match due {
                Due::Drop { members } => Some(members.len()),
                _ => None,
            })
            .collect();
        assert_eq!(drops, [1, 2], "1 % of four is one of them");
        assert!(matches!(plan[6].1, Due::Drop { .. }));
    }

    #[test]
    fn a_seed_gives_its_plan() {
        assert_eq!(all(agenda(7)), all(agenda(7)));
        let seeds = (0..8).map(|seed| all(agenda(seed))).collect::<Vec<_>>();
        assert!(seeds.iter().any(|plan| *plan != seeds[0]));
        assert!(all(Agenda::new(0, vec![1.0], vec![], vec![(0.0, 100)], 1)).is_empty());
    }
}
