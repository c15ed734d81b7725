//! What the server says by itself: deliveries, cursors, rooms, and that it goes away.
//!
//! Events are numbered; one that was taken over already is nothing new.

use std::time::{Duration, Instant};

use buslane_shared::id::RoomId;
use buslane_shared::wire::{self, event};
use bytes::Bytes;

use crate::conditions::Conditions;
use crate::error::{Error, millis};
use crate::session::refused_by;
use crate::types::{Event, Message, Role, id};

use super::Connection;
use super::end::End;
use super::log::Listing;

impl Connection<'_> {
    pub(super) fn on_event(&mut self, event: wire::Event) -> Result<(), Error> {
        if event.no <= self.seen {
            return Ok(());
        }
        self.seen = event.no;
        match event.kind {
            Some(event::Kind::Delivery(delivery)) => {
                if let Some(message) = delivery.message {
                    let message = Message { notify: delivery.notify, ..Message::try_from(message)? };
                    let space = self.core.events.space();
                    self.inbox.on_message(message, space, Instant::now(), &mut self.scratch);
                    self.core.events.put_messages(&mut self.scratch);
                }
            }
            Some(event::Kind::Cursor(moved)) => self.on_cursor(moved)?,
            Some(event::Kind::Room(changed)) => {
                let role = changed.role();
                self.core.events.put_news(Event::RoomChanged {
                    room: id(RoomId::try_from(&changed.room))?,
                    role: (role != Role::Unspecified).then_some(role),
                });
            }
            Some(event::Kind::Behind(_)) => {
                tracing::info!("the server dropped events; comparing with the room list");
                self.listing = Listing::Next(Bytes::new());
                self.resyncing = true;
            }
            Some(event::Kind::Posture(changed)) => {
                let posture = changed.posture();
                self.on_conditions(match changed.advice {
                    Some(advice) => Conditions::of(advice),
                    None => Conditions::plain(posture, changed.ping_interval_ms),
                });
            }
            None => {}
        }
        Ok(())
    }

    fn on_cursor(&mut self, moved: wire::CursorMoved) -> Result<(), Error> {
        let room = id(RoomId::try_from(&moved.room))?;
        let user = id(moved.user.parse())?;
        if user != self.core.options.user {
            let news = self.core.sent.lock().on_cursor(room, moved.delivered, moved.read);
            for (client_id, state) in news {
                self.core.on_send_state(client_id, room, state);
            }
        }
        let (delivered, read) = (moved.delivered, moved.read);
        self.core.events.put_news(Event::Cursor { room, user, delivered, read });
        Ok(())
    }

    pub(super) fn on_go_away(&mut self, go_away: &wire::GoAway) -> Result<(), End> {
        let end = End {
            cause: refused_by(go_away).into(),
            retry_after: millis(go_away.retry_after_ms),
            for_good: !go_away.reconnect,
        };
        if go_away.within_ms == 0 || !go_away.reconnect {
            return Err(end);
        }
        // What is on its way is finished; nothing new is begun.
        let until = Instant::now() + Duration::from_millis(u64::from(go_away.within_ms));
        self.leaving = Some((until, end));
        Ok(())
    }
}
