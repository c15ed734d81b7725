//! What tests of incidents need: alerts and happenings.

use buslane_shared::UnixMs;

use crate::happening::{Happening, What};
use crate::view::{Alert, Severity};

/// An alert that pages.
pub(crate) fn alert(key: &str, severity: Severity) -> Alert {
    Alert {
        key: key.to_owned(),
        severity,
        title: format!("{key} is wrong."),
        why: "3 of 5 failed".to_owned(),
        since_ms: 1,
        affects: vec!["gateway".to_owned()],
        runbook: "#the-runbook".to_owned(),
        pages: true,
    }
}

/// It happened on sm1.
pub(crate) fn happened(at_ms: UnixMs, what: What) -> Happening {
    Happening { at_ms, node: "sm1".to_owned(), what }
}

/// A mark by jo.
pub(crate) fn mark(kind: &str, text: &str) -> What {
    What::Mark { mark: kind.to_owned(), text: text.to_owned(), author: "jo".to_owned() }
}
