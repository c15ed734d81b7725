//! Whether what must hold can be found out: figures that exist, that this scenario measures, with a limit on the right side.

use buslane_shared::nearest::did_you_mean;

use super::List;
use crate::storm::scenario::{Event, Limit, Scenario, Side};
use crate::storm::thresholds::{Better, FIGURES, Figure};

/// Looks at all of them.
pub fn check(scenario: &Scenario, wrong: &mut List) {
    wrong.unless(!scenario.limits.is_empty(), "limits", || {
        "a run without a limit proves nothing: lost = { at_most = 0 } is one".to_owned()
    });
    for (name, limit) in &scenario.limits {
        let key = format!("limits.{name}");
        match Figure::named(name) {
            None => wrong.unless(false, &key, || unknown(name)),
            Some(figure) => one(&key, figure, limit, scenario, wrong),
        }
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
    format!(
        "there is no such figure{}; there are {}",
        did_you_mean(name, names.iter().copied()),
        names.join(", ")
    )
}

fn one(key: &str, figure: &Figure, limit: &Limit, scenario: &Scenario, wrong: &mut List) {
    let (Limit::AtMost(value) | Limit::AtLeast(value)) = limit;
    wrong.unless(value.is_finite(), key, || "write a number".to_owned());
    match (figure.better, limit) {
        (Better::More, Limit::AtMost(_)) => {
            wrong.unless(false, key, || format!("more of it is better: write at_least = {value}"));
        }
        (Better::Less, Limit::AtLeast(_)) => {
            wrong.unless(false, key, || format!("less of it is better: write at_most = {value}"));
        }
        _ => {}
    }
    if let Some(needed) = lacking(figure.name, scenario) {
        wrong.unless(false, key, || {
            format!("this scenario never measures it, so it could not hold: it needs {needed}")
        });
    }
}

/// What a figure needs that the scenario does not have.
fn lacking(figure: &str, scenario: &Scenario) -> Option<&'static str> {
    let has_phones = scenario.logins.iter().any(|logins| logins.side == Side::Background);
    let has_people = scenario.logins.iter().any(|logins| logins.side == Side::Foreground);
    let honest = |what: fn(&super::super::Crowd) -> bool| {
        scenario.crowd.iter().any(|crowd| crowd.side == Side::Foreground && !crowd.liars && what(crowd))
    };
    let has_drop = scenario.events.iter().any(|event| matches!(event, Event::Drop { .. }));
    let (has, needed) = match figure {
        "logins_of_possible" | "slots_kept" | "attempts_per_deferred" | "left_outside" => {
            (!scenario.logins.is_empty(), "[[logins]]")
        }
        "bg_floor_kept" => (has_phones, "[[logins]] with side = \"background\""),
        "goodput_of_capacity" => {
            (honest(|crowd| crowd.messages.is_some()), "a [[crowd]] with side = \"foreground\" and messages")
        }
        "look_success" => (
            has_people || honest(|crowd| crowd.fetches.is_some()),
            "[[logins]] with side = \"foreground\", or a [[crowd]] of that side with fetches",
        ),
        "back_ratio" => (has_drop, "an event with what = \"drop\""),
        "amplification" => (scenario.flood.is_some(), "a [flood]"),
        _ => (true, ""),
    };
    (!has).then_some(needed)
}
