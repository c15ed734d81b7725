//! What is kept, for how long, and in which order it comes out.

use super::*;
use crate::happening::What;
use crate::testing::sample;

fn happening(at_ms: UnixMs) -> Happening {
    let what = What::Mark { mark: "note".into(), text: at_ms.to_string(), author: "kim".into() };
    Happening { at_ms, node: "sm1".into(), what }
}

#[test]
fn each_resolution_keeps_its_stretch_and_no_more() {
    for stretch in Stretch::ALL {
        let history = History::default();
        let step_ms = u64::from(stretch.step_ms());
        let count = stretch.samples_max() as u64 + 50;
        for n in 1..=count {
            history.on_sample(stretch, Arc::new(sample(n * step_ms)));
        }
        let view = history.view(stretch, stretch.length(), "sm1", count * step_ms);
        assert_eq!(view.step_ms, stretch.step_ms());
        assert_eq!(view.samples.len(), stretch.samples_max(), "{stretch:?}");
        assert_eq!(view.samples.last().unwrap().at_ms, count * step_ms);
        assert!(view.samples.is_sorted_by_key(|sample| sample.at_ms));
        assert_eq!(Stretch::named(stretch.name()), Some((stretch, stretch.length())));
    }
    assert_eq!(Stretch::named("1w"), None);
    assert_eq!(Stretch::named("1m"), Some((Stretch::TenMinutes, Duration::from_secs(60))));
}

#[test]
fn what_is_older_than_the_stretch_is_not_shown() {
    let history = History::default();
    history.on_sample(Stretch::TenMinutes, Arc::new(sample(1_000)));
    history.on_happening(happening(2_000));
    let soon = history.view(Stretch::TenMinutes, Stretch::TenMinutes.length(), "sm1", 5_000);
    assert_eq!((soon.samples.len(), soon.happenings.len()), (1, 1));
    let later = history.view(Stretch::TenMinutes, Stretch::TenMinutes.length(), "sm1", 5_000_000);
    assert_eq!((later.samples.len(), later.happenings.len()), (0, 0));
    assert_eq!(
        history.view(Stretch::ThreeHours, Stretch::ThreeHours.length(), "sm1", 5_000_000).happenings.len(),
        1
    );
}

#[test]
fn happenings_are_bounded_and_in_order_also_when_they_come_late() {
    let history = History::default();
    for at_ms in [30, 10, 20] {
        history.on_happening(happening(at_ms));
    }
    let times: Vec<UnixMs> = history.happenings(0).iter().map(|happening| happening.at_ms).collect();
    assert_eq!(times, [10, 20, 30]);
    for at_ms in 0..3 * HAPPENINGS_MAX as u64 {
        history.on_happening(happening(at_ms));
    }
    assert_eq!(history.happenings(0).len(), HAPPENINGS_MAX);
}

#[test]
fn the_last_second_is_that_of_the_finest_resolution() {
    let history = History::default();
    assert_eq!(history.last(), None);
    history.on_sample(Stretch::Day, Arc::new(sample(60_000)));
    assert_eq!(history.last(), None);
    history.on_sample(Stretch::TenMinutes, Arc::new(sample(61_000)));
    assert_eq!(history.last().unwrap().at_ms, 61_000);
}
