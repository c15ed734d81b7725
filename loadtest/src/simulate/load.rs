//! The calls of a run, made beforehand: they are the same for every policy, so that policies differ and luck does not.

use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};

use super::job::{Call, Manner, Sender};
use super::random::Random;
use super::scenario::{DEPENDENCY, Kind, Scenario, Stream};

/// A load is taken as constant for so long.
const BIN: Nanos = 10_000_000;

/// Users that are not among a stream's own begin here.
const STRANGERS: u32 = 1_000_000;

/// All calls of a scenario on a node with this many workers, in the order of time.
pub fn calls(scenario: &Scenario, workers: u32, seed: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut stranger = STRANGERS;
    for (number, stream) in scenario.streams.iter().enumerate() {
        let mut random = Random::new(seed, number as u64 + 1);
        let per_ns = f64::from(workers) / (stream.mean_cost() + waiting(stream));
        let mut bin = 0;
        while bin < scenario.horizon {
            let rate = stream.load.at(bin) * per_ns;
            let mut at = bin as f64 + gap(rate, &mut random);
            while (at as Nanos) < bin + BIN {
                stranger += 1;
                calls.push(call(scenario, stream, at as Nanos, stranger, &mut random));
                at += gap(rate, &mut random);
            }
            bin += BIN;
        }
    }
    // Calls of the same instant stay in the order of their streams.
    calls.sort_by_key(|c| c.at);
    calls
}

/// Until the next call; where there is no load, for ever.
fn gap(rate: f64, random: &mut Random) -> f64 {
    if rate > 0.0 { random.exponential(1.0 / rate) } else { f64::INFINITY }
}

/// What a dependency adds to the time that a seat is taken.
fn waiting(stream: &Stream) -> f64 {
    let depends =
        stream.sender == Sender::Phone && stream.kinds.iter().any(|k| k.protocol == Protocol::MessageSync);
    if depends { DEPENDENCY as f64 } else { 0.0 }
}

/// Whether the call waits for what background depends on.
pub fn depends(call: &Call) -> bool {
    call.sender == Sender::Phone && call.protocol == Protocol::MessageSync
}

fn call(scenario: &Scenario, stream: &Stream, at: Nanos, stranger: u32, random: &mut Random) -> Call {
    let kind = pick(&stream.kinds, random.unit());
    let cost = kind.cost / 2.0 + random.exponential(kind.cost / 2.0);
    let user = if stream.users == 0 { stranger } else { random.below(stream.users.into()) as u32 };
    Call {
        at,
        cost: cost as u32,
        // Liars are other users than the people.
        user: if stream.sender == Sender::Liar { user + STRANGERS / 2 } else { user },
        protocol: kind.protocol,
        class: kind.class,
        sender: stream.sender,
        manner: if random.unit() < scenario.naive { Manner::Naive } else { Manner::Obedient },
    }
}

fn pick(kinds: &[Kind], unit: f64) -> Kind {
    const NOTHING: Kind = Kind { weight: 0.0, protocol: Protocol::Unknown, class: Class::Spare, cost: 1.0 };
    let mut left = unit * kinds.iter().map(|k| k.weight).sum::<f64>();
    for kind in kinds {
        if left < kind.weight {
            return *kind;
        }
        left -= kind.weight;
    }
    kinds.last().copied().unwrap_or(NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::known;

    #[test]
    fn the_work_that_comes_is_the_work_that_was_asked_for() {
        let scenario = known("liars").unwrap();
        let calls = calls(&scenario, 32, 1);
        assert!(calls.is_sorted_by_key(|c| c.at));
        let work = |sender, from: Nanos, until: Nanos| {
            let sum: f64 = calls
                .iter()
                .filter(|c| c.sender == sender && (from..until).contains(&c.at))
                .map(|c| f64::from(c.cost))
                .sum();
            sum / (32.0 * (until - from) as f64)
        };
        const SECOND: Nanos = 1_000_000_000;
        let near =
            |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.03, "{found} of {wanted}");
        near(work(Sender::Person, 0, 120 * SECOND), 0.2);
        near(work(Sender::Phone, 0, 10 * SECOND), 0.2);
        near(work(Sender::Phone, 20 * SECOND, 40 * SECOND), 1.5);
        near(work(Sender::Liar, 10 * SECOND, 40 * SECOND), 1.0);
    }

    #[test]
    fn a_seed_gives_its_calls() {
        let scenario = known("calm").unwrap();
        assert_eq!(calls(&scenario, 16, 3), calls(&scenario, 16, 3));
        assert_ne!(calls(&scenario, 16, 3), calls(&scenario, 16, 4));
    }
}
