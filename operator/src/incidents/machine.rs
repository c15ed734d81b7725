//! Where an incident stands, and which steps lead on: detected, declared, handling, resolved, reviewed.
//!
//! Why it exists: rules and people move the same incident, and neither may put it where the other does not expect it. It
//! must never know why a step is taken, or when.

use crate::view::IncidentState;

use IncidentState::{Declared, Detected, Handling, Resolved, Reviewed};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is one: a person says so, or it has lasted.
    Declare,
    /// Somebody sees to it, or somebody else takes over.
    Handle,
    /// It is over.
    Resolve,
    /// It was not over.
    Reopen,
    /// Its story was read and closed.
    Review,
}

const STATES: [IncidentState; 5] = [Detected, Declared, Handling, Resolved, Reviewed];

/// Where the step leads; none: it cannot be taken from there.
pub(super) fn step(from: IncidentState, step: Step) -> Option<IncidentState> {
    match (from, step) {
        (Detected, Step::Declare) | (Resolved, Step::Reopen) => Some(Declared),
        (Detected | Declared | Handling, Step::Handle) => Some(Handling),
        (Detected | Declared | Handling, Step::Resolve) => Some(Resolved),
        (Resolved, Step::Review) => Some(Reviewed),
        _ => None,
    }
}

/// The step that a person means who names a state.
pub(super) fn towards(from: IncidentState, to: IncidentState) -> Option<Step> {
    let meant = match (from, to) {
        (Resolved, Declared) => Step::Reopen,
        (_, Declared) => Step::Declare,
        (_, Handling) => Step::Handle,
        (_, Resolved) => Step::Resolve,
        (_, Reviewed) => Step::Review,
        (_, Detected) => return None,
    };
    step(from, meant).map(|_| meant)
}

/// The states that can be reached from here in one step.
pub(super) fn next(from: IncidentState) -> impl Iterator<Item = IncidentState> {
    STATES.into_iter().filter(move |to| towards(from, *to).is_some())
}

/// Whether it still happens.
pub(super) fn is_open(state: IncidentState) -> bool {
    matches!(state, Detected | Declared | Handling)
}

/// As it is written.
pub(crate) fn name(state: IncidentState) -> &'static str {
    match state {
        Detected => "detected",
        Declared => "declared",
        Handling => "handling",
        Resolved => "resolved",
        Reviewed => "reviewed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state and every step: a change of this table is a change of what operators are told.
    const TABLE: &str = "\
detected Declare -> declared
detected Handle -> handling
detected Resolve -> resolved
detected Reopen -> no
detected Review -> no
declared Declare -> no
declared Handle -> handling
declared Resolve -> resolved
declared Reopen -> no
declared Review -> no
handling Declare -> no
handling Handle -> handling
handling Resolve -> resolved
handling Reopen -> no
handling Review -> no
resolved Declare -> no
resolved Handle -> no
resolved Resolve -> no
resolved Reopen -> declared
resolved Review -> reviewed
reviewed Declare -> no
reviewed Handle -> no
reviewed Resolve -> no
reviewed Reopen -> no
reviewed Review -> no
";

    #[test]
    fn every_step_from_every_state_is_as_written_down() {
        let mut table = String::new();
        for from in STATES {
            for taken in [Step::Declare, Step::Handle, Step::Resolve, Step::Reopen, Step::Review] {
                let to = step(from, taken).map_or("no", name);
                table.push_str(&format!("{} {taken:?} -> {to}\n", name(from)));
            }
        }
        assert_eq!(table, TABLE);
    }

    #[test]
    fn naming_a_state_means_the_step_that_leads_there() {
        for from in STATES {
            for to in STATES {
                let Some(meant) = towards(from, to) else { continue };
                assert_eq!(step(from, meant), Some(to), "{from:?} {to:?}");
            }
        }
        assert_eq!(towards(Resolved, Declared), Some(Step::Reopen));
        assert_eq!(next(Resolved).collect::<Vec<_>>(), [Declared, Reviewed]);
        assert_eq!(next(Reviewed).count(), 0);
    }

    #[test]
    fn nothing_is_found_by_a_rule_twice() {
        assert!(STATES.into_iter().all(|from| towards(from, Detected).is_none()));
    }
}
