//! Whether a run says anything about the server: it lasted to its end, the log was checked, and the driver was in time in every phase.
//!
//! It must never let the driver's own delay pass for the server's, nor call a run valid in which nothing was measured.

use std::time::Instant;

use buslane_shared::wire::Posture;

use super::gathered::Gathered;
use crate::storm::result::{ByPhase, Capacity};
use crate::storm::scenario::{Event, Scenario, Unit};
use crate::storm::timing::{Phase, Timing};

/// The driver may be late by this share of what it reports, at the 99th percentile of each phase; beyond it the run says nothing
/// about the server. What is reported counts from when a message was due, so the driver's delay is in it already: a figure of a
/// phase can only be too bad. But the storm is held against the quiet phase, and looks too good where that one is too bad.
const LATENESS_SHARE_MAX: f64 = 0.5;

/// A storm whose clients begin later than this (99th percentile) is another storm than the one that was planned.
const STARTED_LATE_MS_MAX: f64 = 1_000.0;

/// Connections that answer later than this (99th percentile) by the driver's own doing are another network than the one that was planned: a server
/// keeps a place for each handshake until it is over.
const NETWORK_LATE_MS_MAX: f64 = 100.0;

/// A machine whose speed changes by more than this factor while a run lasts spoils the figures that are reckoned by what the server can do.
const CHANGE_MAX: f64 = 1.25;

/// Figures that are reckoned by what the server can do: in messages, and in logins.
const OF_MESSAGES: [&str; 1] = ["goodput_of_capacity"];
const OF_LOGINS: [&str; 2] = ["logins_of_possible", "bg_floor_kept"];
const OF_SESSIONS: [&str; 1] = ["back_ratio"];

/// A host that takes away more than this share of the server's processors measures itself, not the server.
const STOLEN_MAX: f64 = 0.5;

/// The same in the storm, where a limit is set in multiples of what the server could do with all of its processors: then it was slower by [`CHANGE_MAX`].
const STOLEN_OF_CAPACITY_MAX: f64 = 1.0 - 1.0 / CHANGE_MAX;

/// A crowd that sends more than this of the capacity may be, with the conversations, more than it.
const NEARLY_ALL: f64 = 0.9;

/// Whether a limit is reckoned by what the server can do.
pub fn needs_capacity(scenario: &Scenario) -> bool {
    [&OF_MESSAGES[..], &OF_LOGINS, &OF_SESSIONS]
        .into_iter()
        .flatten()
        .any(|figure| scenario.limits.contains_key(*figure))
}

/// Whether messages are stated in multiples of what a full server does.
pub fn is_full(scenario: &Scenario) -> bool {
    scenario.crowd.iter().filter_map(|crowd| crowd.messages.as_ref()).any(|rate| rate.unit == Unit::Full)
}

/// Whether the load, or a limit, is reckoned by what a full server does: where messages are stated so, or so many are sent that it may be more
/// than it can do where each comes alone.
pub fn needs_full(scenario: &Scenario, scale: f64) -> bool {
    let rates = scenario.crowd.iter().filter_map(|crowd| crowd.messages.as_ref());
    let multiples: f64 =
        rates.filter(|rate| rate.unit == Unit::Capacity).map(|rate| rate.max() * scale).sum();
    let is_limited = OF_MESSAGES.iter().any(|figure| scenario.limits.contains_key(*figure));
    is_full(scenario) || is_limited && (multiples == 0.0 || multiples > NEARLY_ALL)
}

/// Figures that hold the storm against what was before it, what the foreground left over then included.
const OF_QUIET: [&str; 5] = ["fg_p99_ratio", "enter_ms", "memory_ratio", "logins_of_possible", "back_ratio"];

/// Whether the run says nothing because this posture held when it began: GUARD is felt only in what is held against the quiet phase.
pub fn spoils(posture: &str, scenario: &Scenario) -> bool {
    posture != "guard" || OF_QUIET.iter().any(|figure| scenario.limits.contains_key(*figure))
}

/// Why a run says nothing about the server. `p99`: what the run reports of conversations.
pub fn doubts(run: &Gathered, scenario: &Scenario, p99: &ByPhase) -> Vec<String> {
    let events = &scenario.events;
    let mut why = Vec::new();
    if let Some(early) = &run.ended_early {
        why.push(early.clone());
    }
    if let Err(error) = &run.findings {
        why.push(format!("the log could not be checked: {error}"));
    }
    // Nothing lost in what was read says nothing about the rest.
    if let Ok(findings) = &run.findings
        && (findings.rooms_read < findings.rooms || findings.is_cut)
    {
        why.extend(findings.notes.iter().cloned());
    }
    if run.ended_early.is_none() {
        why.extend(nothing_done(run, p99));
    }
    if is_early(&run.timing, &run.outcomes.talk.postures, events) {
        why.push(
            "the server was in EMERGENCY before the storm began, and nobody had ordered it: its quiet figures are no quiet ones, and how \
             soon it reacts was not seen"
                .to_owned(),
        );
    }
    why.extend(driver_late(&run.outcomes.talk.lateness_by_phase.p99_ms(), p99));
    if let Some(phones) = &run.outcomes.phones {
        why.extend(began_late(&phones.started_late.p99_ms()).map(|(phase, late)| {
            format!(
                "the driver began with a client {late:.0} ms (p99, {phase}) after it was due: it has too few processors for \
                 this many (--scale, or a smaller logins_per_s_max in the scenario's settings)"
            )
        }));
    }
    for crowd in &run.outcomes.crowds {
        why.extend(began_late(&crowd.lateness.p99_ms()).map(|(phase, late)| {
            format!(
                "the driver's crowd was late by {late:.0} ms itself (p99, {phase}): it has too few processors for this many \
                 messages (--scale)"
            )
        }));
    }
    let phones = run.outcomes.phones.iter().map(|phones| &phones.network_late);
    let crowds = run.outcomes.crowds.iter().map(|crowd| &crowd.network_late);
    for late in phones.chain(crowds) {
        why.extend(worst_over(NETWORK_LATE_MS_MAX, &late.p99_ms()).map(|(phase, late)| {
            format!(
                "the driver's own network was {late:.0} ms behind (p99, {phase}): the server waited for it, and no figure of it is the \
                 server's (--scale, or a smaller logins_per_s_max in the scenario's settings)"
            )
        }));
    }
    why.extend(stolen(&run.stolen(), scenario));
    if let Some(after) = &run.capacity_after {
        why.extend(changed(&run.capacity, after, |figure| scenario.limits.contains_key(figure)));
    }
    why.extend(run.notes.iter().cloned());
    why
}

/// A phase in which the host took away too much of the server's processors.
fn stolen(share: &ByPhase, scenario: &Scenario) -> Option<String> {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let took = "the host of this machine took away";
    let phases = [("quiet", share.quiet), ("storm", share.storm), ("after", share.after)];
    let worst = phases.into_iter().filter_map(|(phase, share)| Some((phase, share?)));
    if let Some((phase, share)) = worst.max_by(|one, other| one.1.total_cmp(&other.1))
        && share > STOLEN_MAX
    {
        return Some(format!(
            "{took} {} of the server's processors ({phase}): it is too busy with others",
            percent(share)
        ));
    }
    let storm = share.storm?;
    if storm > STOLEN_OF_CAPACITY_MAX && needs_capacity(scenario) {
        return Some(format!(
            "{took} {} of the server's processors in the storm, and a limit is set in multiples of what it can do with all of them",
            percent(storm)
        ));
    }
    let quiet = share.quiet?;
    let (slow, fast) = ((1.0 - quiet).min(1.0 - storm), (1.0 - quiet).max(1.0 - storm));
    let is_held = OF_QUIET.iter().any(|figure| scenario.limits.contains_key(*figure));
    (is_held && fast > CHANGE_MAX * slow).then(|| {
        format!(
            "{took} {} of the server's processors in the storm and {} before it: the one cannot be held against the other",
            percent(storm),
            percent(quiet)
        )
    })
}

/// What the server can do that was another thing after the run than before it, where a limit depends on it.
fn changed(before: &Capacity, after: &Capacity, is_limited: impl Fn(&str) -> bool) -> Option<String> {
    let rows = [
        ("messages", before.most_messages_per_s(), after.most_messages_per_s(), &OF_MESSAGES[..]),
        ("logins", before.logins_per_s, after.logins_per_s, &OF_LOGINS[..]),
        ("sessions", before.sessions_per_s, after.sessions_per_s, &OF_SESSIONS[..]),
    ];
    let (what, before, after, _) = rows.into_iter().find(|(_, before, after, figures)| {
        figures.iter().any(|figure| is_limited(figure))
            && before.max(*after) > CHANGE_MAX * before.min(*after)
    })?;
    Some(format!(
        "the machine changed its speed: the server could do {before:.0} {what} a second before the run and {after:.0} after it, and \
         a limit is set in multiples of that"
    ))
}

/// Parts of the storm that were planned and of which nothing came: what held without them says nothing.
fn nothing_done(run: &Gathered, p99: &ByPhase) -> Vec<String> {
    let outcomes = &run.outcomes;
    let missing = [
        (
            p99.storm.is_none(),
            "no message of the watched conversations was due in the storm: let it last longer, or give them more messages a second",
        ),
        (
            outcomes
                .flood
                .as_ref()
                .is_some_and(|flood| flood.packets_by_second().iter().all(|sent| *sent == 0)),
            "not one packet of the flood was sent",
        ),
        (
            outcomes.silent.as_ref().is_some_and(|silent| silent.opened == 0),
            "not one client began a handshake and fell silent",
        ),
    ];
    missing.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, why)| why.to_owned()).collect()
}

/// EMERGENCY held when the storm began, and was not ordered.
fn is_early(timing: &Timing, postures: &[(Instant, Posture)], events: &[Event]) -> bool {
    let ordered = events.iter().any(|event| matches!(event, Event::Order { .. }));
    let before = postures.iter().rfind(|(at, _)| *at < timing.storm_begin());
    !ordered && before.is_some_and(|(_, posture)| *posture == Posture::Emergency)
}

/// Phases in which the conversations' thread was late by too much of what it reports.
fn driver_late(late: &ByPhase, reported: &ByPhase) -> Vec<String> {
    let too_late = |phase: Phase| {
        let (late, reported) = (late.of(phase)?, reported.of(phase)?);
        (late > LATENESS_SHARE_MAX * reported).then(|| {
            format!(
                "the driver was late by {late:.2} ms itself (p99, {}), more than {:.0} % of the {reported:.2} ms that it reports: \
                 give it a processor of its own (--pin), or less to do (--scale)",
                phase.name(),
                LATENESS_SHARE_MAX * 100.0
            )
        })
    };
    Phase::ALL.into_iter().filter_map(too_late).collect()
}

/// The phase in which clients began too late, and how late: the worst of them.
fn began_late(late: &ByPhase) -> Option<(&'static str, f64)> {
    worst_over(STARTED_LATE_MS_MAX, late)
}

fn worst_over(most_ms: f64, late: &ByPhase) -> Option<(&'static str, f64)> {
    let late = Phase::ALL.into_iter().filter_map(|phase| Some((phase.name(), late.of(phase)?)));
    late.filter(|(_, late)| *late > most_ms).max_by(|(_, a), (_, b)| a.total_cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_driver_that_was_late_in_one_phase_says_nothing_about_the_server() {
        let reported = ByPhase { quiet: Some(1.0), storm: Some(2.0), after: None };
        let late = |quiet, storm, after| ByPhase { quiet, storm, after };
        assert!(driver_late(&late(Some(0.5), Some(1.0), Some(9.0)), &reported).is_empty());
        let quiet = driver_late(&late(Some(0.6), Some(0.6), None), &reported);
        assert!(quiet.len() == 1 && quiet[0].contains("(p99, quiet)"), "{quiet:?}");
        assert_eq!(driver_late(&late(Some(0.6), Some(1.2), None), &reported).len(), 2);
        assert_eq!(began_late(&late(Some(10.0), Some(1_000.0), None)), None);
        assert_eq!(began_late(&late(Some(1_001.0), Some(3_000.0), None)), Some(("storm", 3_000.0)));
    }

    #[test]
    fn a_machine_that_changes_its_speed_spoils_what_depends_on_it() {
        let capacity = |messages_per_s, logins_per_s| Capacity {
            processors: 1.0,
            logins_per_s,
            sessions_per_s: logins_per_s,
            messages_per_s: messages_per_s / 2.0,
            messages_full_per_s: Some(messages_per_s),
        };
        let before = capacity(10_000.0, 2_000.0);
        let doubt = |after, limit: &str| changed(&before, &after, |figure| figure == limit);
        assert_eq!(doubt(capacity(8_100.0, 2_400.0), "goodput_of_capacity"), None);
        assert_eq!(doubt(capacity(7_900.0, 2_000.0), "logins_of_possible"), None);
        assert_eq!(doubt(capacity(7_900.0, 1_000.0), "fg_p99_ratio"), None);
        let messages = doubt(capacity(12_600.0, 2_000.0), "goodput_of_capacity").unwrap();
        assert!(messages.contains("10000 messages a second before the run and 12600 after"), "{messages}");
        for limit in OF_LOGINS {
            assert!(doubt(capacity(10_000.0, 1_500.0), limit).unwrap().contains("2000 logins"));
        }
        assert!(doubt(capacity(10_000.0, 1_500.0), "back_ratio").unwrap().contains("2000 sessions"));
    }

    #[test]
    fn a_host_that_takes_the_processors_away_spoils_the_run() {
        let share =
            |quiet, storm, after| ByPhase { quiet: Some(quiet), storm: Some(storm), after: Some(after) };
        let named = |name: &str| crate::storm::scenario::known::find(name).unwrap();
        // With limits against the quiet phase, in multiples of the capacity, and with neither.
        let (quiet, capacity, neither) = (named("flood"), named("worldcup"), named("demo"));
        assert!(!needs_capacity(&quiet) && needs_capacity(&capacity) && !needs_capacity(&neither));
        assert_eq!(stolen(&share(0.3, 0.4, 0.1), &quiet), None);
        for (before, storm) in [(0.1, 0.31), (0.31, 0.1)] {
            let why = stolen(&share(before, storm, 0.1), &quiet).unwrap();
            assert!(why.contains("cannot be held against the other"), "{why}");
            assert_eq!(stolen(&share(before, storm, 0.1), &neither), None);
        }
        assert!(
            stolen(&share(0.2, 0.21, 0.1), &capacity)
                .unwrap()
                .contains("21 % of the server's processors in the storm")
        );
        assert_eq!(stolen(&share(0.3, 0.19, 0.1), &capacity), None);
        assert_eq!(stolen(&ByPhase::default(), &quiet), None, "nobody tells");
        let after = stolen(&share(0.1, 0.1, 0.6), &neither).unwrap();
        assert!(after.contains("60 % of the server's processors (after)"), "{after}");
    }

    #[test]
    fn what_is_looked_at_depends_on_the_limits() {
        let named = |name: &str| crate::storm::scenario::known::find(name).unwrap();
        assert!(!needs_capacity(&named("demo")) && needs_capacity(&named("worldcup")));
        assert!(needs_full(&named("worldcup"), 1.0) && needs_full(&named("liars"), 1.0));
        assert!(
            !needs_full(&named("steady"), 1.0) && needs_full(&named("steady"), 3.0),
            "more than it can do"
        );
        assert!(!spoils("guard", &named("demo")) && spoils("emergency", &named("demo")));
        for name in ["pohang", "reconnect", "silent"] {
            let scenario = named(name);
            assert!(needs_capacity(&scenario) && spoils("guard", &scenario), "{name}");
        }
    }

    #[test]
    fn an_emergency_before_the_storm_is_doubtful_unless_it_was_ordered() {
        let second = Duration::from_secs(1);
        let timing = Timing::new(Instant::now(), 10 * second, 10 * second, second);
        let at = |at_s: f64, posture| (timing.at(at_s), posture);
        let (emergency, normal) = (at(-5.0, Posture::Emergency), at(-2.0, Posture::Normal));
        assert!(is_early(&timing, &[emergency], &[]));
        assert!(!is_early(&timing, &[emergency, normal, at(0.1, Posture::Emergency)], &[]));
        let order = Event::Order { at_s: -6.0, begins_s: None, for_s: 30.0 };
        assert!(!is_early(&timing, &[emergency], &[order]));
        assert!(!is_early(&timing, &[], &[]));
    }
}
