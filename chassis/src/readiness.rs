//! Named facts that together say whether this process can serve.
//!
//! Why it exists: `/readyz` must say *what* is missing, and every part knows only its own fact. A check that nobody has
//! set counts as not ready: unknown is never green. It must never look at peers by itself: it only holds what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// All checks of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<BTreeMap<&'static str, Verdict>>>,
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Ready,
    /// It does not, and why.
    NotReady(String),
}

/// The handle of one check.
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    all: Readiness,
}

impl Readiness {
    /// Without checks; ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// The check of this name; it is not ready until it is set.
    pub fn check(&self, name: &'static str) -> Check {
        self.checks.lock().entry(name).or_insert_with(|| Verdict::NotReady("starting".to_owned()));
        Check { name, all: self.clone() }
    }

    /// Every check by name.
    pub fn verdicts(&self) -> BTreeMap<&'static str, Verdict> {
        self.checks.lock().clone()
    }

    /// Whether every check is ready.
    pub fn is_ready(&self) -> bool {
        self.checks.lock().values().all(|v| *v == Verdict::Ready)
    }
}

impl Check {
    /// Says what holds now.
    pub fn set(&self, verdict: Verdict) {
        self.all.checks.lock().insert(self.name, verdict);
    }

    /// It works now.
    pub fn ready(&self) {
        self.set(Verdict::Ready);
    }

    /// It does not work now; `why` is shown to the operator.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Verdict::NotReady(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_nobody_has_set_is_not_ready() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let store = readiness.check("store");
        let link = readiness.check("link");
        assert!(!readiness.is_ready());
        store.ready();
        assert!(!readiness.is_ready());
        link.ready();
        assert!(readiness.is_ready());
        store.not_ready("the disk is full");
        assert!(!readiness.is_ready());
        assert_eq!(
            readiness.verdicts().get("store"),
            Some(&Verdict::NotReady("the disk is full".to_owned()))
        );
    }
}
