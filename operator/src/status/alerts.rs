//! The catalogue of what can be wrong: its key, how long it must hold, whom it calls, and the section of docs/operations.md that
//! says what to do.
//!
//! Why it exists: an alert that nobody can act on teaches people to look away. So each is one cause, has one remedy that is
//! written down, and none is about a trend alone. It must never hold a threshold that is also decided on elsewhere.

/// One thing that can be wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Service and symptom: the alert's key.
    pub key: &'static str,
    /// Heading in docs/operations.md that says what to do.
    pub runbook: &'static str,
    /// Whether people are called.
    pub pages: bool,
    /// Seconds for which it must be seen before it is told.
    pub hold_s: u32,
    /// Seconds for which it must be gone before it is called over; doubled each time it comes back soon.
    pub clear_s: u32,
}

/// The store takes no writes.
pub const STORE_DOWN: Rule = rule("store/down", "#the-store-does-not-answer", true).holding(2).clearing(10);

/// The backend does not answer.
pub const BACKEND_DOWN: Rule =
    rule("backend/down", "#the-backend-does-not-answer", true).holding(3).clearing(10);

/// Gateways do not answer.
pub const GATEWAYS_DOWN: Rule =
    rule("gateways/down", "#a-gateway-does-not-answer", true).holding(2).clearing(10);

/// Session managers do not answer.
pub const MANAGERS_DOWN: Rule =
    rule("session-managers/down", "#a-session-manager-does-not-answer", true).holding(2).clearing(10);

/// Processes that are configured as peers have never answered.
pub const PEERS_SILENT: Rule =
    rule("peers/silent", "#a-peer-has-never-answered", false).holding(2).clearing(10);

/// A client from outside does not get through, and nothing else is wrong that would explain it.
pub const PROBE_FAILING: Rule =
    rule("probe/failing", "#the-probe-fails", true).holding(PROBE_HOLD_S).clearing(1);

/// EMERGENCY is measured.
pub const EMERGENCY: Rule =
    rule("session-managers/emergency", "#emergency-holds", true).holding(3).clearing(10);

/// GUARD is measured, for long.
pub const GUARD: Rule = rule("session-managers/guard", "#guard-holds", false).holding(60).clearing(30);

/// Foreground is refused.
pub const REFUSED: Rule = rule("foreground/refused", "#foreground-is-refused", true).holding(1).clearing(30);

/// Talk is slow.
pub const SLOW: Rule = rule("talk/slow", "#talk-is-slow", true).holding(1).clearing(30);

/// Background does not get its floor.
pub const STARVED: Rule = rule("background/starved", "#background-starves", false).holding(1).clearing(30);

/// Clocks of nodes differ.
pub const CLOCK: Rule = rule("clock/skew", "#clocks-differ", false).holding(10).clearing(10);

/// A certificate ends soon, or has ended.
pub const CERTIFICATE: Rule =
    rule("certificates/ending", "#a-certificate-ends-soon", true).holding(1).clearing(1);

/// The record of operators' actions is not what was written.
pub const AUDIT: Rule = rule("audit/damaged", "#the-audit-is-damaged", false).holding(1).clearing(1);

/// Descriptors run out.
pub const DESCRIPTORS: Rule =
    rule("process/descriptors", "#descriptors-run-out", true).holding(10).clearing(30);

/// Memory runs out.
pub const MEMORY: Rule = rule("process/memory", "#memory-runs-out", true).holding(10).clearing(30);

/// Far more or fewer logins than usual.
pub const LOGINS: Rule = rule("logins/unusual", "#logins-are-unusual", false).holding(30).clearing(60);

/// Far more or fewer messages than usual.
pub const MESSAGES: Rule = rule("messages/unusual", "#messages-are-unusual", false).holding(30).clearing(60);

/// Two failed probes in a row, at the pace at which failed ones are repeated: one lost packet calls nobody.
const PROBE_HOLD_S: u32 = 12;

/// All of them.
pub const ALL: [&Rule; 18] = [
    &STORE_DOWN,
    &BACKEND_DOWN,
    &GATEWAYS_DOWN,
    &MANAGERS_DOWN,
    &PEERS_SILENT,
    &PROBE_FAILING,
    &EMERGENCY,
    &GUARD,
    &REFUSED,
    &SLOW,
    &STARVED,
    &CLOCK,
    &CERTIFICATE,
    &AUDIT,
    &DESCRIPTORS,
    &MEMORY,
    &LOGINS,
    &MESSAGES,
];

const fn rule(key: &'static str, runbook: &'static str, pages: bool) -> Rule {
    Rule { key, runbook, pages, hold_s: 1, clear_s: 1 }
}

impl Rule {
    const fn holding(self, hold_s: u32) -> Self {
        Self { hold_s, ..self }
    }

    const fn clearing(self, clear_s: u32) -> Self {
        Self { clear_s, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_and_remedies_are_unique_and_trends_call_nobody() {
        let keys: HashSet<_> = ALL.iter().map(|rule| rule.key).collect();
        let runbooks: HashSet<_> = ALL.iter().map(|rule| rule.runbook).collect();
        assert_eq!((keys.len(), runbooks.len()), (ALL.len(), ALL.len()));
        for rule in ALL {
            assert!(rule.hold_s >= 1 && rule.clear_s >= 1, "{}", rule.key);
            assert!(!rule.pages || !rule.key.ends_with("/unusual"), "{}", rule.key);
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(rule.runbook.strip_prefix('#').is_some_and(|a| a.chars().all(plain)), "{}", rule.runbook);
        }
    }
}
