//! Which process tells people about an incident that several processes see.
//!
//! Each process judges alone and keeps a story of its own, so that no night is lost with a machine. But people are called once: the
//! first by rank speaks (those who know whom to call before those who do not, then by name), the others wait for it. Who already
//! speaks goes on until somebody of a better rank speaks as well. Without an answer from the others each speaks for itself: two
//! messages are better than none.
//!
//! Why it exists: one storm is seen by every process within a few seconds, and five calls for one storm teach people to look away.
//! Pure: the time is an argument. It must never wait for another process without an end.

use std::collections::{BTreeMap, BTreeSet};

use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};

/// How old the word of a process may be that somebody waits for: it says something every two seconds.
const FRESH_MS: u64 = 5_000;

/// When a process that was heard of counts as silent: as long as it takes to start one anew.
const SILENT_MS: u64 = 15_000;

/// How long is waited for one of a better rank to see the same: alerts of one cause are seconds apart, and a word is two seconds old.
const WAIT_MS: u64 = 6_000;

/// What a process may claim, and places that it may tell: more than it has of either.
const CLAIMS_MAX: usize = 64;

/// Processes that are remembered: more than there can be peers.
const OTHERS_MAX: usize = 128;

/// An open incident of a process, as the others need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What it is about.
    pub key: String,
    /// Its number there.
    pub no: u64,
    /// Whether that process tells people about it.
    pub speaks: bool,
}

/// What a process says of its incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Those that are open and that others may see too.
    pub open: Vec<Claim>,
    /// Whom it can tell, each as a hash: the addresses are secrets.
    pub channels: BTreeSet<String>,
}

/// This process.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub(super) node: String,
    pub(super) channels: BTreeSet<String>,
    /// Others are configured. Whoever has none need not wait to hear of them.
    pub(super) has_peers: bool,
    pub(super) begun_ms: UnixMs,
}

/// Another process that tells people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Speaker {
    pub(super) node: String,
    /// The number of the incident there.
    pub(super) no: u64,
    /// Whom it tells.
    #[serde(default)]
    pub(super) channels: BTreeSet<String>,
}

/// Who tells people about an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Voice {
    /// This process.
    Own,
    /// Nobody yet. `before`: who did until now.
    Waiting { until_ms: UnixMs, before: Option<Speaker> },
    /// Another process.
    Other(Speaker),
}

impl Voice {
    /// Of an incident that has just begun.
    pub(super) fn waiting(now_ms: UnixMs) -> Self {
        Self::Waiting { until_ms: now_ms.saturating_add(WAIT_MS), before: None }
    }
}

/// What was heard of the other processes.
#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<String, Heard>);

#[derive(Debug)]
struct Heard {
    at_ms: UnixMs,
    claims: Claims,
}

/// Smaller is better.
type Rank<'a> = (bool, &'a str);

fn rank<'a>(node: &'a str, channels: &BTreeSet<String>) -> Rank<'a> {
    (channels.is_empty(), node)
}

impl Others {
    /// A process has said this.
    pub(super) fn on_said(&mut self, node: &str, mut claims: Claims, now_ms: UnixMs) {
        claims.open.truncate(CLAIMS_MAX);
        claims.channels = claims.channels.into_iter().take(CLAIMS_MAX).collect();
        self.0.retain(|_, heard| now_ms.abs_diff(heard.at_ms) <= SILENT_MS);
        if self.0.len() < OTHERS_MAX || self.0.contains_key(node) {
            self.0.insert(node.to_owned(), Heard { at_ms: now_ms, claims });
        }
    }

    /// Who tells people about it from now on.
    pub(super) fn next(&self, voice: &Voice, key: &str, me: &Me, now_ms: UnixMs) -> Voice {
        let speaker = self.speaker(key, now_ms);
        let own = rank(&me.node, &me.channels);
        match voice {
            Voice::Own => match speaker {
                Some(other) if rank(&other.node, &other.channels) < own => Voice::Other(other),
                _ => Voice::Own,
            },
            Voice::Waiting { until_ms, before } => match speaker {
                Some(other) => Voice::Other(other),
                None if self.is_mine(key, me, *until_ms, now_ms) => Voice::Own,
                None => Voice::Waiting { until_ms: *until_ms, before: before.clone() },
            },
            Voice::Other(other) => match (speaker, self.word_of(other, key, me, now_ms)) {
                (Some(speaker), _) => Voice::Other(speaker),
                (None, Word::Speaks) => voice.clone(),
                // Perhaps it is over there, and will be here in a moment.
                (None, Word::Ended) => waiting_after(other, now_ms.saturating_add(WAIT_MS)),
                (None, Word::Silent) => waiting_after(other, now_ms),
            },
        }
    }

    /// The first by rank of those who speak.
    fn speaker(&self, key: &str, now_ms: UnixMs) -> Option<Speaker> {
        let speaking = self.fresh(now_ms).filter_map(|(node, claims)| {
            let claim = claims.open.iter().find(|claim| claim.key == key && claim.speaks)?;
            Some(Speaker { node: node.clone(), no: claim.no, channels: claims.channels.clone() })
        });
        speaking.min_by(|a, b| rank(&a.node, &a.channels).cmp(&rank(&b.node, &b.channels)))
    }

    /// Whether this process is to speak where nobody does.
    fn is_mine(&self, key: &str, me: &Me, until_ms: UnixMs, now_ms: UnixMs) -> bool {
        let better =
            |(node, claims): &(&String, &Claims)| rank(node, &claims.channels) < rank(&me.node, &me.channels);
        let sees = |(_, claims): &(&String, &Claims)| claims.open.iter().any(|claim| claim.key == key);
        // Right after the start nobody was heard of yet.
        let knows_all = !me.has_peers || now_ms >= me.begun_ms.saturating_add(WAIT_MS);
        if now_ms < until_ms && until_ms - now_ms <= WAIT_MS {
            return knows_all && !self.fresh(now_ms).any(|other| better(&other));
        }
        let is_first = !self.fresh(now_ms).any(|other| better(&other) && sees(&other));
        is_first || now_ms.abs_diff(until_ms) >= WAIT_MS
    }

    fn word_of(&self, other: &Speaker, key: &str, me: &Me, now_ms: UnixMs) -> Word {
        let heard = self.0.get(&other.node);
        // After a start it is given time to be heard.
        let last_ms = heard.map_or(me.begun_ms, |heard| heard.at_ms);
        let is_silent = now_ms.abs_diff(last_ms) > SILENT_MS;
        let speaks = heard.is_none_or(|heard| heard.claims.open.iter().any(|c| c.key == key && c.speaks));
        match (is_silent, speaks) {
            (true, _) => Word::Silent,
            (false, true) => Word::Speaks,
            (false, false) => Word::Ended,
        }
    }

    fn fresh(&self, now_ms: UnixMs) -> impl Iterator<Item = (&String, &Claims)> {
        // A clock may be set back: nobody is waited for until it is that late again.
        let fresh = self.0.iter().filter(move |(_, heard)| now_ms.abs_diff(heard.at_ms) <= FRESH_MS);
        fresh.map(|(node, heard)| (node, &heard.claims))
    }
}

/// What is known of a process that spoke.
enum Word {
    Speaks,
    Ended,
    Silent,
}

fn waiting_after(other: &Speaker, until_ms: UnixMs) -> Voice {
    Voice::Waiting { until_ms, before: Some(other.clone()) }
}

#[cfg(test)]
mod tests;
