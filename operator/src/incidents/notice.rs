//! What is worth telling people about an incident.

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
}
