//! What is durable goes out: to everybody who was a member when the message got its place, with each one's own notification
//! settings, encoded once. It is only called by the pump of a room, so a room's deliveries are in its order.

use buslane_chassis::trace::{Context, Kind, Span};
use buslane_shared::id::UserId;
use buslane_shared::notify;
use buslane_shared::wire::{self, event::Kind as Event};
use bytes::Bytes;
use prost::Message as _;

use crate::core::Core;
use crate::registry::Recipient;
use crate::room::{Pending, Room};

impl Core {
    /// Hands a durable message to everybody who was a member when it got its place.
    pub(crate) fn publish(&self, room: &Room, pending: Pending) {
        let Pending { message, audience, roles, .. } = pending;
        for (user, role) in roles {
            self.publish_role(room, &user, role);
        }
        let mut span = Span::child(message.parent, "deliver", Kind::Producer);
        let traced = span.context();
        span.note("buslane.members", audience.len() as u64);
        let now_ms = self.now_ms();
        let (sender, mentions) = (message.header.sender.clone(), message.mentions.clone());
        // The device that sent a message has it, and its place with the receipt. A change of members has no receipt.
        let device = message.event.is_none().then_some(message.device);
        let recipients = audience.iter().map(|(user, settings)| {
            let own = *user == sender;
            let settings = settings.unwrap_or_default();
            let mentioned = mentions.binary_search(user).is_ok();
            let notify = !own && notify::wants(&settings, mentioned, now_ms);
            Recipient { user, except: device.filter(|_| own), notify }
        });
        let delivery =
            || event(Event::Delivery(wire::Delivery { message: Some(message.into_wire()), notify: false }));
        self.registry.deliver(recipients, traced, delivery);
    }

    /// Tells a user that his relation to a room has changed.
    pub(crate) fn publish_role(&self, room: &Room, user: &UserId, role: wire::Role) {
        let changed = wire::RoomChanged { room: room.id.to_wire(), role: role.into() };
        self.registry.deliver([Recipient { user, except: None, notify: false }], Context::NONE, || {
            event(Event::Room(changed))
        });
    }
}

/// An event, encoded once for everybody.
pub(crate) fn event(kind: Event) -> Bytes {
    wire::Event { no: 0, kind: Some(kind) }.encode_to_vec().into()
}
