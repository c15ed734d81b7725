//! What is decided for every request and every first packet allocates nothing.
//!
//! Why it exists: an allocator is shared by all threads, and a storm is when it is slowest. A decision that allocates is
//! paid by foreground. Everything is warmed up first: a queue that has been as full before may not grow again.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;

use buslane_shared::class::{Class, Classes, Protocol};
use buslane_shared::mark::{KNOCK_AT, Mark, MarkError, NodeTag};
use buslane_shared::overload::brain::{Brain, Facts, TICK};
use buslane_shared::overload::claims::Claims;
use buslane_shared::overload::lanes::{Job, JobKey, Lanes, Next, Offer};
use buslane_shared::overload::level::{LEVELS, Level, Standing};
use buslane_shared::overload::logins::{Ask, Comer, Logins, Places, Verdict};
use buslane_shared::overload::orders::Orders;
use buslane_shared::overload::settings::Settings;
use buslane_shared::overload::signals::Readings;
use buslane_shared::overload::valve::{Cut, Edge, Valve};
use buslane_shared::slots::Asker;
use buslane_shared::token::KeyRing;
use buslane_shared::wire::{AppState, KeySet, Posture, TokenKey};

const MS: u64 = 1_000_000;
const NOW_MS: u64 = 1_790_000_000_000;

/// Allocations of this thread while `decide` runs.
fn allocations(decide: impl FnOnce()) -> u64 {
    allocation_counter::measure(decide).count_total
}

fn job(key: u64, class: Class, now: u64) -> Job {
    Job { key: JobKey(key), protocol: Protocol::MessageSend, class, bytes: 300, deadline: now + 10_000 * MS }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

#[test]
fn ranking_a_request_allocates_nothing_admitted_or_not() {
    let (classes, settings, valve) = (Classes::default(), Settings::default(), Valve::default());
    valve.set_cut(Cut {
        foreground: Edge { below: 192, share: 0x8000 },
        background: Edge { below: 520, share: 0x1000 },
    });
    let users: Vec<String> = (0..1_000).map(|n| format!("user-{n}@example.org")).collect();
    let mut claims = Claims::default();
    let (mut admitted, mut demoted) = (0, 0);
    let count = allocations(|| {
        for (n, user) in users.iter().enumerate() {
            let standing = Standing::of(user, 7, NOW_MS);
            let mut class = classes.of(Protocol::MessageSend, AppState::Foreground);
            if !claims.take(&settings.claims, n as u64 * 100 * MS) {
                class = Class::Wake;
                demoted += 1;
            }
            let level = Level::new(class, standing);
            admitted += u32::from(valve.admit(Protocol::MessageSend, level, standing.bits));
        }
    });
    assert_eq!(count, 0);
    assert!((1..1_000).contains(&admitted) && demoted > 0, "both ways were gone: {admitted}, {demoted}");
}

#[test]
fn lanes_in_their_steady_state_allocate_nothing() {
    let mut lanes = Lanes::new(&Settings::default());
    let mut seats = VecDeque::with_capacity(1_024);
    let (mut now, mut key) = (0, 0);
    while let Offer::Seated(seat) = lanes.offer(job(key, Class::Talk, now), now) {
        seats.push_back(seat);
        key += 1;
    }
    let (mut queued, mut started) = (0, 0);
    let mut run = |rounds: u64| {
        for _ in 0..rounds {
            now += MS / 10;
            key += 1;
            let class = if key % 3 == 0 { Class::Look } else { Class::Talk };
            match lanes.offer(job(key, class, now), now) {
                Offer::Seated(seat) => seats.push_back(seat),
                Offer::Queued => queued += 1,
                Offer::Refused(_) => {}
            }
            let Some(seat) = seats.pop_front() else { continue };
            lanes.free(seat, now);
            while let Some(next) = lanes.next(now) {
                if let Next::Start(_, seat) = next {
                    seats.push_back(seat);
                    started += 1;
                }
            }
        }
    };
    run(20_000);
    let count = allocations(|| run(20_000));
    assert_eq!(count, 0);
    assert!(queued > 10_000 && started > 10_000, "it was full: {queued} waited, {started} had their turn");
}

#[test]
fn reading_a_mark_allocates_nothing_whatever_it_is() {
    let keys = (1..=32).map(|id| TokenKey {
        id,
        secret: vec![id as u8; 32].into(),
        not_before_ms: NOW_MS - u64::from(32 - id),
        expires_ms: NOW_MS + 86_400_000,
    });
    let ring = KeyRing::new(&KeySet { keys: keys.collect() });
    let here = NodeTag::of("session-manager-1");
    let valid = ring.marks().make(&Mark::pass(Class::Talk, NOW_MS, 7), NOW_MS).unwrap();
    let (mut forged, mut stranger) = (valid, valid);
    *forged.last_mut().unwrap() ^= 1;
    *stranger.get_mut(KNOCK_AT).unwrap() ^= 1;
    let read = |bytes: &[u8]| ring.marks().read_at(bytes, here, NOW_MS);
    assert!(read(&valid).is_ok());
    assert_eq!((read(&forged), read(&stranger)), (Err(MarkError::Forged), Err(MarkError::Knock)));
    let count = allocations(|| {
        for _ in 0..100 {
            for bytes in [&valid[..], &forged, &stranger, &[0; 20], &[7; 8]] {
                std::hint::black_box(read(bytes)).ok();
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn deciding_about_a_login_allocates_nothing() {
    let mut logins = Logins::new(&Settings::default().background, 2);
    // The first promise makes room for all that are remembered.
    logins.defer(0, Some(Asker::from_bits(u32::MAX)), 0);
    let mut seen = [0; 4];
    let count = allocations(|| {
        for n in 0..10_000_u32 {
            let asker = Some(Asker::from_bits(n));
            let ask = [Ask::Slot, Ask::Resume, Ask::Pass, Ask::Stranger][n as usize % 4];
            let posture = if n < 5_000 { Posture::Normal } else { Posture::Emergency };
            let who = Comer {
                ask,
                asker,
                places: [Places::Free, Places::ForSlots, Places::None][n as usize % 9 / 3],
                came: (n % 2 == 0).then_some(0),
            };
            let at = match logins.decide(u64::from(n) * MS / 4, who, posture, n.wrapping_mul(0x9e37_79b9)) {
                Verdict::Admit => 0,
                Verdict::Defer(_) => 1,
                Verdict::Later => 2,
                Verdict::Silence | Verdict::Wait | Verdict::Hold(_) => 3,
            };
            seen[at] += 1;
        }
    });
    assert_eq!(count, 0);
    assert!(seen[0] > 0 && seen[1] > 0 && seen[3] > 0, "{seen:?}");
}

/// It would be no fault if it did, once each tick; that it does not keeps it out of the allocator's way in a storm.
#[test]
fn a_tick_allocates_nothing_once_it_has_learnt() {
    let (mut brain, orders) = (Brain::new(&Settings::default()), Orders::default());
    let (valve, mut offered, mut now) = (Valve::default(), [0; LEVELS], 0);
    let mut run = |ticks: u64| {
        for n in 0..ticks {
            now += TICK;
            for level in 0..200 {
                let standing = Standing::of("somebody", level, 0);
                valve.admit(Protocol::MessageSend, Level::new(Class::Talk, standing), standing.bits);
            }
            valve.take_offered(&mut offered);
            let outcome = brain.step(&Facts {
                readings: Readings {
                    now,
                    sojourn_min: Some(n % 7 * MS),
                    lateness_p95: Some(MS),
                    login_budget_per_s: 1_000.0,
                    ..Readings::default()
                },
                elapsed: TICK,
                offered: &offered,
                completed: 5_000 * MS,
                saturated: n % 2 == 0,
                foreground_backlog: 0,
                foreground_erlangs: 10.0,
                cpu_share: 0.9,
                ledger: 0,
                peers_in_emergency: 0.0,
                orders: &orders,
                now_ms: now / MS,
            });
            valve.set_cut(outcome.cut);
        }
    };
    run(12_000);
    assert_eq!(allocations(|| run(1_000)), 0);
}
