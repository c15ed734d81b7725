//! Rows of the first views: alerts, incidents, nodes and components, in words.

use super::words::date;
use crate::view::{
    Alert, Component, Entry, IncidentState, IncidentView, NodeView, Severity, State, StatusView,
};

/// Something that is wrong.
pub(super) struct AlertRow {
    pub(super) title: String,
    pub(super) severity: &'static str,
    pub(super) why: String,
}

/// An incident.
pub(super) struct Case {
    pub(super) no: u64,
    pub(super) title: String,
    pub(super) severity: &'static str,
    pub(super) state: &'static str,
    pub(super) opened: String,
}

/// An incident and what happened.
pub(super) struct CaseWithTimeline {
    pub(super) no: u64,
    pub(super) title: String,
    pub(super) severity: &'static str,
    pub(super) state: &'static str,
    pub(super) opened: String,
    pub(super) timeline: Vec<Line>,
}

/// A line of a timeline.
pub(super) struct Line {
    pub(super) at: String,
    pub(super) author: String,
    pub(super) kind: String,
    pub(super) text: String,
}

/// A node.
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) state: String,
}

/// Components and what is wrong with them.
pub(super) struct Wrong {
    pub(super) summary: String,
    pub(super) components: Vec<ComponentRow>,
    pub(super) alerts: Vec<AlertRow>,
}

/// A component.
pub(super) struct ComponentRow {
    pub(super) title: String,
    pub(super) state: &'static str,
    pub(super) why: String,
    pub(super) since: String,
    pub(super) needs: String,
}

impl AlertRow {
    pub(super) fn of(alert: &Alert) -> Self {
        Self { title: alert.title.clone(), severity: severity(alert.severity), why: alert.why.clone() }
    }
}

impl Case {
    pub(super) fn of(view: &IncidentView) -> Self {
        Self {
            no: view.no,
            title: view.title.clone(),
            severity: severity(view.severity),
            state: standing(view),
            opened: date(view.opened_ms),
        }
    }
}

impl CaseWithTimeline {
    pub(super) fn of(view: &IncidentView) -> Self {
        let Case { no, title, severity, state, opened } = Case::of(view);
        Self {
            no,
            title,
            severity,
            state,
            opened,
            timeline: view.timeline.iter().rev().map(Line::of).collect(),
        }
    }
}

impl Line {
    fn of(entry: &Entry) -> Self {
        let Entry { at_ms, author, kind, text } = entry.clone();
        Self { at: date(at_ms), author, kind, text }
    }
}

impl NodeRow {
    pub(super) fn of(view: &NodeView) -> Self {
        let why = view.why.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
        let posture = view.posture.as_ref().map(|posture| format!(", {posture}")).unwrap_or_default();
        Self { name: view.node.clone(), state: format!("{}{posture}{why}", state(view.state)) }
    }
}

impl Wrong {
    pub(super) fn of(view: &StatusView) -> Self {
        Self {
            summary: view.summary.clone(),
            components: view.components.iter().map(ComponentRow::of).collect(),
            alerts: view.alerts.iter().map(AlertRow::of).collect(),
        }
    }
}

impl ComponentRow {
    fn of(part: &Component) -> Self {
        let affected = part.affected_by.as_ref().map(|by| format!("affected by {by}. ")).unwrap_or_default();
        Self {
            title: part.title.clone(),
            state: state(part.state),
            why: affected + part.why.as_deref().unwrap_or_default(),
            since: date(part.since_ms),
            needs: part.needs.join(", "),
        }
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Warning => "warning",
        State::Maintenance => "maintenance",
        State::Unknown => "unknown",
        State::Down => "down",
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// Where it stands; one that is open for a moment yet, although its cause is gone, says so.
fn standing(view: &IncidentView) -> &'static str {
    match (view.state, view.recovered_ms) {
        (IncidentState::Detected, Some(_)) => "detected, its cause is gone",
        (IncidentState::Declared, Some(_)) => "declared, its cause is gone",
        (IncidentState::Handling, Some(_)) => "handling, its cause is gone",
        (state, _) => incident_state(state),
    }
}

fn incident_state(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Detected => "detected",
        IncidentState::Declared => "declared",
        IncidentState::Handling => "handling",
        IncidentState::Resolved => "resolved",
        IncidentState::Reviewed => "reviewed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_whose_cause_is_gone_says_so_until_it_is_over() {
        let view =
            |state, recovered_ms| IncidentView { recovered_ms, state, ..super::super::tests::incident() };
        let rows = [
            (IncidentState::Detected, None, "detected"),
            (IncidentState::Detected, Some(5), "detected, its cause is gone"),
            (IncidentState::Handling, Some(5), "handling, its cause is gone"),
            (IncidentState::Resolved, Some(5), "resolved"),
        ];
        for (state, recovered_ms, said) in rows {
            assert_eq!(Case::of(&view(state, recovered_ms)).state, said);
        }
    }
}
