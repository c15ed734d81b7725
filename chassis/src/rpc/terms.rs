//! What travels beside a request: how much time is left, how important it is, and the trace id.
//!
//! Why it exists: a callee that knows the deadline starts no work that nobody waits for, and one that knows the class can
//! prefer the right work. Time is sent as what is left, never as a point in time: clocks of machines differ.

use std::time::Duration;

use buslane_shared::class::Class;
use buslane_shared::id::IdError;
use buslane_shared::limits::{DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX};
use buslane_shared::wire;
use bytes::Bytes;
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::api::Call;
use crate::trace::Context;

const DEADLINE: &str = "buslane-deadline-ms";

/// A relayed request as it goes over the network at `now`.
pub(super) fn to_wire(call: &Call, request: wire::Request, now: Instant) -> wire::RelayRequest {
    wire::RelayRequest {
        user: call.user.to_string(),
        device: call.device.to_wire(),
        session: call.session.to_wire(),
        request: Some(request),
        deadline_ms: left_ms(call.deadline, now),
        class: call.class as u32,
        trace: Bytes::copy_from_slice(&call.trace.to_be_bytes()),
        span: call.parent.span_wire(),
    }
}

/// A relayed request as it was received at `now`. Terms that are missing or make no sense read as the least: the default
/// deadline, the last class, no trace.
pub(super) fn from_wire(relay: wire::RelayRequest, now: Instant) -> Result<(Call, wire::Request), IdError> {
    let call = Call {
        user: relay.user.parse()?,
        device: (&relay.device).try_into()?,
        session: (&relay.session).try_into()?,
        class: class(relay.class),
        deadline: now + Duration::from_millis(u64::from(relay.deadline_ms.min(DEADLINE_MS_MAX))),
        trace: relay.trace.as_ref().try_into().map(u128::from_be_bytes).unwrap_or(0),
        parent: Context::of_wire(&relay.trace, relay.span),
    };
    Ok((call, relay.request.unwrap_or_default()))
}

/// Writes the deadline of a call with one answer.
pub(super) fn write_deadline(deadline: Instant, to: &mut MetadataMap, now: Instant) {
    to.insert(DEADLINE, MetadataValue::from(left_ms(deadline, now)));
}

/// Reads the deadline of a call with one answer.
pub(super) fn read_deadline(from: &MetadataMap, now: Instant) -> Instant {
    let left_ms = from.get(DEADLINE).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    now + Duration::from_millis(u64::from(left_ms.unwrap_or(DEADLINE_MS_DEFAULT).min(DEADLINE_MS_MAX)))
}

fn left_ms(deadline: Instant, now: Instant) -> u32 {
    u32::try_from(deadline.saturating_duration_since(now).as_millis()).unwrap_or(u32::MAX)
}

fn class(number: u32) -> Class {
    const BY_NUMBER: [Class; 8] = [
        Class::Control,
        Class::Talk,
        Class::Look,
        Class::Bulk,
        Class::Social,
        Class::Wake,
        Class::Pulse,
        Class::Spare,
    ];
    usize::try_from(number).ok().and_then(|n| BY_NUMBER.get(n).copied()).unwrap_or(Class::Spare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{call, send};

    #[tokio::test(start_paused = true)]
    async fn terms_travel_as_time_left() {
        let sent_at = Instant::now();
        let sent = Call { class: Class::Social, ..call(Duration::from_millis(1500)) };
        let relayed = to_wire(&sent, send(4), sent_at);
        let received_at = sent_at + Duration::from_secs(9);
        let (received, request) = from_wire(relayed, received_at).unwrap();
        assert_eq!(request, send(4));
        assert_eq!(received.deadline, received_at + Duration::from_millis(1500));
        assert_eq!((received.class, received.trace), (Class::Social, sent.trace));
        assert_eq!(
            (received.user, received.device, received.session),
            (sent.user, sent.device, sent.session)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_reads_as_the_least_or_is_refused() {
        let now = Instant::now();
        let good = to_wire(&call(Duration::from_secs(1)), send(1), now);
        let odd = wire::RelayRequest { deadline_ms: u32::MAX, class: 9, trace: Bytes::new(), ..good.clone() };
        let (read, _) = from_wire(odd, now).unwrap();
        assert_eq!(read.deadline, now + Duration::from_millis(u64::from(DEADLINE_MS_MAX)));
        assert_eq!((read.class, read.trace), (Class::Spare, 0));
        assert!(from_wire(wire::RelayRequest { user: "NOBODY".into(), ..good.clone() }, now).is_err());
        assert!(from_wire(wire::RelayRequest { device: Bytes::new(), ..good }, now).is_err());
    }

    #[test]
    fn every_class_keeps_its_number() {
        for number in 0..8 {
            assert_eq!(class(number) as u32, number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_in_metadata_is_capped_and_has_a_default() {
        let now = Instant::now();
        let mut map = MetadataMap::new();
        let default = now + Duration::from_millis(u64::from(DEADLINE_MS_DEFAULT));
        assert_eq!(read_deadline(&map, now), default);
        map.insert(DEADLINE, MetadataValue::from_static("soon"));
        assert_eq!(read_deadline(&map, now), default);
        write_deadline(now + Duration::from_secs(1_000_000), &mut map, now);
        assert_eq!(read_deadline(&map, now), now + Duration::from_millis(u64::from(DEADLINE_MS_MAX)));
        write_deadline(now + Duration::from_secs(2), &mut map, now);
        assert_eq!(read_deadline(&map, now), now + Duration::from_secs(2));
    }
}
