//! Rooms come to be, and groups change: open, create, invite, join, leave, kick.
//!
//! A change is a message in the room's log. The list of a user's rooms is written *before* somebody is added and cleaned
//! *after* somebody is removed, so a crash in between only leaves an entry that names a room which is not his; whoever reads
//! the list asks the room. Each change runs to its end even when its client goes away.

use std::sync::Arc;

use buslane_chassis::api::Call;
use buslane_chassis::clock;
use buslane_shared::id::{ClientId, RoomId, UserId};
use buslane_shared::limits::{ROOMS_PER_USER_MAX, TITLE_CHARS_MAX};
use buslane_shared::membership::{Event, RoomState};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, Role};
use buslane_store::{Mutation, Table};
use prost::Message as _;

use crate::core::Core;
use crate::message::{Ask, Received, What, parse_client_id, parse_room, parse_user, parse_users};
use crate::refuse;
use crate::room::Room;
use crate::table;

impl Core {
    /// The room of two users, made when it is first asked for.
    pub(crate) async fn open_direct(
        self: &Arc<Self>,
        call: &Call,
        request: wire::OpenDirect,
    ) -> Result<wire::RoomInfo, Refusal> {
        let peer = parse_user("peer", &request.peer)?;
        if peer == call.user {
            return Err(Refusal::field("peer", "a direct room has two members; name somebody else"));
        }
        self.must_exist(&peer)?;
        let id = RoomId::direct(&call.user, &peer);
        if self.stored_room(id)?.is_none() {
            if self.blocks(&peer, &call.user)? {
                return Err(Refusal::of(Code::Blocked));
            }
            self.pace.change(&call.user)?;
            self.room_for_room(&call.user)?;
            self.room_for_room(&peer)?;
            self.make_direct(id, &call.user, &peer).await?;
        }
        let room = self.room(id).await?;
        self.info(&room, call).await
    }

    async fn make_direct(&self, id: RoomId, user: &UserId, peer: &UserId) -> Result<(), Refusal> {
        let state = RoomState::direct(user.clone(), peer.clone()).to_stored(0, 1);
        let batch = vec![
            list_room(user, id),
            list_room(peer, id),
            Mutation::Put { table: Table::Rooms, key: id.to_wire(), value: state.encode_to_vec().into() },
        ];
        self.engine.write(batch).await.map_err(refuse::write_failed)?;
        let room = self.room(id).await?;
        for user in [user, peer] {
            self.publish_role(&room, user, Role::Member);
        }
        Ok(())
    }

    /// Makes a group. Repeated with the same client id it is the same group.
    pub(crate) async fn create_room(
        self: &Arc<Self>,
        call: &Call,
        request: wire::CreateRoom,
    ) -> Result<wire::RoomInfo, Refusal> {
        let client_id = parse_client_id(&request.client_id)?;
        if request.title.chars().count() > TITLE_CHARS_MAX {
            return Err(Refusal::new(
                Code::TooLong,
                format!("a title has at most {TITLE_CHARS_MAX} characters"),
            ));
        }
        if request.title.is_empty() || request.title.chars().any(char::is_control) {
            return Err(Refusal::field("title", "at least 1 character, none of them a control character"));
        }
        let members = self.may_be_added(call, parse_users("members", &request.members)?)?;
        self.room_for_room(&call.user)?;
        let room = self.room_or_unborn(RoomId::group(&call.user, client_id)).await?;
        self.change(call, &room, client_id, Ask::Create { title: request.title, members }).await?;
        self.info(&room, call).await
    }

    /// Invites users to a group.
    pub(crate) async fn invite(self: &Arc<Self>, call: &Call, request: wire::Invite) -> Result<(), Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        room.lock().state.may_invite(&call.user, &[])?;
        let users = self.may_be_added(call, parse_users("users", &request.users)?)?;
        self.change(call, &room, fresh_id(), Ask::Invite(users)).await
    }

    /// Accepts an invitation.
    pub(crate) async fn join(
        self: &Arc<Self>,
        call: &Call,
        request: wire::Join,
    ) -> Result<wire::RoomInfo, Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        self.change(call, &room, fresh_id(), Ask::Join).await?;
        self.info(&room, call).await
    }

    /// Leaves a group, or declines an invitation.
    pub(crate) async fn leave(self: &Arc<Self>, call: &Call, request: wire::Leave) -> Result<(), Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        self.change(call, &room, fresh_id(), Ask::Leave).await
    }

    /// Removes somebody from a group.
    pub(crate) async fn kick(self: &Arc<Self>, call: &Call, request: wire::Kick) -> Result<(), Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        let whom = parse_user("user", &request.user)?;
        self.change(call, &room, fresh_id(), Ask::Kick(whom)).await
    }

    /// Users may be added who exist, who do not block the one who adds them, and whose list of rooms is not full.
    fn may_be_added(&self, call: &Call, mut users: Vec<UserId>) -> Result<Vec<UserId>, Refusal> {
        users.retain(|u| *u != call.user);
        users.sort_unstable();
        users.dedup();
        for user in &users {
            self.must_exist(user)?;
            if self.blocks(user, &call.user)? {
                return Err(Refusal::new(
                    Code::Blocked,
                    format!("{user} does not accept invitations from you"),
                ));
            }
            self.room_for_room(user)?;
        }
        Ok(users)
    }

    fn room_for_room(&self, user: &UserId) -> Result<(), Refusal> {
        let listed = self.engine.scan(Table::UserRooms, &table::user_prefix(user), None, ROOMS_PER_USER_MAX);
        if listed.map_err(refuse::not_done)?.len() < ROOMS_PER_USER_MAX {
            return Ok(());
        }
        let detail =
            format!("{user} is in {ROOMS_PER_USER_MAX} rooms, which is the most; one must be left first");
        Err(Refusal::new(Code::RoomFull, detail))
    }

    /// Runs one change to its end, whatever becomes of the client that asked for it.
    async fn change(
        self: &Arc<Self>,
        call: &Call,
        room: &Arc<Room>,
        client_id: ClientId,
        ask: Ask,
    ) -> Result<(), Refusal> {
        let received = Received {
            room: room.id,
            sender: call.user.clone(),
            device: call.device,
            client_id,
            after: None,
            what: What::Change(ask.clone()),
            parent: call.parent,
        };
        let task = self.tasks.spawn(self.clone().change_to_the_end(room.clone(), received, ask));
        task.await.unwrap_or_else(|_| Err(Refusal::of(Code::Internal).maybe_applied()))
    }

    async fn change_to_the_end(
        self: Arc<Self>,
        room: Arc<Room>,
        received: Received,
        ask: Ask,
    ) -> Result<(), Refusal> {
        let _turn = room.changing.lock().await;
        let Some(event) = room.lock().authorise_change(&received.sender, &ask)? else { return Ok(()) };
        let (added, removed) = match event {
            Event::Created { creator, mut members, .. } => {
                members.push(creator);
                (members, None)
            }
            Event::Invited(users) => (users, None),
            Event::Joined(_) => (Vec::new(), None),
            Event::Left(user) | Event::Kicked(user) => (Vec::new(), Some(user)),
        };
        if !added.is_empty() {
            let batch = added.iter().map(|user| list_room(user, room.id)).collect();
            self.engine.write(batch).await.map_err(refuse::not_done)?;
        }
        if self.commit(&room, received, None).await?.is_none() {
            return Ok(());
        }
        // The change is durable. What follows only spares work later: the log says it all.
        let tidied = async {
            let stored = self.store_state(&room).await?;
            let Some(user) = removed.filter(|_| stored) else { return Ok(()) };
            let key = table::user_room(&user, room.id);
            let delete = Mutation::Delete { table: Table::UserRooms, key };
            self.engine.write(vec![delete]).await.map_err(refuse::write_failed)
        };
        if let Err(refusal) = tidied.await {
            tracing::warn!(room = %room.id, %refusal, "a change is in the log, but was not noted elsewhere");
        }
        Ok(())
    }
}

fn list_room(user: &UserId, room: RoomId) -> Mutation {
    Mutation::Put { table: Table::UserRooms, key: table::user_room(user, room), value: bytes::Bytes::new() }
}

/// A client id for a change that its client does not name: repeating such a change finds it done.
fn fresh_id() -> ClientId {
    ClientId::from_bytes(clock::random())
}
