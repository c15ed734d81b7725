//! What the decisions about load cost that are made for every request, and the one that is made for each tick.
//!
//! Criterion's figures are means. The lines "one by one" are percentiles of single decisions, the cost of reading the clock
//! included; it is printed beside them. What is decided on a first packet is in `doors.rs`.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod single;

use std::collections::VecDeque;
use std::hint::black_box;

use buslane_shared::class::{Class, Classes, Protocol};
use buslane_shared::overload::brain::{Brain, Facts, TICK};
use buslane_shared::overload::claims::Claims;
use buslane_shared::overload::lanes::{Job, JobKey, Lanes, Next, Offer};
use buslane_shared::overload::level::{LEVELS, Level, Standing};
use buslane_shared::overload::orders::Orders;
use buslane_shared::overload::settings::Settings;
use buslane_shared::overload::signals::Readings;
use buslane_shared::overload::valve::{Cut, Edge, Valve};
use buslane_shared::wire::AppState;
use criterion::{Criterion, criterion_group, criterion_main};
use single::one_by_one;

fn classification(c: &mut Criterion) {
    let (classes, settings) = (Classes::default(), Settings::default());
    let mut claims = Claims::default();
    let standing = Standing::of("somebody@example.org", 7, 0);
    let mut now = 0;
    let mut classify = || {
        now += 1_000_000_000;
        let class = classes.of(black_box(Protocol::MessageSend), black_box(AppState::Foreground));
        let is_believed = class.is_foreground() && claims.take(&settings.claims, now);
        Level::new(if is_believed { class } else { Class::Wake }, standing)
    };
    let name = "classification: class, claim and level of a request";
    c.bench_function(name, |b| b.iter(&mut classify));
    one_by_one(name, || {
        black_box(classify());
    });
}

/// A valve in a storm: background within its floor, talk cut in the middle.
fn cut_valve() -> Valve {
    let valve = Valve::default();
    valve.set_cut(Cut {
        foreground: Edge { below: 192, share: 0x8000 },
        background: Edge { below: 520, share: 0x1000 },
    });
    valve
}

fn valve(c: &mut Criterion) {
    let valve = cut_valve();
    let levels: Vec<_> = (0..64)
        .map(|n| Standing::of(&format!("user-{n}"), 7, 0))
        .map(|standing| (Level::new(Class::Talk, standing), standing.bits))
        .collect();
    let mut users = levels.iter().cycle();
    let mut admit = || {
        let &(level, bits) = users.next().unwrap();
        black_box(valve.admit(Protocol::MessageSend, black_box(level), bits))
    };
    let name = "valve: whether a request of a known level is admitted";
    c.bench_function(name, |b| b.iter(&mut admit));
    one_by_one(name, || {
        black_box(admit());
    });
}

/// All that the session manager asks about a request before it runs, and once it has run.
fn decision(c: &mut Criterion) {
    let (classes, settings, valve) = (Classes::default(), Settings::default(), cut_valve());
    let (mut lanes, mut claims) = (Lanes::new(&settings), Claims::default());
    let users: Vec<String> = (0..64).map(|n| format!("user-{n}@example.org")).collect();
    let mut users = users.iter().cycle();
    let mut now = 0;
    let mut rank = |now| {
        let standing = Standing::of(users.next().unwrap(), 7, 0);
        let class = classes.of(black_box(Protocol::MessageSend), black_box(AppState::Foreground));
        let is_believed = class.is_foreground() && claims.take(&settings.claims, now);
        let class = if is_believed { class } else { Class::Wake };
        (class, valve.admit(Protocol::MessageSend, Level::new(class, standing), standing.bits))
    };
    let name = "decision: class, claim, standing, level and valve";
    c.bench_function(name, |b| {
        b.iter(|| {
            now += 1_000_000_000;
            rank(now)
        });
    });
    one_by_one(name, || {
        now += 1_000_000_000;
        black_box(rank(now));
    });
    let mut whole = || {
        now += 1_000_000_000;
        let (class, is_admitted) = rank(now);
        if !is_admitted {
            return;
        }
        let Offer::Seated(seat) = lanes.offer(job(1, class, now), now) else { return };
        lanes.free(seat, now + 500);
        black_box(lanes.next(now + 500));
    };
    let name = "decision with its seat: the same, and lanes offer, free and next";
    c.bench_function(name, |b| b.iter(&mut whole));
    one_by_one(name, whole);
}

fn job(key: u64, class: Class, now: u64) -> Job {
    let (key, deadline) = (JobKey(key), now + 10_000_000_000);
    Job { key, protocol: Protocol::MessageSend, class, bytes: 300, deadline }
}

fn lanes(c: &mut Criterion) {
    let mut lanes = Lanes::new(&Settings::default());
    let mut now = 0;
    let mut run = || {
        now += 1_000;
        let Offer::Seated(seat) = lanes.offer(black_box(job(1, Class::Talk, now)), now) else { return };
        lanes.free(seat, now + 500);
        black_box(lanes.next(now + 500));
    };
    let name = "lanes: offer, free and next, nobody waits";
    c.bench_function(name, |b| b.iter(&mut run));
    one_by_one(name, run);
}

/// Full lanes: each job waits behind a thousand others, and each seat goes to the next.
fn full_lanes(c: &mut Criterion) {
    let mut lanes = Lanes::new(&Settings::default());
    let (mut now, mut seats, mut key) = (0, VecDeque::new(), 0);
    while key < 1_512 {
        if let Offer::Seated(seat) = lanes.offer(job(key, Class::Talk, now), now) {
            seats.push_back(seat);
        }
        key += 1;
    }
    let mut run = || {
        now += 1_000;
        key += 1;
        black_box(lanes.offer(job(key, Class::Talk, now), now));
        let Some(seat) = seats.pop_front() else { return };
        lanes.free(seat, now);
        if let Some(Next::Start(_, seat)) = lanes.next(now) {
            seats.push_back(seat);
        }
    };
    let name = "lanes: offer, free and next, a thousand wait";
    c.bench_function(name, |b| b.iter(&mut run));
    one_by_one(name, run);
}

/// One tick of the brain, as every ten milliseconds: all levels were asked for, and more than can be done.
fn tick(c: &mut Criterion) {
    let mut brain = Brain::new(&Settings::default());
    let (valve, orders) = (cut_valve(), Orders::default());
    let mut window = [0; LEVELS];
    let mut now = 0;
    let mut step = || {
        now += TICK;
        for (level, offered) in window.iter_mut().enumerate() {
            *offered = 20_000_000 + level as u64;
        }
        let outcome = brain.step(&Facts {
            readings: Readings {
                now,
                sojourn_min: Some(3_000_000),
                lateness_p95: Some(1_000_000),
                seats_busy: 0.9,
                logins_100ms: 120,
                login_budget_per_s: 1_000.0,
                ..Readings::default()
            },
            elapsed: TICK,
            offered: &window,
            completed: 5_000_000_000,
            saturated: true,
            foreground_backlog: 1_000_000,
            foreground_erlangs: 100.0,
            cpu_share: 0.9,
            ledger: 5_000_000_000,
            peers_in_emergency: 0.0,
            orders: &orders,
            now_ms: now / 1_000_000,
        });
        valve.set_cut(black_box(outcome).cut);
    };
    let name = "tick: one step of the brain over a full histogram";
    c.bench_function(name, |b| b.iter(&mut step));
    one_by_one(name, step);
}

criterion_group!(benches, single::clock, classification, valve, decision, lanes, full_lanes, tick);
criterion_main!(benches);
