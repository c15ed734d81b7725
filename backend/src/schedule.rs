//! When token keys are made and when they go: a pure decision.
//!
//! Tickets, resume tokens and credentials are sealed under one ring of keys. A new key is announced some time before it
//! seals, so that every node has it by then; it opens for as long as anything that it sealed may live. It must never leave
//! a moment in which no key seals.

use buslane_shared::UnixMs;

/// How long before its use a key is announced: longer than any node needs to reconnect, and more than clocks differ.
pub(crate) const LEAD_MS: u64 = 10 * 60 * 1000;

/// How much longer a key opens than the longest token lives: clocks differ.
const SLACK_MS: u64 = 24 * 3600 * 1000;

/// Who a key is and when it is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyTimes {
    pub(crate) id: u32,
    pub(crate) not_before_ms: UnixMs,
    pub(crate) expires_ms: UnixMs,
}

/// How often keys are replaced and how long tokens live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) rotate_ms: u64,
    pub(crate) token_life_ms: u64,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The key to make.
    pub(crate) make: Option<KeyTimes>,
    /// Keys that nothing alive was sealed with.
    pub(crate) retire: Vec<u32>,
    /// When to ask again.
    pub(crate) next_ms: UnixMs,
}

impl Schedule {
    /// What to do about these keys at `now`.
    pub(crate) fn plan(&self, keys: &[KeyTimes], now_ms: UnixMs) -> Plan {
        let retire = keys.iter().filter(|k| k.expires_ms <= now_ms).map(|k| k.id).collect();
        // A key seals only what it will also open: after a long standstill the newest one may be too old for that.
        let seals = |k: &&KeyTimes| {
            k.not_before_ms <= now_ms && now_ms + LEAD_MS + self.token_life_ms <= k.expires_ms
        };
        let seals_now = keys.iter().any(|k| seals(&k));
        let newest = keys.iter().map(|k| k.not_before_ms).max();
        let not_before_ms = match newest {
            // Dated back, so that a node whose clock is behind seals as well.
            _ if !seals_now => Some(now_ms.saturating_sub(LEAD_MS)),
            Some(newest) if newest + self.rotate_ms <= now_ms + LEAD_MS => Some(now_ms + LEAD_MS),
            _ => None,
        };
        let id = keys.iter().map(|k| k.id).max().unwrap_or(0).wrapping_add(1);
        let make = not_before_ms.map(|not_before_ms| {
            let expires_ms = not_before_ms + self.rotate_ms + LEAD_MS + self.token_life_ms + SLACK_MS;
            KeyTimes { id, not_before_ms, expires_ms }
        });
        let newest_ms = make.map(|k| k.not_before_ms).or(newest).unwrap_or(now_ms);
        Plan { make, retire, next_ms: (newest_ms + self.rotate_ms).saturating_sub(LEAD_MS).max(now_ms + 1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;
    const DAILY: Schedule = Schedule { rotate_ms: DAY, token_life_ms: 30 * DAY };

    #[test]
    fn the_first_key_seals_at_once() {
        let plan = DAILY.plan(&[], 100 * DAY);
        let key = plan.make.unwrap();
        assert!(key.not_before_ms < 100 * DAY);
        assert_eq!(key.id, 1);
    }

    #[test]
    fn the_next_key_is_announced_before_it_seals() {
        let now = 100 * DAY;
        let first = DAILY.plan(&[], now).make.unwrap();
        assert_eq!(DAILY.plan(&[first], now + HOUR).make, None);
        let next = DAILY.plan(&[first], now + DAY).make.unwrap();
        assert_eq!(next.not_before_ms, now + DAY + LEAD_MS);
        assert_eq!(next.id, 2);
    }

    proptest! {
        /// Whenever the loop is late, stopped for days or punctual: something always seals, whatever was sealed opens for
        /// its whole life, and the ring stays small.
        #[test]
        fn always_a_key_and_every_token_opens(pauses in proptest::collection::vec(0u64..(40 * DAY), 1..60), rotate_h in 1u64..720) {
            let schedule = Schedule { rotate_ms: rotate_h * HOUR, token_life_ms: 30 * DAY };
            let mut now = 1_000 * DAY;
            let mut keys: Vec<KeyTimes> = vec![];
            let mut due = now;
            for pause in pauses {
                // The loop asks when it said it would, or later when the process did not run.
                now = if pause % 3 == 0 { now.max(due) + pause } else { now.max(due) };
                let plan = schedule.plan(&keys, now);
                keys.retain(|k| !plan.retire.contains(&k.id));
                keys.extend(plan.make);
                due = plan.next_ms;
                prop_assert!(due > now);
                for at in [now, due] {
                    let sealing = keys.iter().filter(|k| k.not_before_ms <= at).max_by_key(|k| k.not_before_ms);
                    let sealing = sealing.filter(|k| k.expires_ms >= at + schedule.token_life_ms);
                    prop_assert!(sealing.is_some(), "nothing that seals at {at} outlives its tokens: {keys:?}");
                }
                let ids: std::collections::BTreeSet<u32> = keys.iter().map(|k| k.id).collect();
                prop_assert_eq!(ids.len(), keys.len());
                prop_assert!(keys.len() as u64 <= 34 * DAY / schedule.rotate_ms + 4);
            }
        }
    }
}
