//! What the other processes say of their incidents, and what follows from it here: who tells people, and what people said elsewhere.
//!
//! Why it exists: an operator acts where he is, and that holds everywhere; and whoever is called is called once. It must never
//! keep a word from this process's own story.

use std::collections::BTreeSet;

use buslane_shared::UnixMs;

use super::{Effects, Fact, Incident, Ledger, Occasion, Word, own};
use crate::happening::Said;
use crate::incidents::notice::Audience;
use crate::incidents::rules;
use crate::incidents::voice::{Claim, Claims, Voice};
use crate::view::IncidentView;

/// Incidents of two processes that were opened within this are one: the same alert, seen a moment earlier or later.
const SAME_WITHIN_MS: u64 = 5 * 60 * 1_000;

impl Ledger {
    /// What this process says of its incidents.
    pub(in crate::incidents) fn claims(&self) -> Claims {
        let open = self.warm.values().filter(|incident| incident.is_open() && is_shared(incident));
        let claim = |incident: &Incident| Claim {
            key: incident.view().key.clone(),
            no: incident.view().no,
            speaks: incident.voice == Voice::Own,
        };
        Claims { open: open.map(claim).collect(), channels: self.me.channels.clone() }
    }

    /// What another process has said of its own.
    pub(in crate::incidents) fn on_said(&mut self, node: &str, claims: Claims, now_ms: UnixMs) {
        // Two of one name could not be told apart: each speaks for itself.
        if node != self.me.node {
            self.others.on_said(node, claims, now_ms);
        }
    }

    /// Who tells people about an open incident may be another one than a second ago.
    pub(super) fn choose_voice(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let Some(incident) = self.warm.get_mut(&no).filter(|incident| incident.is_open()) else { return };
        if !is_shared(incident) {
            return;
        }
        let next = self.others.next(&incident.voice, &incident.view().key, &self.me, now_ms);
        let before = std::mem::replace(&mut incident.voice, next.clone());
        match (before, next) {
            (before, next) if before == next => {}
            (Voice::Waiting { before: None, .. }, Voice::Own) => self.tell_what_waited(no, now_ms, effects),
            (Voice::Waiting { before: Some(other), .. }, Voice::Own) => {
                let text =
                    format!("{} does not tell people any more: this process does from now on", other.node);
                self.push(no, own(now_ms, "note", text), Fact::ToldBy { speaker: None }, effects);
                self.tell(no, Occasion::Goes, now_ms, effects);
            }
            (before, Voice::Other(other)) => {
                let text = format!("{} tells people about it: it is incident {} there", other.node, other.no);
                let channels = other.channels.clone();
                let is_new = !matches!(&before, Voice::Other(known) if (&known.node, known.no) == (&other.node, other.no));
                if is_new {
                    let fact = Fact::ToldBy { speaker: Some(other) };
                    self.push(no, own(now_ms, "note", text), fact, effects);
                }
                match before {
                    Voice::Own => self.tell_joined(no, channels, now_ms, effects),
                    Voice::Waiting { before: None, .. } => self.tell_what_waited(no, now_ms, effects),
                    Voice::Waiting { .. } | Voice::Other(_) => {}
                }
            }
            _ => {}
        }
    }

    /// The process ends: what it has not told yet because another one might, it tells.
    pub(in crate::incidents) fn on_end(&mut self, now_ms: UnixMs) -> Effects {
        let mut effects = Effects::default();
        let waiting: Vec<u64> =
            self.warm.iter().filter(|(_, incident)| incident.untold.is_some()).map(|(no, _)| *no).collect();
        for no in waiting {
            if let Some(incident) = self.warm.get_mut(&no) {
                incident.voice = Voice::Own;
            }
            self.tell_what_waited(no, now_ms, &mut effects);
        }
        effects
    }

    fn tell_what_waited(&mut self, no: u64, now_ms: UnixMs, effects: &mut Effects) {
        let waited = self.warm.get_mut(&no).and_then(|incident| incident.untold.take());
        if let Some(occasion) = waited {
            self.tell(no, occasion, now_ms, effects);
        }
    }

    fn tell_joined(&self, no: u64, those: BTreeSet<String>, now_ms: UnixMs, effects: &mut Effects) {
        let notice = self.notice(no, Occasion::Joined, now_ms);
        effects
            .notices
            .extend(notice.map(|notice| super::Notice { audience: Audience::Only(those), ..notice }));
    }

    /// A person has said this about the same incident at another process.
    pub(super) fn on_said_elsewhere(
        &mut self,
        node: &str,
        said: &Said,
        now_ms: UnixMs,
        effects: &mut Effects,
    ) {
        if node == self.me.node {
            return;
        }
        let Some(no) = self.same(said) else { return };
        match self.say(no, &said.author, said.word.clone().heard_on(node), now_ms) {
            Ok(done) => effects.add(done),
            // It stands elsewhere here, and each process goes by what it sees.
            Err(why) => {
                tracing::debug!(no, node, %why, "what was said of an incident elsewhere changes nothing here")
            }
        }
    }

    /// The incident here that was opened for the same, at about the same time.
    fn same(&self, said: &Said) -> Option<u64> {
        let apart = |incident: &&Incident| incident.view().opened_ms.abs_diff(said.opened_ms);
        let about =
            self.warm.values().filter(|incident| is_shared(incident) && incident.view().key == said.key);
        let nearest = about.min_by_key(apart)?;
        let is_same = nearest.is_open() || apart(&nearest) <= SAME_WITHIN_MS;
        is_same.then(|| nearest.view().no)
    }
}

fn is_shared(incident: &Incident) -> bool {
    rules::is_shared(&incident.view().key)
}

/// What the other processes are to hear of a person's word; none: they do not see this incident.
pub(in crate::incidents) fn for_others(incident: &IncidentView, author: &str, word: &Word) -> Option<Said> {
    rules::is_shared(&incident.key).then(|| Said {
        key: incident.key.clone(),
        opened_ms: incident.opened_ms,
        author: author.to_owned(),
        word: word.clone(),
    })
}
