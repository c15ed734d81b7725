//! The whole in one state and one sentence. Pure.

use super::graph::{Judged, Weight};
use crate::view::{Alert, Severity, State};

/// Alerts that a sentence names; the others are counted.
const NAMED_MAX: usize = 2;

/// The worst of all that matters: what others of its kind make good for is no more than a warning.
pub fn state(components: &[Judged], alerts: &[Alert]) -> State {
    let whole = components.iter().map(|component| match component.weight {
        Weight::Nothing => State::Up,
        Weight::Whole => component.state,
        Weight::Warning => component.state.min(State::Warning),
        Weight::OneOfMany => of_many(component, components),
    });
    let alerted = alerts.iter().map(|alert| match alert.severity {
        Severity::Low => State::Up,
        _ => State::Warning,
    });
    whole.chain(alerted).max().unwrap_or(State::Unknown)
}

/// As bad as the best of its kind, and at least a warning if it is not well itself.
fn of_many(component: &Judged, components: &[Judged]) -> State {
    let kind = |c: &Judged| c.id.split(':').next().map(str::to_owned);
    let of_kind = components.iter().filter(|c| kind(c) == kind(component));
    let best = of_kind.map(|c| c.state).min().unwrap_or(component.state);
    match component.state {
        State::Up | State::Maintenance => best,
        _ => best.max(State::Warning),
    }
}

/// A sentence for people.
pub fn sentence(components: &[Judged], alerts: &[Alert]) -> String {
    let named: Vec<String> = alerts.iter().take(NAMED_MAX).map(told).collect();
    match alerts.len() - named.len() {
        _ if named.is_empty() => without_alerts(components),
        0 => named.join(" "),
        more => format!("{} And {more} more.", named.join(" ")),
    }
}

fn told(alert: &Alert) -> String {
    format!("{}: {}.", alert.title, alert.why.trim_end_matches('.'))
}

fn without_alerts(components: &[Judged]) -> String {
    let in_state = |state: State| -> Vec<&str> {
        let those = components.iter().filter(|c| c.state == state && c.weight != Weight::Nothing);
        those.map(|c| c.title.as_str()).collect()
    };
    let down = in_state(State::Down);
    let unknown = in_state(State::Unknown);
    let warned = in_state(State::Warning);
    let out = in_state(State::Maintenance);
    let unseen = components.iter().any(|c| c.id == "probe" && c.weight == Weight::Nothing);
    if !down.is_empty() {
        format!("{} failed just now.", down.join(", "))
    } else if !unknown.is_empty() {
        format!("Not everything is known: {}.", unknown.join(", "))
    } else if !warned.is_empty() {
        format!("It works; look at {}.", warned.join(", "))
    } else if !out.is_empty() {
        format!("All is well; on purpose: {}.", out.join(", "))
    } else if unseen {
        "All is well as far as this process sees; it does not probe.".to_owned()
    } else {
        "All is well.".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::graph::Fault;

    fn manager(n: u8, state: State) -> Judged {
        let one = Judged::up(format!("session-manager:sm{n}"), format!("Session manager sm{n}"));
        one.failing(state, Fault::Own, "").weighing(Weight::OneOfMany)
    }

    #[test]
    fn the_whole_is_as_bad_as_what_nobody_makes_good_for() {
        use State::{Down, Maintenance, Unknown, Up, Warning};
        let rows = [
            ([Up, Up], Up),
            ([Up, Down], Warning),
            ([Up, Unknown], Warning),
            ([Down, Unknown], Unknown),
            ([Down, Down], Down),
            ([Up, Maintenance], Up),
            ([Maintenance, Maintenance], Maintenance),
            ([Maintenance, Down], Maintenance),
        ];
        for (states, whole) in rows {
            let all: Vec<Judged> = states.iter().zip(1..).map(|(state, n)| manager(n, *state)).collect();
            assert_eq!(state(&all, &[]), whole, "{states:?}");
        }
        let clock = Judged::up("clock", "Clocks").failing(Down, Fault::Own, "").weighing(Weight::Warning);
        assert_eq!(state(&[clock], &[]), Warning);
        assert_eq!(state(&[], &[]), Unknown);
    }

    #[test]
    fn the_sentence_says_what_is_known() {
        let probe = |weight| Judged::up("probe", "Probe").weighing(weight);
        assert_eq!(sentence(&[probe(Weight::Whole)], &[]), "All is well.");
        assert!(sentence(&[probe(Weight::Nothing)], &[]).contains("does not probe"));
        assert_eq!(
            sentence(&[manager(1, State::Unknown)], &[]),
            "Not everything is known: Session manager sm1."
        );
    }
}
