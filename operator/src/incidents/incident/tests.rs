use super::*;

fn line(at_ms: UnixMs, author: &str, fact: Fact) -> Line {
    let entry = Entry { at_ms, author: author.to_owned(), kind: "state".to_owned(), text: String::new() };
    Line { entry, fact: Some(fact) }
}

fn opened() -> Incident {
    let opened = Opened {
        key: "store/down".to_owned(),
        title: "The store does not answer.".to_owned(),
        severity: Severity::High,
        expected_ms: 100,
        why: String::new(),
        affects: vec!["backend".to_owned()],
        runbook: "#x".to_owned(),
    };
    Incident::beginning(7, line(10, SELF, Fact::Opened(opened)))
}

#[test]
fn lines_come_back_from_their_json_and_lead_to_the_same_incident() {
    let facts = [
        Fact::Moved { to: IncidentState::Handling },
        Fact::Silenced { until_ms: Some(50) },
        Fact::Severity { to: Severity::Critical, expected_ms: 200 },
        Fact::Recovered,
        Fact::Relapsed { expected_ms: 300 },
        Fact::Recovered,
        Fact::Moved { to: IncidentState::Resolved },
        Fact::Reopened { expected_ms: 400 },
        Fact::Moved { to: IncidentState::Resolved },
        Fact::Moved { to: IncidentState::Reviewed },
    ];
    let mut first = opened();
    for (at_ms, fact) in (20..).zip(facts) {
        first.push(line(at_ms, "mina", fact));
    }
    let mut again = Incident::unknown(7, 3);
    for line in &first.lines {
        let json = serde_json::to_string(line).unwrap();
        again.push_kept(serde_json::from_str(&json).unwrap());
    }
    assert_eq!(again.whole(), first.whole());
    assert!(again.unkept().is_empty() && again.has_kept(11));
    assert_eq!(first.unkept().len(), 11);
    let view = again.view();
    assert_eq!((view.state, view.grade, view.expected_ms), (IncidentState::Reviewed, 1, 400));
    assert_eq!((view.resolved_ms, view.acknowledged_by.as_deref()), (Some(28), None));
    assert_eq!((view.opened_by.as_str(), view.entries), (SELF, 11));
}

#[test]
fn handling_has_a_name_and_the_end_ends_a_silence() {
    let mut incident = opened();
    incident.push(line(20, "mina", Fact::Moved { to: IncidentState::Handling }));
    incident.push(line(21, "jo", Fact::Moved { to: IncidentState::Handling }));
    incident.push(line(22, "jo", Fact::Silenced { until_ms: Some(90) }));
    assert_eq!(incident.view().acknowledged_by.as_deref(), Some("jo"));
    assert!(incident.is_silenced(89) && !incident.is_silenced(90));
    incident.push(line(30, "jo", Fact::Moved { to: IncidentState::Resolved }));
    assert!(!incident.is_silenced(40));
    assert_eq!((incident.view().recovered_ms, incident.view().resolved_ms), (Some(30), Some(30)));
}

#[test]
fn beyond_its_bound_only_the_conclusion_is_drawn() {
    let mut incident = opened();
    for at_ms in 0..3_000 {
        incident.push(line(at_ms, SELF, Fact::Recovered));
    }
    assert_eq!(incident.len(), ENTRIES_MAX);
    incident.push(line(5_000, SELF, Fact::Moved { to: IncidentState::Resolved }));
    assert_eq!((incident.len(), incident.is_open()), (ENTRIES_MAX, false));
}
