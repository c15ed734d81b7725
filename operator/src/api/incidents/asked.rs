//! What is asked of an incident: the bodies of requests. What a person may leave out is empty, and is looked at where it is used.

use serde::Deserialize;

use crate::view::{IncidentState, Severity};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    pub(super) state: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Opening {
    pub(super) title: String,
    pub(super) severity: Severity,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) author: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledging {
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) author: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Silencing {
    pub(super) duration_ms: u64,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) author: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Noting {
    pub(super) text: String,
    #[serde(default)]
    pub(super) author: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moving {
    pub(super) state: IncidentState,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) author: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grading {
    pub(super) severity: Severity,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) author: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Testing {
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) author: String,
}
