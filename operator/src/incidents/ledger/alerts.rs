//! What an alert that is raised or cleared does to incidents: one cause, one incident, also where it comes and goes.

use buslane_shared::UnixMs;

use super::{Effects, Fact, Ledger, Line, OPEN_MAX, Occasion, Opened, TITLE_CHARS_MAX, may_reopen, own};
use crate::incidents::rules;
use crate::incidents::words::{tidy, with_why};
use crate::view::{Alert, Entry};

/// Components that are named as suffering from it.
const AFFECTS_MAX: usize = 32;

impl Ledger {
    pub(super) fn on_raised(&mut self, alert: &Alert, entry: &Entry, now_ms: UnixMs, effects: &mut Effects) {
        let own = self.warm.iter().rev().find(|(_, incident)| {
            incident.is_about(alert) && (incident.is_open() || may_reopen(incident, now_ms))
        });
        let no = match own.map(|(no, incident)| (*no, incident.is_open())) {
            Some((no, true)) => {
                self.on_raised_again(no, alert, entry, now_ms, effects);
                Some(no)
            }
            Some((no, false)) => {
                self.reopen(no, alert, entry, now_ms, effects);
                Some(no)
            }
            None => self.open_for(alert, entry, now_ms, effects),
        };
        self.tell_all_but(no, entry, effects);
    }

    fn open_for(
        &mut self,
        alert: &Alert,
        entry: &Entry,
        now_ms: UnixMs,
        effects: &mut Effects,
    ) -> Option<u64> {
        if self.check_room().is_err() {
            metrics::counter!("buslane_incidents_not_opened_total").increment(1);
            tracing::error!(key = alert.key, "no incident was opened: {OPEN_MAX} are open; resolve some");
            return None;
        }
        let opened = Opened {
            key: alert.key.clone(),
            title: tidy(&alert.title, TITLE_CHARS_MAX),
            severity: alert.severity,
            expected_ms: self.expected_ms(alert.severity, now_ms),
            why: tidy(&alert.why, TITLE_CHARS_MAX),
            affects: alert.affects.iter().take(AFFECTS_MAX).map(|id| tidy(id, TITLE_CHARS_MAX)).collect(),
            runbook: tidy(&alert.runbook, TITLE_CHARS_MAX),
        };
        let text = with_why(&alert.title, &alert.why);
        let entry = Entry { at_ms: entry.at_ms, ..own(now_ms, "opened", text) };
        Some(self.begin(Line { entry, fact: Some(Fact::Opened(opened)) }, now_ms, effects))
    }

    fn on_raised_again(
        &mut self,
        no: u64,
        alert: &Alert,
        entry: &Entry,
        now_ms: UnixMs,
        effects: &mut Effects,
    ) {
        let Some(incident) = self.warm.get_mut(&no) else { return };
        incident.is_seen = true;
        let (severity, expected_ms) = (incident.view().severity, incident.view().expected_ms);
        if incident.view().recovered_ms.is_some() {
            let later = rules::expected_ms(severity, self.expected_recovery_s, now_ms);
            let expected_ms = if expected_ms > now_ms { expected_ms } else { later };
            self.push(no, entry.clone(), Fact::Relapsed { expected_ms }, effects);
        }
        if alert.severity > severity {
            let text = format!("It got worse: {}", with_why(&alert.title, &alert.why));
            self.escalate(no, alert.severity, text, now_ms, effects);
        }
    }

    fn reopen(&mut self, no: u64, alert: &Alert, entry: &Entry, now_ms: UnixMs, effects: &mut Effects) {
        let Some(incident) = self.warm.get_mut(&no) else { return };
        incident.is_seen = true;
        let severity = incident.view().severity;
        let text = format!("Reopened: {}", with_why(&alert.title, &alert.why));
        let line = Entry { at_ms: entry.at_ms, ..own(now_ms, "state", text) };
        let expected_ms = self.expected_ms(severity, now_ms);
        self.push(no, line, Fact::Reopened { expected_ms }, effects);
        if alert.severity > severity {
            let expected_ms = self.expected_ms(alert.severity, now_ms);
            let text = format!("It is {} now", rules::severity_name(alert.severity));
            let fact = Fact::Severity { to: alert.severity, expected_ms };
            self.push(no, own(now_ms, "escalated", text), fact, effects);
        }
        self.tell(no, Occasion::Reopened, now_ms, effects);
    }

    pub(super) fn on_cleared(&mut self, alert: &Alert, entry: &Entry, effects: &mut Effects) {
        let own = self.warm.iter().find(|(_, incident)| incident.is_about(alert) && incident.is_open());
        let own = own.map(|(no, incident)| (*no, incident.view().recovered_ms.is_none()));
        if let Some((no, true)) = own {
            self.push(no, entry.clone(), Fact::Recovered, effects);
        }
        self.tell_all_but(own.map(|(no, _)| no), entry, effects);
    }
}
