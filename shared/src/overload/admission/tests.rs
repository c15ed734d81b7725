use super::*;
use crate::overload::level::STEPS;
use proptest::prelude::*;

const MS: Nanos = 1_000_000;
const TICK: Nanos = 10 * MS;
const SEATS: u32 = 100;
/// What 100 seats complete in a tick.
const FULL: Nanos = SEATS as u64 * TICK;

fn offered(parts: &[(u16, u16, Nanos)]) -> Offered {
    let mut offered = [0; LEVELS];
    for (from, to, cost) in parts {
        for level in *from..*to {
            offered[usize::from(level)] += cost / u64::from(to - from);
        }
    }
    offered
}

fn window(offered: &Offered) -> Window<'_> {
    Window {
        elapsed: TICK,
        offered,
        completed: 0,
        saturated: false,
        foreground_backlog: 0,
        foreground_delay: 0,
        guard: 2 * MS,
        background_max: 1.0,
        floor: 0.05,
    }
}

/// What the queues of foreground hold.
const ROOM: Nanos = SEATS as u64 * FOREGROUND_ROOM;

const TALK: (u16, u16) = (STEPS, 2 * STEPS);
const WAKE: (u16, u16) = (5 * STEPS, 6 * STEPS);

#[test]
fn what_fits_is_all_admitted() {
    let calm = offered(&[(TALK.0, TALK.1, FULL / 4), (WAKE.0, WAKE.1, FULL / 4)]);
    assert_eq!(Admission::new(SEATS).step(&window(&calm)), Cut::OPEN);
    assert_eq!(Admission::new(SEATS).step(&window(&[0; LEVELS])), Cut::OPEN);
}

#[test]
fn a_surge_of_any_size_is_cut_to_the_budget_in_one_step() {
    for times in [2, 13, 50, 1_000] {
        let surge = offered(&[(TALK.0, TALK.1, FULL / 10), (WAKE.0, WAKE.1, times * FULL)]);
        let cut = Admission::new(SEATS).step(&window(&surge));
        assert!(!cut.cuts_foreground(), "{times}");
        let admitted = f64::from(cut.background.below - WAKE.0) / f64::from(STEPS)
            + f64::from(cut.background.share) / 65_536.0 / f64::from(STEPS);
        let wanted = 0.9 / times as f64;
        assert!((admitted / wanted - 1.0).abs() < 0.05, "{times}: {admitted} of {wanted}");
    }
}

#[test]
fn a_burst_of_foreground_that_its_queue_can_hold_is_not_refused() {
    let burst = offered(&[(TALK.0, TALK.1, 2 * FULL)]);
    let mut admission = Admission::new(SEATS);
    assert_eq!(admission.step(&window(&burst)), Cut::OPEN);
    let full = Window { foreground_backlog: ROOM, ..window(&burst) };
    assert!(admission.step(&full).cuts_foreground());
}

#[test]
fn while_foreground_is_cut_background_has_its_floor_and_nothing_beyond() {
    let overflow = offered(&[(TALK.0, TALK.1, 9 * FULL), (WAKE.0, WAKE.1, FULL)]);
    let full = Window { foreground_backlog: ROOM, ..window(&overflow) };
    let cut = Admission::new(SEATS).step(&full);
    assert!(cut.cuts_foreground());
    let background = f64::from(cut.background.below - WAKE.0) / f64::from(STEPS);
    assert!((0.03..0.06).contains(&background), "{background}");
    let foreground = f64::from(cut.foreground.below - TALK.0) / f64::from(STEPS) * 9.0;
    assert!((0.85..=1.0).contains(&foreground), "{foreground}");
}

#[test]
fn the_capacity_is_learnt_under_load_and_forgotten_in_the_calm() {
    let mut admission = Admission::new(SEATS);
    let nothing = [0; LEVELS];
    for _ in 0..500 {
        admission.step(&Window { completed: FULL / 2, saturated: true, ..window(&nothing) });
    }
    let half = admission.capacity() / 1e9;
    assert!((50.0..55.0).contains(&half), "{half}");
    for _ in 0..500 {
        admission.step(&Window { completed: FULL / 100, ..window(&nothing) });
    }
    assert!(admission.capacity() / 1e9 > 99.0, "a quiet night teaches nothing");
}

#[test]
fn the_trim_falls_fast_and_rises_slowly() {
    let mut admission = Admission::new(SEATS);
    let nothing = [0; LEVELS];
    admission.step(&window(&nothing));
    let before = admission.trim();
    admission.step(&Window { foreground_delay: 20 * MS, ..window(&nothing) });
    assert!(before - admission.trim() > 0.2, "{} {}", before, admission.trim());
    let low = admission.trim();
    admission.step(&window(&nothing));
    assert!(admission.trim() - low <= 0.01 + 1e-9);
    for _ in 0..1_000 {
        admission.step(&Window { foreground_delay: 20 * MS, ..window(&nothing) });
    }
    assert!((admission.trim() - 0.5).abs() < 1e-9);
    for _ in 0..100 {
        admission.step(&window(&nothing));
    }
    assert!(admission.trim() > 1.0, "no wind-up: {}", admission.trim());
}

proptest! {
    /// What is admitted never costs more than the budget (and the room of the queues), and I21 holds in every window.
    #[test]
    fn no_window_admits_more_than_the_node_can_do(
        parts in prop::collection::vec((0u16..1024, 1u64..4 * FULL), 0..20),
        backlog in 0..3 * FULL,
        delay in 0u64..20 * MS,
        background_max in 0.0f64..1.0,
    ) {
        let mut all = [0; LEVELS];
        for (level, cost) in &parts {
            all[usize::from(*level)] += cost;
        }
        let window = Window { foreground_backlog: backlog, foreground_delay: delay, background_max, ..window(&all) };
        let mut admission = Admission::new(SEATS);
        let cut = admission.step(&window);
        let cost = |from: u16, to: u16, edge: Edge| -> f64 {
            (from..to).map(|l| {
                let cost = all[usize::from(l)] as f64;
                if l < edge.below { cost } else if l == edge.below { cost * f64::from(edge.share) / 65_536.0 } else { 0.0 }
            }).sum()
        };
        let foreground = cost(0, BACKGROUND, cut.foreground);
        let background = cost(BACKGROUND, LEVELS as u16, cut.background);
        let most = admission.capacity() * admission.trim() * 0.01;
        let floor = admission.capacity() * 0.01 * 0.05;
        prop_assert!(foreground <= 3.0 * most + 1.0);
        prop_assert!(background <= most.max(floor) + 1.0);
        if cut.cuts_foreground() {
            prop_assert!(background <= floor + 1.0, "beyond its floor: {} of {}", background, floor);
        }
        // The floor is never taken away.
        let offered: u64 = all[usize::from(BACKGROUND)..].iter().sum();
        prop_assert!(background >= floor.min(offered as f64) * 0.98 - 1_000_000.0);
    }
}
