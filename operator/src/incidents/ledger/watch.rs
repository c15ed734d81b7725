//! What time alone does to incidents: declared after a while, escalated when recovery takes too long, resolved when the cause
//! has been gone for a while, told again when a silence ends.

use buslane_shared::UnixMs;

use super::{Effects, Fact, Incident, Ledger, Occasion, may_go_on, own};
use crate::incidents::machine::{Step, step};
use crate::incidents::rules::{severity_name, worse};
use crate::view::{IncidentState, Severity};

/// What lasts longer than this is an incident, without a person saying so.
const DECLARE_AFTER_MS: u64 = 2 * 60 * 1_000;

/// The cause must have been gone for so long.
const RESOLVE_AFTER_MS: u64 = 60 * 1_000;

/// After a restart, an alert that still holds is raised again within this, by far.
const SEEN_WITHIN_MS: u64 = 2 * 60 * 1_000;

impl Ledger {
    /// A second has passed.
    pub(in crate::incidents) fn on_tick(&mut self, now_ms: UnixMs) -> Effects {
        let mut effects = Effects::default();
        let open: Vec<u64> =
            self.warm.iter().filter(|(_, incident)| incident.is_open()).map(|(no, _)| *no).collect();
        for no in open {
            self.choose_voice(no, now_ms, &mut effects);
            self.end_what_was_not_seen(no, now_ms, &mut effects);
            self.end_silence(no, now_ms, &mut effects);
            self.resolve(no, now_ms, &mut effects);
            self.declare(no, now_ms, &mut effects);
            self.escalate_what_is_late(no, now_ms, &mut effects);
        }
        self.cool_down(now_ms);
        effects
    }

    /// Nobody has said it is gone, because whoever would have said so was restarted.
    fn end_what_was_not_seen(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let is_late = now_ms >= self.me.begun_ms.saturating_add(SEEN_WITHIN_MS);
        let gone = self.open(no).is_some_and(|incident| !incident.is_seen && incident.still_holds());
        if is_late && gone {
            let text = "This process was restarted meanwhile, and its alert was not raised again".to_owned();
            self.push(no, own(now_ms, "alert", text), Fact::Recovered, effects);
        }
    }

    fn end_silence(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let over = self.open(no).is_some_and(|incident| {
            incident.view().silenced_until_ms.is_some_and(|until_ms| until_ms <= now_ms)
        });
        if over {
            let entry = own(now_ms, "silenced", "The silence is over".to_owned());
            self.push(no, entry, Fact::Silenced { until_ms: None }, effects);
            self.tell(no, Occasion::Goes, now_ms, effects);
        }
    }

    fn resolve(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let Some(incident) = self.open(no) else { return };
        let gone_for_ms = incident.view().recovered_ms.map(|at| now_ms.saturating_sub(at));
        let to = step(incident.view().state, Step::Resolve);
        if let (Some(gone_for_ms), Some(to)) = (gone_for_ms, to)
            && gone_for_ms >= RESOLVE_AFTER_MS
        {
            self.finish(no, to, now_ms, effects);
        }
    }

    fn finish(&mut self, no: u64, to: IncidentState, now_ms: UnixMs, effects: &mut Effects) {
        // Asked before: the end of an incident ends its silence.
        let was_silenced = self.open(no).is_some_and(|incident| incident.is_silenced(now_ms));
        let text = "Resolved: its cause has been gone for a minute".to_owned();
        self.push(no, own(now_ms, "state", text), Fact::Moved { to }, effects);
        self.tell(no, Occasion::Resolved, now_ms, effects);
        // Where nobody is told, the last notice is another one's.
        if let Some(notice) = effects.notices.last_mut().filter(|notice| notice.incident.no == no) {
            notice.is_silenced = was_silenced;
        }
    }

    fn declare(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let Some(incident) = self.open(no) else { return };
        let view = incident.view();
        let has_lasted = now_ms >= view.opened_ms.saturating_add(DECLARE_AFTER_MS);
        if let Some(to) = step(view.state, Step::Declare)
            && has_lasted
            && view.recovered_ms.is_none()
        {
            let text = "Declared: it has lasted for two minutes".to_owned();
            self.push(no, own(now_ms, "state", text), Fact::Moved { to }, effects);
        }
    }

    fn escalate_what_is_late(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let Some(incident) = self.open(no) else { return };
        let view = incident.view();
        if view.recovered_ms.is_some() || now_ms < view.expected_ms {
            return;
        }
        let to = worse(view.severity);
        let text = if view.severity == Severity::Critical {
            "Recovery takes longer than expected still".to_owned()
        } else {
            format!("Recovery takes longer than expected: {} now", severity_name(to))
        };
        self.escalate(no, to, text, now_ms, effects);
    }

    /// Lets go of the lines of what is over and on the disk.
    fn cool_down(&mut self, now_ms: UnixMs) {
        let over = |incident: &Incident| !may_go_on(incident, now_ms) && incident.unkept().is_empty();
        let done: Vec<u64> =
            self.warm.iter().filter(|(_, incident)| over(incident)).map(|(no, _)| *no).collect();
        for no in done {
            if let Some(incident) = self.warm.remove(&no) {
                self.cold.insert(no, incident.view().clone());
            }
        }
    }

    fn open(&self, no: u64) -> Option<&Incident> {
        self.warm.get(&no).filter(|incident| incident.is_open())
    }
}
