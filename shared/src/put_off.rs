//! What a server says to whoever it turns away before any handshake: the reason phrase of a QUIC close in its first packet.
//!
//! `busy retry_after_ms=1500 slot=<40 hex digits>`, or without the slot. Nobody has proved anything at that moment, neither the client nor
//! the server, so it can do no more than delay: a client bounds what it believes.

use std::fmt;

use crate::UnixMs;
use crate::class::Class;
use crate::mark::{MARK_BYTES, MarkBytes};
use crate::overload::level::BACKGROUND;
use crate::refusal::{Busy, Refusal};
use crate::wire;

/// Nobody is told, and nobody believes, to come back later than this: an hour is the furthest horizon of slots.
pub const RETRY_AFTER_MS_MAX: u32 = 3_600_000;

/// Longest reason phrase of this kind.
pub const REASON_BYTES_MAX: usize = 80;

/// Come back later.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PutOff {
    /// Milliseconds from now, never 0.
    pub retry_after_ms: u32,
    /// The right to be let in then.
    pub slot: Option<MarkBytes>,
}

impl PutOff {
    /// Reads a reason phrase. `None`: it is something else.
    pub fn parse(reason: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(reason.get(..REASON_BYTES_MAX).unwrap_or(reason)).ok()?;
        let mut words = text.split(' ');
        if words.next() != Some("busy") {
            return None;
        }
        let retry_after_ms: u32 = words.next()?.strip_prefix("retry_after_ms=")?.parse().ok()?;
        // What later versions add behind is ignored.
        let slot = words.next().and_then(|word| word.strip_prefix("slot=")).map(|hex| {
            let mut slot = [0; MARK_BYTES];
            hex::decode_to_slice(hex, &mut slot).map(|()| slot)
        });
        Some(Self {
            retry_after_ms: retry_after_ms.clamp(1, RETRY_AFTER_MS_MAX),
            slot: slot.transpose().ok()?,
        })
    }

    /// The time to come back at, for one who hears it now.
    pub fn at_ms(&self, now_ms: UnixMs) -> UnixMs {
        now_ms.saturating_add(self.retry_after_ms.into())
    }
}

/// The reason phrase.
impl fmt::Display for PutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "busy retry_after_ms={}", self.retry_after_ms)?;
        let Some(slot) = &self.slot else { return Ok(()) };
        f.write_str(" slot=")?;
        slot.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A slot serves whoever has it, so it is not shown.
impl fmt::Debug for PutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_slot = self.slot.is_some();
        f.debug_struct("PutOff")
            .field("retry_after_ms", &self.retry_after_ms)
            .field("has_slot", &has_slot)
            .finish()
    }
}

/// The same refusal as if it had been said in a session.
impl From<PutOff> for Refusal {
    fn from(put_off: PutOff) -> Self {
        let slot = put_off.slot.map(|slot| slot.to_vec().into()).unwrap_or_default();
        // Not said; whoever is let in hears it.
        let posture = wire::Posture::default();
        Self::busy(Busy { class: Class::Wake, level: BACKGROUND, posture, slot }, put_off.retry_after_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_said_in_this_way_is_something_else() {
        for reason in ["", "busy", "busy ", "busy retry_after_ms=", "busy retry_after_ms=x", "draining"] {
            assert_eq!(PutOff::parse(reason.as_bytes()), None, "{reason}");
        }
        assert_eq!(PutOff::parse(b"busy retry_after_ms=5 slot=00"), None);
        assert_eq!(PutOff::parse(b"\xff"), None);
    }

    #[test]
    fn nobody_is_sent_away_for_longer_than_an_hour() {
        let parse = |reason: &str| PutOff::parse(reason.as_bytes()).unwrap().retry_after_ms;
        assert_eq!(parse("busy retry_after_ms=4294967295"), RETRY_AFTER_MS_MAX);
        assert_eq!(parse("busy retry_after_ms=0"), 1);
        assert_eq!(parse("busy retry_after_ms=7 later=more"), 7);
    }

    proptest! {
        #[test]
        fn what_is_said_is_understood(
            retry_after_ms in 1..=RETRY_AFTER_MS_MAX, slot: Option<[u8; MARK_BYTES]>,
        ) {
            let said = PutOff { retry_after_ms, slot };
            let reason = said.to_string();
            prop_assert!(reason.len() <= REASON_BYTES_MAX);
            prop_assert_eq!(PutOff::parse(reason.as_bytes()), Some(said));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(reason in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = PutOff::parse(&reason);
        }
    }
}
