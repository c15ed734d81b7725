use super::*;
use crate::view::{IncidentState, Severity};

fn entry(at_ms: u64, author: &str, kind: &str, text: &str) -> Entry {
    Entry { at_ms, author: author.into(), kind: kind.into(), text: text.into() }
}

fn incident() -> IncidentView {
    let start = 1_767_225_600_000;
    IncidentView {
        no: 3,
        title: "The store does not answer.".into(),
        key: "store/down".into(),
        opened_by: SELF.into(),
        severity: Severity::High,
        grade: 2,
        state: IncidentState::Resolved,
        opened_ms: start,
        recovered_ms: Some(start + 250_000),
        resolved_ms: Some(start + 310_000),
        expected_ms: start,
        acknowledged_by: Some("mina".into()),
        silenced_until_ms: None,
        why: "3 of 5 writes failed".into(),
        affects: vec!["backend".into()],
        runbook: "#x".into(),
        told_by: None,
        entries: 5,
        timeline: vec![
            entry(start - 60_000, "jo", "mark", "deploy: v2"),
            entry(start, SELF, "opened", "The store does not answer. 3 of 5 writes failed"),
            entry(start + 1_000, SELF, "posture", "sm1: normal → emergency (logins)"),
            entry(start + 9_000, "mina", "acknowledged", "Sees to it"),
            entry(start + 250_000, SELF, "alert", "Cleared: The store does not answer."),
        ],
    }
}

const REPORT: &str = "\
# Incident 3: The store does not answer.

Written by Buslane on n1 at 2026-01-01 00:10:00 UTC. All times are in UTC.

| | |
|---|---|
| Severity | high, grade 2 |
| State | resolved |
| About | store/down |
| Opened | 2026-01-01 00:00:00 by buslane |
| Cause gone | 2026-01-01 00:04:10 |
| Resolved | 2026-01-01 00:05:10 |
| Lasted | 4 min 10 s |
| Seen to by | mina |

## What happened

2026-01-01 00:00:00: The store does not answer. 3 of 5 writes failed

- 2026-01-01 00:00:01: sm1: normal → emergency (logins)

## Impact

Affected: backend.

- 3 of 5 writes failed
- 2026-01-01 00:04:10: Cleared: The store does not answer.

Users who noticed: _to be filled in_

## What was changed before and meanwhile

- 2025-12-31 23:59:00 (jo): deploy: v2

## Timeline

| UTC | who | what | |
|---|---|---|---|
| 2025-12-31 23:59:00 | jo | mark | deploy: v2 |
| 2026-01-01 00:00:00 | buslane | opened | The store does not answer. 3 of 5 writes failed |
| 2026-01-01 00:00:01 | buslane | posture | sm1: normal → emergency (logins) |
| 2026-01-01 00:00:09 | mina | acknowledged | Sees to it |
| 2026-01-01 00:04:10 | buslane | alert | Cleared: The store does not answer. |

## Who did what

- jo
  - 2025-12-31 23:59:00: deploy: v2
- mina
  - 2026-01-01 00:00:09: Sees to it

## Open questions

- [ ] How many users noticed, and how?
- [ ] What was the cause, and what set it off?
- [ ] Why was it found when it was found, and not earlier?
- [ ] What helped, and what made it worse?
- [ ] Where were we lucky?
- [ ] What is done so that it does not happen again: by whom, until when?
";

#[test]
fn a_report_is_readable_without_anybody_typing() {
    assert_eq!(markdown(&incident(), "n1", 1_767_226_200_000), REPORT);
}

#[test]
fn no_text_becomes_markup() {
    let table = [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b", "a \\| b"),
        ("![x](https://evil/x.png)", "\\!\\[x\\](https&#58;//evil/x.png)"),
        ("see HTTP://evil or www.evil", "see HTTP&#58;//evil or www&#46;evil"),
        ("**b** _i_ `c` ~~s~~", "\\*\\*b\\*\\* \\_i\\_ \\`c\\` \\~\\~s\\~\\~"),
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("12. item", "12\\. item"),
        ("v1.2 of 3", "v1.2 of 3"),
        ("@all &amp;", "&#64;all &amp;amp;"),
        ("a\nb\u{0}", "a b "),
        ("back\\slash", "back\\\\slash"),
    ];
    for (text, wanted) in table {
        assert_eq!(plain(text), wanted);
    }
}

#[test]
fn every_text_of_an_incident_is_escaped() {
    let evil = "<img src=x onerror=alert(1)>|[a](javascript:b)";
    let mut incident = incident();
    for text in [&mut incident.title, &mut incident.key, &mut incident.opened_by, &mut incident.why] {
        *text = evil.to_owned();
    }
    incident.acknowledged_by = Some(evil.to_owned());
    incident.affects = vec![evil.to_owned()];
    for kind in ["mark", "posture", "alert", "note", evil] {
        incident.timeline.push(entry(1, evil, kind, evil));
    }
    let report = markdown(&incident, evil, 0);
    assert!(!report.contains("<img"), "{report}");
    assert!(!report.contains("[a]("), "{report}");
    let columns = report
        .lines()
        .filter(|line| line.starts_with("| 19"))
        .map(|line| line.replace("\\|", "").matches('|').count());
    assert!(columns.clone().count() >= 5 && columns.clone().all(|count| count == 5));
}

#[test]
fn holes_are_named_and_what_is_not_over_says_so() {
    let mut incident = incident();
    incident.recovered_ms = None;
    incident.resolved_ms = None;
    incident.timeline = vec![entry(1, SELF, "damaged", "Line 2 of the file cannot be read")];
    let report = markdown(&incident, "n1", incident.opened_ms + 5_000);
    assert!(report.contains("**1 lines of the record cannot be read"), "{report}");
    assert!(report.contains("| Lasted | 5 s so far |"), "{report}");
    assert!(report.contains("Nobody did anything"), "{report}");
}
