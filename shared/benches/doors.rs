//! What the decisions cost that are made for a client's first packet: reading its mark, whether it is let in, and what it
//! is told instead.
//!
//! Criterion's figures are means. The lines "one by one" are percentiles of single decisions, the cost of reading the clock
//! included; it is printed beside them.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod single;

use std::hint::black_box;

use buslane_shared::class::Class;
use buslane_shared::mark::{KNOCK_AT, Mark, MarkBytes, NodeTag, PASS_LIFE_MS, Used, identity};
use buslane_shared::overload::logins::{Ask, Comer, Logins, Places, Verdict};
use buslane_shared::overload::rate::Window;
use buslane_shared::overload::settings::Settings;
use buslane_shared::put_off::PutOff;
use buslane_shared::slots::{Asker, Ledger};
use buslane_shared::token::KeyRing;
use buslane_shared::wire::{KeySet, Posture, TokenKey};
use criterion::{Criterion, criterion_group, criterion_main};
use single::one_by_one;

const NOW_MS: u64 = 1_790_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// A month of daily keys: the ring as it is in an old system.
fn ring() -> KeyRing {
    let day_ms = 86_400_000;
    let key = |id: u32| TokenKey {
        id,
        secret: vec![id as u8; 32].into(),
        not_before_ms: NOW_MS - u64::from(32 - id) * day_ms,
        expires_ms: NOW_MS + day_ms,
    };
    KeyRing::new(&KeySet { keys: (1..=32).map(key).collect() })
}

fn node() -> NodeTag {
    NodeTag::of("session-manager-1")
}

fn marks(c: &mut Criterion) {
    let ring = ring();
    let keys = ring.marks();
    let made = |mark: Mark| keys.make(&mark, NOW_MS).unwrap();
    let pass = made(Mark::pass(Class::Talk, NOW_MS, 7));
    let flipped = |at: usize| -> MarkBytes {
        let mut mark = pass;
        *mark.get_mut(at).unwrap() ^= 1;
        mark
    };
    let shown = [
        ("a valid pass", pass),
        ("a valid slot", made(Mark::slot(Class::Wake, node(), NOW_MS, 1_000, 7))),
        ("a pass that has expired", made(Mark::pass(Class::Talk, NOW_MS - PASS_LIFE_MS, 7))),
        ("a forged one", flipped(19)),
        ("one with a wrong knock", flipped(KNOCK_AT)),
    ];
    for (what, mark) in shown {
        let name = format!("mark: read {what}");
        c.bench_function(&name, |b| b.iter(|| keys.read_at(black_box(&mark), node(), NOW_MS)));
        one_by_one(&name, || {
            black_box(keys.read_at(black_box(&mark), node(), NOW_MS)).ok();
        });
    }
    let mut nonce = 0;
    let mut make = || {
        nonce += 1;
        keys.make(black_box(&Mark::pass(Class::Talk, NOW_MS, nonce)), NOW_MS)
    };
    c.bench_function("mark: make a pass", |b| b.iter(&mut make));
    one_by_one("mark: make a pass", || {
        black_box(make());
    });
}

/// Marks that are used up: each is another one, as in a storm of those who were promised a time.
fn used(c: &mut Criterion) {
    let mut used = Used::new(100_000);
    let (mut nonce, mut now_ms) = (0_u64, NOW_MS);
    let mut take = || {
        nonce += 1;
        now_ms += 10;
        let mut mark = [0; 20];
        mark[4..12].copy_from_slice(&nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        used.take(identity(&mark), now_ms)
    };
    c.bench_function("mark: use it up", |b| b.iter(&mut take));
    one_by_one("mark: use it up", || {
        black_box(take());
    });
}

/// The books of a node that takes 2,000 background logins a second.
fn logins() -> Logins {
    let mut logins = Logins::new(&Settings::default().background, 2);
    let window =
        Window { elapsed: SECOND / 10, completed: 200, spent: SECOND / 10, available: SECOND / 10, floor: 0 };
    for _ in 0..100 {
        logins.step(window, 1.0, Posture::Normal);
    }
    logins
}

fn verdicts(c: &mut Criterion) {
    let asks = [
        ("a slot is let in", Ask::Slot, Posture::Emergency, SECOND),
        ("a pass gets what slots leave over", Ask::Pass, Posture::Emergency, SECOND),
        ("a stranger, more than there is room for", Ask::Stranger, Posture::Normal, 1_000),
        ("a pass, more than may be answered", Ask::Pass, Posture::Emergency, 1_000),
    ];
    for (what, ask, posture, gap) in asks {
        let (mut logins, mut now, mut random) = (logins(), 0, 0_u32);
        let mut decide = || {
            now += gap;
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let who = Comer { ask, asker: Some(Asker::from_bits(random)), places: Places::Free, came: None };
            logins.decide(black_box(now), who, posture, random)
        };
        let name = format!("login: {what}");
        c.bench_function(&name, |b| b.iter(&mut decide));
        one_by_one(&name, || {
            black_box(decide());
        });
    }
}

fn ledger(c: &mut Criterion) {
    let mut ledger = Ledger::new(0.95, 300 * SECOND, SECOND);
    let mut now = 0;
    let mut grant = || {
        now += 1_000_000;
        ledger.grant_to(Some(Asker::from_bits((now / 1_000_000) as u32)), black_box(now), 1.0, 2_000.0, 7)
    };
    c.bench_function("slot: grant one", |b| b.iter(&mut grant));
    one_by_one("slot: grant one", || {
        black_box(grant());
    });
}

/// All that is done for a login that is put off, from the mark it shows to the reason phrase of the close that answers it. The
/// packet around it, with its keys, is not in this.
fn put_off(c: &mut Criterion) {
    let (ring, mut logins, mut now) = (ring(), logins(), 0);
    let keys = ring.marks();
    let pass = keys.make(&Mark::pass(Class::Wake, NOW_MS, 7), NOW_MS).unwrap();
    let slot = keys.make(&Mark::slot(Class::Wake, node(), NOW_MS, 1_000, 9), NOW_MS);
    let said = PutOff { retry_after_ms: 12_345, slot };
    let name = "put off: the reason phrase alone";
    c.bench_function(name, |b| b.iter(|| black_box(&said).to_string()));
    one_by_one(name, || {
        black_box(black_box(&said).to_string());
    });
    let mut answer = || {
        now += SECOND / 1_000;
        let mark = keys.read_at(black_box(&pass), node(), NOW_MS).ok();
        // There is room now and then: what follows a "no" is measured, so it is asked for.
        let _ask = black_box(Ask::of(mark.as_ref()));
        let Verdict::Defer(grant) = logins.defer(now, Some(Asker::from_bits((now / 1_000_000) as u32)), 7)
        else {
            return None;
        };
        let wait_ms = grant.wait_ms(now);
        let at_ms = NOW_MS + u64::from(wait_ms);
        let slot = Mark::slot(Class::Wake, node(), at_ms, grant.tolerance_ms(), 9);
        Some(PutOff { retry_after_ms: wait_ms, slot: keys.make(&slot, NOW_MS) }.to_string())
    };
    let name = "put off: read the pass, grant a slot, make it, say it";
    assert!(answer().is_some_and(|reason| reason.contains("slot=")));
    c.bench_function(name, |b| b.iter(&mut answer));
    one_by_one(name, || {
        black_box(answer());
    });
}

criterion_group!(benches, single::clock, marks, used, verdicts, ledger, put_off);
criterion_main!(benches);
