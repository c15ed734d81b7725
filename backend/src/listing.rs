//! What a user is told about rooms: one, all of his, and who is in one.

use buslane_chassis::api::Call;
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::limits::{PAGE_DEFAULT, PAGE_MAX};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, Role};
use buslane_store::Table;

use crate::core::Core;
use crate::message::{parse_room, parse_user};
use crate::refuse;
use crate::room::Room;
use crate::table;

impl Core {
    /// What a room is to the user who asks. Who is only invited learns what it is called, and not how much is said in it.
    pub(crate) async fn info(&self, room: &Room, call: &Call) -> Result<wire::RoomInfo, Refusal> {
        room.lock().state.may_describe(&call.user)?;
        let cursor = self.cursors(room).await?.lock().get(&call.user).cloned().unwrap_or_default();
        let inner = room.lock();
        let member = inner.state.may_describe(&call.user)?;
        let window = match member.role {
            Role::Invited => (0, 0),
            _ => (inner.sequencer.durable(), member.since.max(inner.first)),
        };
        Ok(wire::RoomInfo {
            room: room.id.to_wire(),
            kind: inner.state.kind().into(),
            title: inner.state.title().to_owned(),
            peer: inner.state.peer(&call.user).map(ToString::to_string).unwrap_or_default(),
            head: window.0,
            first: window.1,
            delivered: cursor.delivered_to(call.device),
            read: cursor.read,
            members: u32::try_from(inner.state.members().count()).unwrap_or(u32::MAX),
            role: member.role.into(),
            notify: Some(inner.notify.get(&call.user).copied().unwrap_or_default()),
        })
    }

    /// One room.
    pub(crate) async fn describe_room(
        &self,
        call: &Call,
        request: wire::DescribeRoom,
    ) -> Result<wire::RoomInfo, Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        self.info(&room, call).await
    }

    /// The user's rooms and invitations, by id. The list in the store is a hint; each room is asked.
    pub(crate) async fn list_rooms(
        &self,
        call: &Call,
        request: wire::ListRooms,
    ) -> Result<wire::RoomList, Refusal> {
        let prefix = table::user_prefix(&call.user);
        let mut after = match request.after.is_empty() {
            true => None,
            false => {
                let after = RoomId::try_from(&request.after).map_err(|e| Refusal::field("after", e))?;
                Some(table::user_room(&call.user, after))
            }
        };
        let limit = limit(request.limit);
        let mut list = wire::RoomList { rooms: Vec::new(), more: false };
        // One more than the page holds, so that `more` is certain; entries that are not his fill no page.
        'page: loop {
            let wanted = limit + 1 - list.rooms.len();
            let listed = self.engine.scan(Table::UserRooms, &prefix, after.as_deref(), wanted);
            let listed = listed.map_err(refuse::not_done)?;
            for (key, _) in &listed {
                let id = key.strip_prefix(&prefix[..]).and_then(|id| RoomId::try_from(id).ok());
                let id = id.ok_or_else(|| {
                    refuse::damaged_value("the room list", &call.user, "it does not decode")
                })?;
                let Some(info) = self.listed_info(id, call).await? else { continue };
                if list.rooms.len() == limit {
                    list.more = true;
                    break 'page;
                }
                list.rooms.push(info);
            }
            match listed.last() {
                Some((last, _)) if listed.len() == wanted => after = Some(last.clone()),
                _ => break,
            }
        }
        Ok(list)
    }

    /// A room of the list; `None`: it is not the user's any more.
    async fn listed_info(&self, id: RoomId, call: &Call) -> Result<Option<wire::RoomInfo>, Refusal> {
        let info = match self.room(id).await {
            Ok(room) => self.info(&room, call).await,
            Err(refusal) => Err(refusal),
        };
        match info {
            Ok(info) => Ok(Some(info)),
            Err(refusal) if matches!(refusal.code, Code::UnknownRoom | Code::NotAMember) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Who is in a room, by name, with how far they are.
    pub(crate) async fn list_members(
        &self,
        call: &Call,
        request: wire::ListMembers,
    ) -> Result<wire::MemberList, Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        let after: Option<UserId> = match request.after.as_str() {
            "" => None,
            after => Some(parse_user("after", after)?),
        };
        room.lock().state.may_read(&call.user)?;
        let cursors = self.cursors(&room).await?.lock();
        let inner = room.lock();
        let limit = limit(request.limit);
        let mut rest =
            inner.state.everybody().filter(|(user, _)| after.as_ref().is_none_or(|after| *user > after));
        let member = |(user, member): (&UserId, buslane_shared::membership::Member)| {
            let cursor = cursors.get(user);
            wire::Member {
                user: user.as_str().to_owned(),
                role: member.role.into(),
                since: member.since,
                delivered: cursor.map_or(0, |c| c.delivered),
                read: cursor.map_or(0, |c| c.read),
            }
        };
        let members = rest.by_ref().take(limit).map(member).collect();
        Ok(wire::MemberList { room: room.id.to_wire(), members, more: rest.next().is_some() })
    }
}

fn limit(asked: u32) -> usize {
    match asked {
        0 => PAGE_DEFAULT as usize,
        asked => asked.min(PAGE_MAX) as usize,
    }
}
