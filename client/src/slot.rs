//! The slot of a refusal: the server's word that there is a place at a time. Pure; `now` is an argument.
//!
//! Whoever returns in time goes ahead of those without a slot and is not put off again. It must never be shown early: it is used
//! once, and the wait would begin anew.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Refused;

/// A client that comes later than this after its time counts as one without a slot; the default of the servers.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A slot in hand.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    mark: Bytes,
    at: Instant,
}

/// A slot serves whoever has it, so it is not shown.
impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Slot {
    /// The slot of a refusal that came at `now`.
    pub fn of(refused: &Refused, now: Instant) -> Option<Self> {
        let busy = refused.busy.as_deref().filter(|busy| busy.has_slot())?;
        Some(Self { mark: busy.slot.clone(), at: now + refused.retry_after? })
    }

    /// The mark to show, if its time is now.
    pub fn due(&self, now: Instant) -> Option<Bytes> {
        (self.at <= now && now <= self.at + TOLERANCE).then(|| self.mark.clone())
    }

    /// Whether it is worth nothing any more.
    pub fn is_over(&self, now: Instant) -> bool {
        now > self.at + TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::refusal::Code;
    use buslane_shared::wire;

    fn refused(slot: &'static [u8], retry_after_ms: u32) -> Refused {
        let code = Code::Busy.into();
        wire::Refusal { code, retry_after_ms, slot: Bytes::from_static(slot), ..Default::default() }.into()
    }

    #[test]
    fn a_slot_is_shown_in_its_time_and_not_before() {
        let now = Instant::now();
        let slot = Slot::of(&refused(&[7; 20], 5_000), now).unwrap();
        let at = now + Duration::from_secs(5);
        assert_eq!(slot.due(at - Duration::from_millis(1)), None);
        assert_eq!(slot.due(at), Some(Bytes::from_static(&[7; 20])));
        assert!(slot.due(at + TOLERANCE).is_some() && !slot.is_over(at + TOLERANCE));
        let late = at + TOLERANCE + Duration::from_millis(1);
        assert!(slot.due(late).is_none() && slot.is_over(late));
    }

    #[test]
    fn a_refusal_without_a_slot_or_a_time_has_none() {
        let now = Instant::now();
        assert_eq!(Slot::of(&refused(b"", 5_000), now), None);
        assert_eq!(Slot::of(&refused(&[7; 20], 0), now), None);
        assert_eq!(Slot::of(&Refused::of(Code::Draining), now), None);
    }
}
