//! What the server tells, in types that an app can hold: checked ids instead of bytes, enums instead of numbers.
//!
//! A field that is not what the schema promises makes the whole thing an [`Error::Protocol`]: better no message than a wrong one.

use buslane_shared::UnixMs;
use buslane_shared::id::{ClientId, DeviceId, IdError, RoomId, UserId};
use buslane_shared::wire;
use bytes::Bytes;

pub use buslane_shared::wire::{NotifyMode, NotifySettings, Posture, Role, RoomKind, membership::Change};

use crate::conditions::Conditions;
use crate::error::Error;
use crate::outbox::SendState;

/// A message of a room, or a change of its members: one of its sequence 1, 2, 3, ...
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The conversation.
    pub room: RoomId,
    /// Its place there.
    pub seq: u64,
    /// Who sent it.
    pub sender: UserId,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// Unix milliseconds of the server.
    pub sent_at_ms: UnixMs,
    /// Users whose attention it asks for.
    pub mentions: Vec<String>,
    /// What it says.
    pub content: Content,
    /// Whether this user wants a notification, by the settings of the room. Always false for what was fetched from the log.
    pub notify: bool,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Opaque to the server; UTF-8 text by convention.
    Body(Bytes),
    /// Somebody came or went.
    Membership {
        /// What happened.
        change: Change,
        /// To whom.
        users: Vec<String>,
        /// The title, with [`Change::Created`].
        title: String,
    },
}

impl Message {
    /// The body as text, if it is a text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Body(body) => std::str::from_utf8(body).ok(),
            Content::Membership { .. } => None,
        }
    }

    /// What it weighs in a bounded queue.
    pub(crate) fn weight_bytes(&self) -> usize {
        let content = match &self.content {
            Content::Body(body) => body.len(),
            Content::Membership { users, title, .. } => {
                title.len() + users.iter().map(String::len).sum::<usize>()
            }
        };
        size_of::<Self>() + content + self.mentions.iter().map(String::len).sum::<usize>()
    }
}

impl TryFrom<wire::Message> for Message {
    type Error = Error;

    fn try_from(m: wire::Message) -> Result<Self, Error> {
        let content = match m.content {
            // Copied, because a slice would hold on to the whole network buffer for as long as the app keeps the message.
            Some(wire::message::Content::Body(body)) => Content::Body(Bytes::copy_from_slice(&body)),
            Some(wire::message::Content::Membership(change)) => {
                Content::Membership { change: change.change(), users: change.users, title: change.title }
            }
            None => Content::Body(Bytes::new()),
        };
        Ok(Self {
            room: id(RoomId::try_from(&m.room))?,
            seq: m.seq,
            sender: id(m.sender.parse())?,
            client_id: id(ClientId::try_from(&m.client_id))?,
            sent_at_ms: m.sent_at_ms,
            mentions: m.mentions,
            content,
            notify: false,
        })
    }
}

/// The server's word that a message is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The conversation.
    pub room: RoomId,
    /// The message's place there.
    pub seq: u64,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// Unix milliseconds of the server.
    pub sent_at_ms: UnixMs,
    /// An earlier try had arrived; place and time are those of it.
    pub duplicate: bool,
}

/// A page of a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages: ascending for a sync, descending for a history.
    pub messages: Vec<Message>,
    /// Last sequence of the room.
    pub head: u64,
    /// Lowest sequence that this user may read and that is still kept.
    pub first: u64,
    /// There is more behind this page.
    pub more: bool,
}

impl TryFrom<wire::Batch> for Page {
    type Error = Error;

    fn try_from(b: wire::Batch) -> Result<Self, Error> {
        let messages = b.messages.into_iter().map(Message::try_from).collect::<Result<_, _>>()?;
        Ok(Self { messages, head: b.head, first: b.first, more: b.more })
    }
}

/// A conversation, as this user sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// Its id.
    pub id: RoomId,
    /// Two people, or a group.
    pub kind: RoomKind,
    /// Empty in a direct room.
    pub title: String,
    /// The other one of a direct room.
    pub peer: Option<UserId>,
    /// Last sequence.
    pub head: u64,
    /// Lowest sequence that this user may read and that is still kept.
    pub first: u64,
    /// This device has everything up to here.
    pub delivered: u64,
    /// The user has read up to here.
    pub read: u64,
    /// How many members.
    pub members: u32,
    /// What this user is in it; [`Role::Invited`]: join to become a member.
    pub role: Role,
    /// The user's settings for it.
    pub notify: NotifySettings,
}

impl TryFrom<wire::RoomInfo> for Room {
    type Error = Error;

    fn try_from(r: wire::RoomInfo) -> Result<Self, Error> {
        Ok(Self {
            id: id(RoomId::try_from(&r.room))?,
            kind: r.kind(),
            role: r.role(),
            peer: if r.peer.is_empty() { None } else { Some(id(r.peer.parse())?) },
            title: r.title,
            head: r.head,
            first: r.first,
            delivered: r.delivered,
            read: r.read,
            members: r.members,
            notify: r.notify.unwrap_or_default(),
        })
    }
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
    /// Sequence of the event that made it so; 0 in a direct room.
    pub since: u64,
    /// Some device of theirs has everything up to here.
    pub delivered: u64,
    /// They have read up to here.
    pub read: u64,
}

impl TryFrom<wire::Member> for Member {
    type Error = Error;

    fn try_from(m: wire::Member) -> Result<Self, Error> {
        Ok(Self {
            role: m.role(),
            user: id(m.user.parse())?,
            since: m.since,
            delivered: m.delivered,
            read: m.read,
        })
    }
}

/// A device of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// As it called itself.
    pub name: String,
    /// Unix milliseconds.
    pub enrolled_at_ms: UnixMs,
    /// It is this one.
    pub current: bool,
    /// It has a session now.
    pub connected: bool,
}

impl TryFrom<wire::Device> for Device {
    type Error = Error;

    fn try_from(d: wire::Device) -> Result<Self, Error> {
        Ok(Self {
            id: id(DeviceId::try_from(&d.device))?,
            name: d.name,
            enrolled_at_ms: d.enrolled_at_ms,
            current: d.current,
            connected: d.connected,
        })
    }
}

/// How many have not seen each message of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCounts {
    /// First sequence of the range; the others follow without a hole.
    pub from: u64,
    /// Members who have not read it, for each message.
    pub unread: Vec<u32>,
    /// Members who have not received it, for each message.
    pub undelivered: Vec<u32>,
}

/// A one-time right to enrol one more device of this user.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolCode {
    /// To be typed on the new device.
    pub code: String,
    /// Milliseconds for which it is valid.
    pub valid_ms: u32,
}

impl std::fmt::Debug for EnrolCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolCode").field("valid_ms", &self.valid_ms).finish_non_exhaustive()
    }
}

/// What an app hears.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The next message of a room: in order, each exactly once, one's own included.
    Message(Message),
    /// Messages `from..=to` are not kept by the server any more, or were written while the user was not a member. The next
    /// message of the room is the one after them.
    Skipped {
        /// The conversation.
        room: RoomId,
        /// First one that will not come.
        from: u64,
        /// Last one that will not come.
        to: u64,
    },
    /// Somebody has received or read up to a message.
    Cursor {
        /// The conversation.
        room: RoomId,
        /// Who; it may be another device of this user.
        user: UserId,
        /// Some device of theirs has everything up to here; 0: unchanged.
        delivered: u64,
        /// They have read up to here; 0: unchanged.
        read: u64,
    },
    /// This user's relation to a room changed.
    RoomChanged {
        /// The conversation.
        room: RoomId,
        /// What this user is in it now; `None`: no longer a member.
        role: Option<Role>,
    },
    /// A message of the outbox has changed its state.
    Outbox {
        /// Which one.
        client_id: ClientId,
        /// Its room.
        room: RoomId,
        /// The new state.
        state: SendState,
    },
    /// The server is under more, or less, pressure than before; see also [`crate::Client::conditions`].
    Posture(Conditions),
    /// Every room is as far as the server's log.
    CaughtUp,
    /// The app did not listen, and some events other than messages were dropped. Ask for rooms, members and outbox anew.
    Missed {
        /// How many.
        dropped: u64,
    },
}

pub(crate) fn id<T>(id: Result<T, IdError>) -> Result<T, Error> {
    id.map_err(Error::protocol)
}
