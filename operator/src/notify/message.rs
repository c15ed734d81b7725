//! An incident in the words of a message: a subject and a few lines that fit on the screen of a phone.
//!
//! Why it exists: who is woken wants to know what it is, how bad, since when, what was changed lately and where to look. All text
//! may come from outside: it is tidied here, and escaped by whoever brings it. It must never hold a secret.

use buslane_shared::UnixMs;

use super::queue::Due;
use crate::incidents::{Occasion, SELF, severity_name, span, tidy, utc};
use crate::view::{IncidentState, IncidentView, Severity};

/// Longest line, in characters.
const LINE_CHARS_MAX: usize = 400;

/// A message, before it is put into the form of its bringer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// One line.
    pub(super) subject: String,
    /// The lines of it.
    pub(super) lines: Vec<String>,
    /// The incident that it is about; none: it is a test.
    pub(super) about: Option<Box<IncidentView>>,
    /// How bad it was called in the last message, if there was one.
    pub(super) told_as: Option<Severity>,
    /// Whether nothing more is to be heard of it from here.
    pub(super) is_over: bool,
    /// Tells the messages about an incident apart.
    pub(super) at_ms: UnixMs,
}

impl Message {
    /// About an incident.
    pub(super) fn about(due: &Due, node: &str) -> Self {
        let incident = &due.notice.incident;
        let mut lines = Vec::new();
        let severity = severity_name(incident.severity);
        lines.push(format!("Incident {} on {node}: {severity}, grade {}.", incident.no, incident.grade));
        lines.push(since(incident));
        if due.occasions.len() > 1 {
            let all: Vec<String> =
                due.occasions.iter().map(|(at_ms, o)| format!("{} {}", utc(*at_ms), did(*o))).collect();
            lines.push(format!("Since the last message: {}.", all.join(", ")));
        }
        if !incident.affects.is_empty() {
            lines.push(format!("Affected: {}.", incident.affects.join(", ")));
        }
        lines.extend(handled(incident));
        lines.extend(incident.told_by.as_ref().map(|other| {
            format!("{} tells people about it too: it is incident {} there.", other.node, other.no)
        }));
        if !incident.runbook.is_empty() {
            lines.push(format!("What to do: docs/operations.md{}", incident.runbook));
        }
        lines.push(format!("Look: buslane ctl incidents show {}", incident.no));
        lines.extend(changes(due));
        Self {
            subject: tidy(&subject(due), LINE_CHARS_MAX),
            lines: lines.iter().map(|line| tidy(line, LINE_CHARS_MAX)).collect(),
            about: Some(Box::new(incident.clone())),
            told_as: due.told_as,
            is_over: due.is_over(),
            at_ms: due.notice.at_ms,
        }
    }

    /// That this is a test.
    pub(super) fn test(author: &str, reason: &str, node: &str, now_ms: UnixMs) -> Self {
        let line = format!("{author} tries on {node} whether you are told: {reason}");
        Self {
            subject: "Buslane: a test, nothing is wrong".to_owned(),
            lines: vec![tidy(&line, LINE_CHARS_MAX)],
            about: None,
            told_as: None,
            is_over: false,
            at_ms: now_ms,
        }
    }
}

fn subject(due: &Due) -> String {
    let incident = &due.notice.incident;
    let severity = severity_name(incident.severity).to_uppercase();
    let did = due.occasions.last().map_or("goes on", |(_, occasion)| did(*occasion));
    format!("{severity} incident {} {did}: {}", incident.no, incident.title)
}

fn did(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Opened => "opened",
        Occasion::Escalated => "escalated",
        Occasion::Reopened => "reopened",
        Occasion::Resolved => "resolved",
        Occasion::Joined => "is told by another process now",
        Occasion::Goes | Occasion::Known | Occasion::Silenced => "goes on",
    }
}

fn since(incident: &IncidentView) -> String {
    let opened = format!("Opened {} UTC", utc(incident.opened_ms));
    let by = if incident.opened_by == SELF { String::new() } else { format!(" by {}", incident.opened_by) };
    let end = incident.recovered_ms.or(incident.resolved_ms);
    let lasted =
        end.map_or(String::new(), |end| format!(", lasted {}", span(end.saturating_sub(incident.opened_ms))));
    let why = if incident.why.is_empty() { String::new() } else { format!(": {}", incident.why) };
    format!("{opened}{by}{lasted}{why}")
}

fn handled(incident: &IncidentView) -> Option<String> {
    match (&incident.acknowledged_by, incident.state) {
        (Some(name), _) => Some(format!("{name} sees to it.")),
        (None, IncidentState::Resolved | IncidentState::Reviewed) => None,
        (None, _) => Some("Nobody has acknowledged it yet.".to_owned()),
    }
}

fn changes(due: &Due) -> Vec<String> {
    if due.notice.changes.is_empty() {
        return vec!["No deploy and no change of settings is known of the last day.".to_owned()];
    }
    let told = due.notice.changes.iter();
    let lines = told.map(|entry| format!("- {} {}: {}", utc(entry.at_ms), entry.author, entry.text));
    std::iter::once("Changed in the last day:".to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::{due, notice};

    #[test]
    fn a_message_says_what_how_bad_since_when_and_what_was_changed() {
        let message = Message::about(&due(notice(Occasion::Opened, 1_767_225_792_000)), "n1");
        assert_eq!(message.subject, "HIGH incident 3 opened: The store does not answer.");
        let wanted = [
            "Incident 3 on n1: high, grade 2.",
            "Opened 2026-01-01 00:00:00 UTC: 3 of 5 writes failed",
            "Affected: backend.",
            "Nobody has acknowledged it yet.",
            "What to do: docs/operations.md#the-store-does-not-answer",
            "Look: buslane ctl incidents show 3",
            "Changed in the last day:",
            "- 2025-12-31 23:59:00 jo: deploy: v2",
        ];
        assert_eq!(message.lines, wanted);
    }

    #[test]
    fn what_happened_meanwhile_is_in_one_message() {
        let mut resolved = notice(Occasion::Resolved, 1_767_225_792_000);
        resolved.incident.state = IncidentState::Resolved;
        resolved.incident.recovered_ms = Some(1_767_225_690_000);
        resolved.incident.acknowledged_by = Some("mi\u{202e}na".to_owned());
        resolved.changes.clear();
        let mut due = due(resolved);
        due.occasions.insert(0, (1_767_225_700_000, Occasion::Escalated));
        let text = Message::about(&due, "n1").lines.join("\n");
        assert!(text.contains("lasted 1 min 30 s"), "{text}");
        assert!(
            text.contains(
                "Since the last message: 2026-01-01 00:01:40 escalated, 2026-01-01 00:03:12 resolved."
            ),
            "{text}"
        );
        assert!(text.contains("mi na sees to it."), "{text}");
        assert!(text.contains("No deploy and no change of settings"), "{text}");
    }
}
