//! An event as each of its recipients gets it.
//!
//! Why it exists: an event is encoded once, by the backend, and its bytes are shared by all who receive it. The one thing
//! that differs is whether a user wants to be notified, so there are at most two forms, each made when it is first needed.

use buslane_shared::wire::{self, event::Kind};
use bytes::Bytes;
use prost::{DecodeError, Message};

/// The forms of one event.
pub(crate) struct Forms {
    given: Bytes,
    /// Of a delivery: the form given says whether to notify.
    notify: Option<bool>,
    other: Option<Bytes>,
}

impl Forms {
    /// Takes over an encoded event; an error means that the versions do not fit.
    pub(crate) fn new(event: &Bytes) -> Result<Self, DecodeError> {
        let notify = match wire::Event::decode(event.clone())?.kind {
            Some(Kind::Delivery(delivery)) => Some(delivery.notify),
            _ => None,
        };
        // A copy of its own, so that a mailbox does not keep the whole frame with which the event came.
        Ok(Self { given: Bytes::copy_from_slice(event), notify, other: None })
    }

    /// The event for a user who wants to be notified, or not.
    pub(crate) fn of(&mut self, notify: bool) -> Result<Bytes, DecodeError> {
        if self.notify.is_none_or(|given| given == notify) {
            return Ok(self.given.clone());
        }
        if let Some(other) = &self.other {
            return Ok(other.clone());
        }
        let mut event = wire::Event::decode(self.given.clone())?;
        if let Some(Kind::Delivery(delivery)) = &mut event.kind {
            delivery.notify = notify;
        }
        let other = Bytes::from(event.encode_to_vec());
        self.other = Some(other.clone());
        Ok(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(notify: bool) -> Bytes {
        let message = Some(wire::Message { seq: 5, sender: "bob".into(), ..Default::default() });
        let kind = Some(Kind::Delivery(wire::Delivery { message, notify }));
        wire::Event { no: 0, kind }.encode_to_vec().into()
    }

    #[test]
    fn each_recipient_gets_what_he_wants_whatever_was_given() {
        for given in [true, false] {
            let mut forms = Forms::new(&delivery(given)).unwrap();
            for wanted in [false, true, false, true] {
                assert_eq!(forms.of(wanted).unwrap(), delivery(wanted));
            }
        }
    }

    #[test]
    fn other_events_have_one_form() {
        let kind = Some(Kind::Room(wire::RoomChanged::default()));
        let event = Bytes::from(wire::Event { no: 0, kind }.encode_to_vec());
        let mut forms = Forms::new(&event).unwrap();
        assert_eq!(forms.of(true).unwrap(), event);
        assert_eq!(forms.of(false).unwrap(), event);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Forms::new(&Bytes::from_static(&[0xff; 5])).is_err());
    }
}
