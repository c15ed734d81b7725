use super::*;
use crate::overload::level::{BACKGROUND, LEVELS};
use crate::overload::orders::{Kind, Order};
use crate::overload::signals::Severity;
use proptest::prelude::*;
use std::sync::LazyLock;

const MS: Nanos = 1_000_000;
const NOTHING: Offered = [0; LEVELS];

fn readings(now: Nanos) -> Readings {
    Readings { now, login_budget_per_s: 1_000.0, ..Readings::default() }
}

static NO_ORDERS: LazyLock<Orders> = LazyLock::new(Orders::default);

fn order(id: u64, kind: Kind) -> Orders {
    let order = Order {
        id,
        kind,
        reason: "drill".to_owned(),
        author: "ops".to_owned(),
        given_ms: 0,
        from_ms: 0,
        until_ms: 1_000_000,
    };
    [order].into_iter().collect()
}

fn facts(readings: Readings) -> Facts<'static> {
    Facts {
        readings,
        elapsed: TICK,
        offered: &NOTHING,
        completed: 0,
        saturated: false,
        foreground_backlog: 0,
        foreground_erlangs: 0.0,
        cpu_share: 0.1,
        ledger: 0,
        peers_in_emergency: 0.0,
        orders: &NO_ORDERS,
        now_ms: 1,
    }
}

/// Steps for `ticks`, and returns the posture changes with their time in milliseconds.
fn run(
    brain: &mut Brain,
    from: Nanos,
    ticks: u64,
    mut at: impl FnMut(Nanos) -> Facts<'static>,
) -> Vec<(u64, Posture, Posture)> {
    (0..ticks)
        .filter_map(|n| {
            let now = from + n * TICK;
            let outcome = brain.step(&at(now));
            outcome.change.map(|change| (now / MS, change.from, outcome.posture))
        })
        .collect()
}

fn slow(now: Nanos) -> Facts<'static> {
    facts(Readings { background_wait: 500 * MS, ..readings(now) })
}

#[test]
fn in_the_calm_everything_is_open() {
    let mut brain = Brain::new(&Settings::default());
    let outcome = brain.step(&facts(readings(TICK)));
    assert_eq!((outcome.cut, outcome.posture, outcome.change), (Cut::OPEN, Posture::Normal, None));
    assert_eq!(outcome.open, 1.0);
}

#[test]
fn a_hard_signal_is_an_emergency_in_its_own_tick_and_says_why() {
    let mut brain = Brain::new(&Settings::default());
    brain.step(&facts(readings(TICK)));
    let outcome = brain.step(&slow(2 * TICK));
    assert_eq!(outcome.posture, Posture::Emergency);
    let Some(Change { from: Posture::Normal, why: Source::Measured(Some(cause)), .. }) = outcome.change
    else {
        panic!("{outcome:?}")
    };
    assert_eq!((cause.signal, cause.value), (Signal::BackgroundWait, 500.0));
    assert_eq!(outcome.cut.background.below, Class::Pulse as u16 * STEPS, "what nobody misses is off");
}

#[test]
fn a_storm_has_its_way_in_and_its_way_out_and_nothing_between() {
    let mut brain = Brain::new(&Settings::default());
    let storm = run(&mut brain, TICK, 500, slow);
    assert_eq!(storm, [(10, Posture::Normal, Posture::Emergency)]);
    let calm = run(&mut brain, TICK * 501, 6_000, |now| facts(readings(now)));
    let [(left, ..), (normal, ..)] = calm[..] else { panic!("{calm:?}") };
    assert_eq!(calm[0].2, Posture::Recovery);
    assert_eq!(calm[1].2, Posture::Normal);
    assert!((30_000..30_100).contains(&left), "dwell: {left}");
    assert!(normal - left <= 10_000, "reopened at 10 % a second: {}", normal - left);
}

#[test]
fn an_order_wins_and_when_it_ends_what_is_measured_holds() {
    let mut brain = Brain::new(&Settings::default());
    let (emergency, normal) = (order(7, Kind::Emergency), order(8, Kind::Normal));
    let outcome = brain.step(&Facts { orders: &emergency, ..facts(readings(TICK)) });
    assert_eq!((outcome.posture, outcome.measured), (Posture::Emergency, Posture::Normal));
    assert_eq!(outcome.change.map(|c| c.why), Some(Source::Ordered(7)));
    let outcome = brain.step(&Facts { orders: &emergency, now_ms: 1_000_000, ..facts(readings(2 * TICK)) });
    assert_eq!(outcome.posture, Posture::Normal, "it is over");
    // Forced normal during a storm: what is measured goes on underneath.
    let outcome = brain.step(&Facts { orders: &normal, ..slow(3 * TICK) });
    assert_eq!((outcome.posture, outcome.measured), (Posture::Normal, Posture::Emergency));
    let outcome = brain.step(&slow(4 * TICK));
    assert_eq!(outcome.posture, Posture::Emergency);
}

#[test]
fn a_control_that_is_switched_off_cuts_nothing_and_enters_nothing() {
    for policy in [Policy::Static, Policy::None] {
        let settings = Settings { policy, ..Settings::default() };
        let mut brain = Brain::new(&settings);
        for n in 1..100 {
            let outcome = brain.step(&slow(n * TICK));
            assert_eq!((outcome.cut, outcome.posture), (Cut::OPEN, Posture::Normal));
            assert_eq!(outcome.background_seats, settings.lanes.seats);
            assert_eq!(outcome.judgement.severity, Severity::Hard, "it is still measured");
        }
    }
}

#[test]
fn the_kill_switch_works_in_the_middle_of_a_storm() {
    let mut brain = Brain::new(&Settings::default());
    run(&mut brain, TICK, 10, slow);
    brain.reconfigure(&Settings { policy: Policy::Static, ..Settings::default() });
    let outcome = brain.step(&slow(11 * TICK));
    assert_eq!(outcome.cut, Cut::OPEN);
    assert_eq!(outcome.posture, Posture::Normal);
}

fn any_facts() -> impl Strategy<Value = (u64, u64, f64, Option<bool>, u64)> {
    (0u64..20, 0u64..400, 0.0f64..1.0, prop::option::of(any::<bool>()), 0u64..100_000)
}

proptest! {
    /// I29, I32 and the floor, over whatever the node may see.
    #[test]
    fn whatever_is_read(seen in prop::collection::vec(any_facts(), 1..300)) {
        let settings = Settings::default();
        let mut brain = Brain::new(&settings);
        for (n, (lateness_ms, wait_ms, seats_busy, ordered, ledger_ms)) in seen.into_iter().enumerate() {
            let now = (n as u64 + 1) * TICK;
            let ordered = ordered.map(|emergency| {
                if emergency { (Kind::Emergency, Posture::Emergency) } else { (Kind::Normal, Posture::Normal) }
            });
            let orders = ordered.map_or_else(Orders::default, |(kind, _)| order(1, kind));
            let outcome = brain.step(&Facts {
                orders: &orders,
                ledger: ledger_ms * MS,
                ..facts(Readings {
                    lateness_p95: Some(lateness_ms * MS),
                    background_wait: wait_ms * MS,
                    seats_busy,
                    ..readings(now)
                })
            });
            if let Some((_, posture)) = ordered {
                prop_assert_eq!(outcome.posture, posture);
            } else {
                prop_assert_eq!(outcome.posture, outcome.measured);
            }
            if outcome.judgement.severity == Severity::Hard {
                prop_assert_eq!(outcome.measured, Posture::Emergency);
            }
            prop_assert!(outcome.background_seats >= settings.lanes.seats * 5 / 100);
            prop_assert!(outcome.cut.background.below >= BACKGROUND);
        }
    }
}
