//! Which happening opens an incident and which ends it, how bad it is called, and when it should be over.
//!
//! Why it exists: who is called at night is decided here and nowhere else, from what is written in an alert. It must never
//! open one for a trend alone, and never remember anything.

use buslane_shared::UnixMs;

use super::incident::MANUAL;
use crate::happening::{Said, What};
use crate::view::{Alert, Severity};

/// Symptom of a node that gives up what can wait: an incident even where the alert itself calls nobody, because users notice.
const EMERGENCY: &str = "emergency";

/// What is wrong with one process and not with the system: each of them is an incident of its own.
const OWN: [&str; 3] = ["process/", "certificates/", "audit/"];

/// Whether other processes see the same, and one of them is enough to tell people.
pub(super) fn is_shared(key: &str) -> bool {
    key != MANUAL && !OWN.iter().any(|own| key.starts_with(own))
}

/// What a happening means for incidents.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning<'a> {
    /// There is an incident, as long as this holds.
    Opens(&'a Alert),
    /// What opened it is gone.
    Ends(&'a Alert),
    /// A person has said something about one of them.
    Said(&'a Said),
    /// It belongs into the story of whatever happens now.
    Tells,
}

/// What this happening means.
pub(super) fn meaning(what: &What) -> Meaning<'_> {
    match what {
        What::AlertRaised(alert) if opens(alert) => Meaning::Opens(alert),
        What::AlertCleared(alert) => Meaning::Ends(alert),
        What::IncidentSaid(said) => Meaning::Said(said),
        _ => Meaning::Tells,
    }
}

fn opens(alert: &Alert) -> bool {
    alert.pages || alert.key.rsplit('/').next() == Some(EMERGENCY)
}

/// 1 calls everybody, 2 who is on duty, 3 nobody who sleeps.
pub(crate) fn grade(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 1,
        Severity::High => 2,
        Severity::Medium | Severity::Low => 3,
    }
}

/// What it becomes when recovery takes longer than expected. The worst stays what it is.
pub(super) fn worse(severity: Severity) -> Severity {
    match severity {
        Severity::Low => Severity::Medium,
        Severity::Medium => Severity::High,
        Severity::High | Severity::Critical => Severity::Critical,
    }
}

/// When recovery is expected, from now.
pub(super) fn expected_ms(severity: Severity, configured_s: Option<u32>, now_ms: UnixMs) -> UnixMs {
    let usual_s = match severity {
        Severity::Critical => 15 * 60,
        Severity::High => 30 * 60,
        Severity::Medium => 60 * 60,
        Severity::Low => 4 * 60 * 60,
    };
    // Less than a minute would call people faster than they can answer.
    let seconds = configured_s.map_or(usual_s, |configured| configured.max(60));
    now_ms.saturating_add(u64::from(seconds) * 1_000)
}

/// As it is written.
pub(crate) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::testing::alert;

    #[test]
    fn what_pages_opens_and_an_emergency_does_so_in_any_case() {
        let quiet = |key: &str| Alert { pages: false, ..alert(key, Severity::High) };
        let table = [
            (What::AlertRaised(alert("store/down", Severity::Critical)), "opens"),
            (What::AlertRaised(quiet("session-manager:sm1/emergency")), "opens"),
            (What::AlertRaised(quiet("logins/unusual")), "tells"),
            (What::AlertRaised(quiet("session-manager:emergency/guard")), "tells"),
            (What::AlertCleared(quiet("store/down")), "ends"),
            (What::OrderEnded { order: 3 }, "tells"),
            (What::Process { phase: "started".into(), version: "1".into() }, "tells"),
        ];
        for (what, wanted) in table {
            let found = match meaning(&what) {
                Meaning::Opens(_) => "opens",
                Meaning::Ends(_) => "ends",
                Meaning::Said(_) => "said",
                Meaning::Tells => "tells",
            };
            assert_eq!(found, wanted, "{what:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_one_process_is_told_by_that_process() {
        let own: Vec<&str> =
            crate::status::alerts::ALL.iter().map(|rule| rule.key).filter(|key| !is_shared(key)).collect();
        assert_eq!(own, ["certificates/ending", "audit/damaged", "process/descriptors", "process/memory"]);
        assert!(!is_shared(MANUAL));
    }

    #[test]
    fn severity_has_a_grade_a_next_step_and_a_time() {
        let table = [
            (Severity::Low, 3, Severity::Medium, 14_400_000),
            (Severity::Medium, 3, Severity::High, 3_600_000),
            (Severity::High, 2, Severity::Critical, 1_800_000),
            (Severity::Critical, 1, Severity::Critical, 900_000),
        ];
        for (severity, called, then, within_ms) in table {
            assert_eq!(grade(severity), called);
            assert_eq!(worse(severity), then);
            assert_eq!(expected_ms(severity, None, 7), 7 + within_ms);
            assert_eq!(expected_ms(severity, Some(120), 0), 120_000);
            assert_eq!(expected_ms(severity, Some(1), 0), 60_000);
        }
    }
}
