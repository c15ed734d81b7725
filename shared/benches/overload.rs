//! What the decisions about load cost that are made for every request.
//!
//! Criterion's figures are means. The lines "one by one" are percentiles of single decisions, the cost of reading the clock
//! included; it is printed beside them.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use buslane_shared::class::{Class, Classes, Protocol};
use buslane_shared::overload::claims::Claims;
use buslane_shared::overload::lanes::{Job, JobKey, Lanes, Next, Offer};
use buslane_shared::overload::level::{Level, Standing};
use buslane_shared::overload::settings::Settings;
use buslane_shared::wire::AppState;
use criterion::{Criterion, criterion_group, criterion_main};

/// Decisions that are timed one by one.
const SINGLE: usize = 200_000;

/// Prints percentiles of single decisions: a mean hides the one in a hundred that allocates or misses the cache.
fn one_by_one(name: &str, mut decide: impl FnMut()) {
    let mut nanos: Vec<u128> = (0..SINGLE)
        .map(|_| {
            let began = Instant::now();
            decide();
            began.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let at = |share: f64| nanos.get((SINGLE as f64 * share) as usize).copied().unwrap_or_default();
    println!("{name}, one by one: p50 {} ns, p99 {} ns, p99.9 {} ns", at(0.5), at(0.99), at(0.999));
}

fn clock(_: &mut Criterion) {
    one_by_one("reading the clock", || ());
}

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

criterion_group!(benches, clock, classification, lanes, full_lanes);
criterion_main!(benches);
