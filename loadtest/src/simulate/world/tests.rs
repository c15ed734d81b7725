use std::cell::RefCell;
use std::rc::Rc;

use buslane_shared::class::{Class, Protocol};

use super::*;
use crate::simulate::contest;
use crate::simulate::ideal::ideal;
use crate::simulate::load::calls;
use crate::simulate::policy::{Readings, Threads};
use crate::simulate::scenario::Scenario;
use crate::simulate::scenario::known;
use crate::simulate::shape::Shape;

const SECOND: Nanos = 1_000_000_000;

/// Five times the capacity for a second.
fn storm() -> Scenario {
    let mut scenario = known("gyeongju").unwrap();
    scenario.horizon = 4 * SECOND;
    scenario.surge = (SECOND, 2 * SECOND);
    scenario.streams[1].load = Shape::Lines(vec![(1.0, 0.1), (1.0, 5.0), (2.0, 5.0), (2.0, 0.1)]);
    scenario
}

fn outcome(scenario: &Scenario, calls: &[Call], policy: Box<dyn Policy>, workers: u32, seed: u64) -> Outcome {
    let ideal = ideal(scenario, calls, workers);
    run(Run { scenario, calls, ideal: &ideal, workers, late_from: 10_000_000, seed }, policy).unwrap()
}

fn of(policy: &str, seed: u64) -> Outcome {
    let scenario = storm();
    let calls = calls(&scenario, 16, seed);
    outcome(&scenario, &calls, contest::policy(policy, 16).unwrap(), 16, seed)
}

#[test]
fn every_attempt_is_accounted_for() {
    for name in contest::NAMES {
        let attempts = of(name, 1).attempts;
        assert!(attempts.adds_up(), "{name}: {attempts:?}");
        assert!(attempts.done > 1_000, "{name}: {attempts:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for name in ["buslane", "dagor", "apf"] {
        assert_eq!(of(name, 1).digest, of(name, 1).digest, "{name}");
        assert_ne!(of(name, 1).digest, of(name, 2).digest, "{name}");
    }
}

#[test]
fn a_storm_is_refused_by_those_who_refuse_and_kills_those_who_do_not() {
    let refusals = |name| of(name, 1).record.rejections;
    assert_eq!(refusals("fifo"), 0);
    assert!(refusals("tower") > 1_000 && refusals("buslane") > 1_000);
    let p99 = |name| of(name, 1).record.delays.percentiles().p99;
    assert!(p99("fifo") > 20.0 * p99("buslane"), "{} {}", p99("fifo"), p99("buslane"));
}

/// First come, first served, and notes how long each job waited.
struct Noting(Rc<RefCell<Vec<Nanos>>>);

impl Policy for Noting {
    fn threads(&self) -> Threads {
        Threads::Shared
    }

    fn arrive(&mut self, _: &Job, _: Nanos) -> Arrival {
        Arrival::Run
    }

    fn next(&mut self, _: Nanos) -> Option<Next> {
        None
    }

    fn done(&mut self, _: &Job, spent: Spent, _: Nanos) {
        self.0.borrow_mut().push(spent.round_trip - spent.service);
    }

    fn tick(&mut self, _: Nanos, _: &Readings) {}
}

/// Part of the jobs that wait (Erlang, 1917), by the recursion of his B formula.
fn erlang_c(servers: u32, erlangs: f64) -> f64 {
    let b = (1..=servers).fold(1.0, |b, n| erlangs * b / (f64::from(n) + erlangs * b));
    let busy = erlangs / f64::from(servers);
    b / (1.0 - busy * (1.0 - b))
}

#[test]
fn waits_are_those_of_queueing_theory() {
    assert!((erlang_c(4, 3.2) - 0.5964).abs() < 0.0001);
    let mut scenario = storm();
    scenario.horizon = 400 * SECOND;
    const SERVICE: f64 = 2e6;
    for (servers, busy) in [(4u32, 0.8), (32, 0.95)] {
        let mut random = Random::new(11, u64::from(servers));
        let mut at = 0.0;
        let erlangs = busy * f64::from(servers);
        let jobs: Vec<Call> = (0..300_000)
            .map(|_| {
                at += random.exponential(SERVICE / erlangs);
                Call {
                    at: at as Nanos,
                    cost: random.exponential(SERVICE) as u32,
                    user: 0,
                    protocol: Protocol::MessageSend,
                    class: Class::Talk,
                    sender: Sender::Person,
                    manner: Manner::Obedient,
                }
            })
            .collect();
        let waits = Rc::new(RefCell::new(Vec::new()));
        outcome(&scenario, &jobs, Box::new(Noting(Rc::clone(&waits))), servers, 1);
        let waits = waits.borrow();
        assert!(waits.len() > 299_000);
        let mean = waits.iter().sum::<Nanos>() as f64 / waits.len() as f64;
        let expected = erlang_c(servers, erlangs) * SERVICE / (f64::from(servers) * (1.0 - busy));
        assert!((mean / expected - 1.0).abs() < 0.06, "{servers}: {mean} ns, not {expected}");
    }
}
