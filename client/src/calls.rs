//! Everything that can be asked of the server, one method each.
//!
//! A call waits for a connection if there is none, for [`crate::Options::request_timeout`] in all. Dropping its future takes it
//! back: the server is told, and may have done it or not.

use buslane_shared::id::{ClientId, DeviceId, RoomId, UserId};
use buslane_shared::limits::PAGE_MAX;
use buslane_shared::wire::{self, answer, request::Op};
use bytes::Bytes;

use crate::Client;
use crate::core::Road;
use crate::error::Error;
use crate::types::{Device, EnrolCode, Member, NotifySettings, Page, ReadCounts, Room, id};

impl Client {
    // ---- rooms ----

    /// The conversation with another user: made at the first call of either.
    pub async fn room_direct(&self, peer: &UserId) -> Result<Room, Error> {
        self.room_of(Op::OpenDirect(wire::OpenDirect { peer: peer.to_string() })).await
    }

    /// Makes a group of this user and `members`.
    pub async fn create_room(&self, title: &str, members: &[UserId]) -> Result<Room, Error> {
        let op = Op::CreateRoom(wire::CreateRoom {
            client_id: fresh_id().to_wire(),
            title: title.to_owned(),
            members: names(members),
        });
        self.room_of(op).await
    }

    /// A room as this user sees it.
    pub async fn describe_room(&self, room: RoomId) -> Result<Room, Error> {
        self.room_of(Op::DescribeRoom(wire::DescribeRoom { room: room.to_wire() })).await
    }

    /// All rooms of this user, those with an invitation included.
    pub async fn rooms(&self) -> Result<Vec<Room>, Error> {
        let mut rooms: Vec<Room> = Vec::new();
        loop {
            let after = rooms.last().map_or_else(Bytes::new, |r| r.id.to_wire());
            match self.ask(Op::ListRooms(wire::ListRooms { after, limit: PAGE_MAX }), Road::Bulk).await? {
                answer::Result::Rooms(page) => {
                    let more = page.more && !page.rooms.is_empty();
                    for room in page.rooms {
                        rooms.push(Room::try_from(room)?);
                    }
                    if !more {
                        return Ok(rooms);
                    }
                }
                _ => return Err(unexpected("a room list")),
            }
        }
    }

    /// All members of a room, by name.
    pub async fn members(&self, room: RoomId) -> Result<Vec<Member>, Error> {
        let mut members: Vec<Member> = Vec::new();
        loop {
            let after = members.last().map_or_else(String::new, |m| m.user.to_string());
            let op = Op::ListMembers(wire::ListMembers { room: room.to_wire(), after, limit: PAGE_MAX });
            match self.ask(op, Road::Bulk).await? {
                answer::Result::Members(page) => {
                    let more = page.more && !page.members.is_empty();
                    for member in page.members {
                        members.push(Member::try_from(member)?);
                    }
                    if !more {
                        return Ok(members);
                    }
                }
                _ => return Err(unexpected("a member list")),
            }
        }
    }

    /// Invites users to a group; they join by themselves.
    pub async fn invite(&self, room: RoomId, users: &[UserId]) -> Result<(), Error> {
        self.done(Op::Invite(wire::Invite { room: room.to_wire(), users: names(users) })).await
    }

    /// Joins a group after an invitation.
    pub async fn join(&self, room: RoomId) -> Result<Room, Error> {
        self.room_of(Op::Join(wire::Join { room: room.to_wire() })).await
    }

    /// Leaves a group.
    pub async fn leave(&self, room: RoomId) -> Result<(), Error> {
        self.done(Op::Leave(wire::Leave { room: room.to_wire() })).await
    }

    /// Removes a member from a group.
    pub async fn kick(&self, room: RoomId, user: &UserId) -> Result<(), Error> {
        self.done(Op::Kick(wire::Kick { room: room.to_wire(), user: user.to_string() })).await
    }

    /// Sets when this user is notified of a room's messages.
    pub async fn set_notify(&self, room: RoomId, settings: NotifySettings) -> Result<(), Error> {
        self.done(Op::SetNotify(wire::SetNotify { room: room.to_wire(), settings: Some(settings) })).await
    }

    // ---- the log ----

    /// Messages after a sequence, ascending; at most 1,000. Leaves the cursors of this device alone.
    pub async fn sync(&self, room: RoomId, after: u64, limit: u32) -> Result<Page, Error> {
        self.page(Op::Sync(wire::Sync { room: room.to_wire(), after, limit })).await
    }

    /// Messages before a sequence (0: from the head), descending; at most 1,000.
    pub async fn history(&self, room: RoomId, before: u64, limit: u32) -> Result<Page, Error> {
        self.page(Op::History(wire::History { room: room.to_wire(), before, limit })).await
    }

    /// How many members have not read, and not received, each message of `from..=to`.
    pub async fn read_counts(&self, room: RoomId, from: u64, to: u64) -> Result<ReadCounts, Error> {
        match self
            .ask(Op::ReadCounts(wire::ReadCounts { room: room.to_wire(), from, to }), Road::Talk)
            .await?
        {
            answer::Result::ReadCounts(c) => {
                Ok(ReadCounts { from: c.from, unread: c.unread, undelivered: c.undelivered })
            }
            _ => Err(unexpected("read counts")),
        }
    }

    // ---- the account ----

    /// Accepts no more direct messages and invitations from a user.
    pub async fn block(&self, user: &UserId) -> Result<(), Error> {
        self.done(Op::SetBlock(wire::SetBlock { user: user.to_string(), blocked: true })).await
    }

    /// Accepts them again.
    pub async fn unblock(&self, user: &UserId) -> Result<(), Error> {
        self.done(Op::SetBlock(wire::SetBlock { user: user.to_string(), blocked: false })).await
    }

    /// Whom this user blocks.
    pub async fn blocked(&self) -> Result<Vec<UserId>, Error> {
        match self.ask(Op::ListBlocked(wire::ListBlocked {}), Road::Talk).await? {
            answer::Result::Users(list) => list.users.iter().map(|u| id(u.parse())).collect(),
            _ => Err(unexpected("a user list")),
        }
    }

    /// The devices of this user.
    pub async fn devices(&self) -> Result<Vec<Device>, Error> {
        match self.ask(Op::ListDevices(wire::ListDevices {}), Road::Talk).await? {
            answer::Result::Devices(list) => list.devices.into_iter().map(Device::try_from).collect(),
            _ => Err(unexpected("a device list")),
        }
    }

    /// Takes a device's right away, at once.
    pub async fn revoke_device(&self, device: DeviceId) -> Result<(), Error> {
        self.done(Op::RevokeDevice(wire::RevokeDevice { device: device.to_wire() })).await
    }

    /// A one-time code with which another device of this user is enrolled.
    pub async fn make_code(&self) -> Result<EnrolCode, Error> {
        match self.ask(Op::MakeCode(wire::MakeCode {}), Road::Talk).await? {
            answer::Result::Code(made) => Ok(EnrolCode { code: made.code, valid_ms: made.valid_ms }),
            _ => Err(unexpected("a code")),
        }
    }

    /// Asks whether the server is there; its clock, in Unix milliseconds.
    pub async fn ping(&self) -> Result<u64, Error> {
        match self.ask(Op::Ping(wire::Ping {}), Road::Talk).await? {
            answer::Result::Pong(pong) => Ok(pong.now_ms),
            _ => Err(unexpected("a pong")),
        }
    }

    // ---- forms of answers ----

    async fn ask(&self, op: Op, road: Road) -> Result<answer::Result, Error> {
        self.handle.core.call(op, road).await
    }

    async fn done(&self, op: Op) -> Result<(), Error> {
        // Some changes are answered with the changed room; what was asked for is done either way.
        self.ask(op, Road::Talk).await.map(drop)
    }

    async fn room_of(&self, op: Op) -> Result<Room, Error> {
        match self.ask(op, Road::Talk).await? {
            answer::Result::Room(room) => Room::try_from(room),
            _ => Err(unexpected("a room")),
        }
    }

    async fn page(&self, op: Op) -> Result<Page, Error> {
        match self.ask(op, Road::Bulk).await? {
            answer::Result::Batch(batch) => Page::try_from(batch),
            _ => Err(unexpected("a batch")),
        }
    }
}

/// A new UUIDv7: unique, and in the order of time.
pub(crate) fn fresh_id() -> ClientId {
    ClientId::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(UserId::to_string).collect()
}

fn unexpected(wanted: &str) -> Error {
    Error::protocol(format_args!("the answer is not {wanted}"))
}
