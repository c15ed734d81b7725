use super::*;
use crate::status::world::{Failure, MANAGERS, World, up};
use crate::view::Alert;
use proptest::prelude::*;

/// Longer than silence, hold and echo take together.
const SETTLED_S: usize = 45;
const MENDED_S: usize = 260;

fn keys(alerts: &[Alert]) -> Vec<&str> {
    let mut keys: Vec<&str> = alerts.iter().map(|alert| alert.key.as_str()).collect();
    keys.sort_unstable();
    keys
}

fn second(watcher: &mut Watcher, world: &mut World) -> StatusView {
    watcher.step(&world.second()).view
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Store),
        Just(Failure::Backend),
        Just(Failure::Gateway),
        (0..MANAGERS.len()).prop_map(Failure::Manager),
        Just(Failure::Way),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever fails, in whatever order and at whatever times: people are told of each cause once, of nothing else at any
    /// moment, and when all is mended all is over.
    #[test]
    fn exactly_one_alert_for_each_cause(failures in prop::collection::vec((failure(), 0_usize..40), 0..7)) {
        let (mut watcher, mut world) = (Watcher::default(), World::default());
        let mut ever = std::collections::BTreeSet::new();
        for now in 0..40 + SETTLED_S {
            world.failed.extend(failures.iter().filter(|(_, at)| *at == now).map(|(failure, _)| *failure));
            ever.extend(world.causes());
            let view = second(&mut watcher, &mut world);
            for key in keys(&view.alerts) {
                prop_assert!(ever.contains(key), "{} at {} s", key, now);
            }
        }
        let view = second(&mut watcher, &mut world);
        prop_assert_eq!(keys(&view.alerts), world.causes().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(view.alerts.is_empty(), view.summary == "All is well.");
        world.failed.clear();
        for _ in 0..MENDED_S {
            let view = second(&mut watcher, &mut world);
            for key in keys(&view.alerts) {
                prop_assert!(ever.contains(key), "{} while it was mended", key);
            }
        }
        let view = second(&mut watcher, &mut world);
        prop_assert_eq!(keys(&view.alerts), Vec::<&str>::new());
        prop_assert_eq!((view.state, view.summary.as_str()), (State::Up, "All is well."));
    }
}

#[test]
fn a_store_that_goes_and_comes_back_is_told_once_and_is_over_once() {
    let (mut watcher, mut world) = (Watcher::default(), World::default());
    let mut told = Vec::new();
    let mut seconds = |watcher: &mut Watcher, world: &mut World, count: usize| {
        for _ in 0..count {
            told.extend(watcher.step(&world.second()).changes.into_iter().map(|change| match change {
                Change::Raised(alert) => format!("+{}", alert.key),
                Change::Cleared(alert) => format!("-{}", alert.key),
            }));
        }
    };
    seconds(&mut watcher, &mut world, 20);
    world.failed.insert(Failure::Store);
    seconds(&mut watcher, &mut world, 60);
    let view = second(&mut watcher, &mut world);
    assert_eq!(view.state, State::Down);
    assert!(view.summary.starts_with("The store takes no writes: the disk is full."), "{}", view.summary);
    let probe = view.components.iter().find(|c| c.id == "probe").unwrap();
    assert_eq!((probe.state, probe.affected_by.as_deref()), (State::Down, Some("store")));
    world.failed.clear();
    seconds(&mut watcher, &mut world, 60);
    assert_eq!(told, ["+store/down", "-store/down"]);
}

#[test]
fn a_state_says_since_when_it_is_so_and_a_change_is_noticed() {
    let mut watcher = Watcher::default();
    let mut facts = up();
    assert!(watcher.step(&facts).has_changed);
    facts.now_ms += 1_000;
    let step = watcher.step(&facts);
    assert!(!step.has_changed && !step.mends);
    assert_eq!(step.view.components[0].since_ms, up().now_ms);
    facts.now_ms += 1_000;
    facts.checks.insert("store".to_owned(), Some("stopped".to_owned()));
    let step = watcher.step(&facts);
    assert!(step.has_changed && !step.mends);
    assert_eq!(step.view.components[0].since_ms, facts.now_ms);
    facts.checks.insert("store".to_owned(), None);
    assert!(watcher.step(&facts).mends);
}
