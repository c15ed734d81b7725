//! Session managers: silent, draining, in a posture, or well.

use super::silence;
use crate::status::facts::{Facts, Heard, Manager};
use crate::status::graph::{Fault, Judged, Need, Weight};
use crate::view::State;

/// One of them.
pub fn manager(one: &Manager, facts: &Facts) -> Judged {
    let weight = if facts.managers.len() > 1 { Weight::OneOfMany } else { Weight::Whole };
    let component = Judged {
        node: Some(one.node.clone()),
        age_ms: Some(one.age_ms),
        ..Judged::up(format!("session-manager:{}", one.node), format!("Session manager {}", one.node))
    }
    .weighing(weight)
    .needing(Need::One("backend".to_owned()));
    let component = match one.heard {
        Heard::Here => component.needing(Need::One("certificates".to_owned())),
        _ => component,
    };
    if let Some((state, why)) = silence(one.age_ms) {
        return silent(component, one, state, why);
    }
    let order = one.order.map(|order| format!("it obeys order {order}"));
    match (&one.lacks, one.measured.as_str()) {
        (Some(lacks), _) => component.being(State::Warning, lacks.clone()),
        (None, _) if one.draining => component.being(State::Maintenance, "it drains"),
        (None, "normal") => match order {
            Some(order) => component.being(State::Maintenance, order),
            None => component,
        },
        (None, measured) => {
            let posture = measured.to_uppercase();
            let why = one.cause.as_ref().map_or(posture.clone(), |cause| format!("{posture}: {cause}"));
            component.being(State::Warning, why)
        }
    }
}

/// Silent on purpose, silent by itself, or out of sight together with the one who told of it.
fn silent(component: Judged, one: &Manager, state: State, why: String) -> Judged {
    if one.draining {
        return component.being(State::Maintenance, format!("it drained; {why}"));
    }
    match one.heard {
        Heard::Here | Heard::Directly => component.failing(state, Fault::Own, why),
        Heard::ThroughBackend => {
            let component = component.failing(state, Fault::Perhaps, why);
            Judged { seen_through: Some("backend".to_owned()), ..component }
        }
    }
}
