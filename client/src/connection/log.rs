//! What the log is asked for: the room list after a gap between sessions, and pages of rooms that lack something.
//!
//! It never asks for more than the app takes.

use std::time::Instant;

use buslane_shared::id::RoomId;
use buslane_shared::limits::{BATCH_MESSAGES_DEFAULT, PAGE_MAX};
use buslane_shared::wire::{self, answer, request::Op};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::core::{Call, Road};
use crate::error::Error;
use crate::state::Happening;
use crate::types::{Event, Page, Role, Room};

use super::watch::{LATE, TICK};
use super::{Connection, Purpose};

/// An answer from the log.
pub(super) enum Fetched {
    Page(RoomId, Result<answer::Result, Error>),
    Rooms(Result<answer::Result, Error>),
}

/// How far the comparison of cursors with the room list is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listing {
    Done,
    /// The next page begins after this room.
    Next(Bytes),
    Asked,
}

impl Connection<'_> {
    /// Asks the log for what is missing, as far as the app takes it.
    pub(super) fn fetch(&mut self, now: Instant) {
        if now < self.fetch_after {
            return;
        }
        if let Listing::Next(after) = &self.listing {
            let op = Op::ListRooms(wire::ListRooms { after: after.clone(), limit: PAGE_MAX });
            self.listing = Listing::Asked;
            self.ask_log(op, Fetched::Rooms);
        }
        while self.core.events.is_ample()
            && let Some((room, after)) = self.inbox.next_ask(now)
        {
            let op = Op::Sync(wire::Sync { room: room.to_wire(), after, limit: BATCH_MESSAGES_DEFAULT });
            self.ask_log(op, move |answer| Fetched::Page(room, answer));
        }
    }

    fn ask_log(
        &mut self,
        op: Op,
        fetched: impl FnOnce(Result<answer::Result, Error>) -> Fetched + Send + 'static,
    ) {
        let (reply, wait) = oneshot::channel();
        let limit = self.core.options.request_timeout;
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let call = Call { id: self.core.id(), op, road: Road::Bulk, deadline_ms, reply };
        let refused = match &self.heal {
            Some(lane) => lane.put(call),
            None => Some(call),
        };
        if let Some(call) = refused {
            self.calls_flying += 1;
            self.ask_server(call.op.clone(), Purpose::Call(call));
        }
        self.fetches.push(Box::pin(async move {
            let answer = tokio::time::timeout(limit + LATE, wait).await;
            fetched(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(Error::Interrupted),
                Err(_) => Err(Error::Timeout { after: limit }),
            })
        }));
    }

    pub(super) fn on_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Page(room, Ok(answer::Result::Batch(batch))) => match Page::try_from(batch) {
                Ok(page) => {
                    let space = self.core.events.space();
                    self.inbox.on_page(room, page, space, Instant::now(), &mut self.scratch);
                    self.core.events.put_messages(&mut self.scratch);
                }
                Err(error) => self.on_room_unreadable(room, &error),
            },
            Fetched::Page(room, Err(error)) if error.retryable() => {
                tracing::debug!(%room, %error, "the log will be asked again");
                self.inbox.on_ask_failed(room);
                self.pause_fetches(&error);
            }
            Fetched::Page(room, Err(error)) => self.on_room_unreadable(room, &error),
            Fetched::Page(room, Ok(_)) => self.on_room_unreadable(room, &Error::protocol("not a batch")),
            Fetched::Rooms(Ok(answer::Result::Rooms(list))) => self.on_rooms(list),
            Fetched::Rooms(other) => {
                let error = other.err().unwrap_or_else(|| Error::protocol("not a room list"));
                tracing::debug!(%error, "the room list will be asked for again");
                self.listing = Listing::Next(Bytes::new());
                self.pause_fetches(&error);
            }
        }
    }

    /// A log that could not be read is left alone for a moment, or for as long as the server says.
    fn pause_fetches(&mut self, error: &Error) {
        self.fetch_after = Instant::now() + error.retry_after().unwrap_or(TICK);
    }

    fn on_room_unreadable(&mut self, room: RoomId, error: &Error) {
        tracing::debug!(%room, %error, "the room is not readable");
        self.inbox.on_shut_out(room);
    }

    fn on_rooms(&mut self, list: wire::RoomList) {
        let last = list.rooms.last().map(|r| r.room.clone());
        for info in list.rooms {
            match Room::try_from(info) {
                Ok(room) if room.role == Role::Invited => {}
                Ok(room) => {
                    if let Some(cursor) = self.inbox.on_head(room.id, room.head) {
                        self.core.store.keep_cursor(room.id, cursor);
                    }
                }
                Err(error) => tracing::warn!(%error, "a room of the list was skipped"),
            }
        }
        self.listing = match last {
            Some(last) if list.more => Listing::Next(last),
            _ => {
                if self.inbox.on_rooms_listed() {
                    self.core.store.keep_seen_rooms();
                }
                Listing::Done
            }
        };
    }

    pub(super) fn judge_caught_up(&mut self) {
        let caught_up = self.listing == Listing::Done && self.inbox.is_caught_up() && !self.replaying;
        self.core.caught_up.send_if_modified(|known| std::mem::replace(known, caught_up) != caught_up);
        if caught_up && std::mem::take(&mut self.resyncing) {
            self.core.happen(Happening::CaughtUp);
            self.core.events.put_news(Event::CaughtUp);
        }
    }
}
