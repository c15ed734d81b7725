//! What is worth telling people about an incident.

use std::collections::BTreeSet;

use buslane_shared::UnixMs;

use crate::view::{Entry, IncidentView};

/// Why people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It was opened.
    Opened,
    /// It got worse, or takes longer than expected.
    Escalated,
    /// It is over, and then it is not.
    Reopened,
    /// It is over.
    Resolved,
    /// A silence is over, and it is not.
    Goes,
    /// Another process tells people about it from now on.
    Joined,
    /// A person wants to hear nothing of it for a while: what was not brought yet is not brought.
    Silenced,
    /// Nothing new: it is open since before this process started. Only for those who forget what is not repeated.
    Known,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Why.
    pub occasion: Occasion,
    /// When.
    pub at_ms: UnixMs,
    /// What about, without the timeline.
    pub incident: IncidentView,
    /// Whether a person has asked for silence.
    pub is_silenced: bool,
    /// Deploys and changed settings of the last day, oldest first.
    pub changes: Vec<Entry>,
    /// Who is told.
    pub audience: Audience,
}

/// Who is told. Addresses are known by their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    All,
    /// Those whom no other process tells.
    AllBut(BTreeSet<String>),
    /// Those whom another process tells from now on.
    Only(BTreeSet<String>),
}

impl Audience {
    /// Whether it has that address in it.
    pub fn has(&self, channel: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(others) => !others.contains(channel),
            Self::Only(those) => those.contains(channel),
        }
    }
}
