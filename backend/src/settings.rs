//! What a user decides about his own peace: notification settings of a room, and whom he blocks.

use buslane_chassis::api::Call;
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::limits::BLOCKED_PER_USER_MAX;
use buslane_shared::notify;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use buslane_store::{Mutation, Table};
use prost::Message as _;

use crate::core::Core;
use crate::message::{parse_room, parse_user};
use crate::refuse;
use crate::table;

impl Core {
    /// Sets the notification settings of a room, and tells the user's other devices.
    pub(crate) async fn set_notify(&self, call: &Call, request: wire::SetNotify) -> Result<(), Refusal> {
        let settings = request.settings.unwrap_or_default();
        notify::check(&settings)?;
        let room = self.room(parse_room(&request.room)?).await?;
        let _turn = room.changing.lock().await;
        let role = room.lock().state.may_describe(&call.user)?.role;
        self.put(Table::Settings, table::notify(room.id, &call.user), settings.encode_to_vec()).await?;
        room.lock().set_notify(call.user.clone(), settings);
        self.publish_role(&room, &call.user, role);
        Ok(())
    }

    /// Blocks a user, or no longer.
    pub(crate) async fn set_block(&self, call: &Call, request: wire::SetBlock) -> Result<(), Refusal> {
        let whom = parse_user("user", &request.user)?;
        if whom == call.user {
            return Err(Refusal::field("user", "you cannot block yourself"));
        }
        self.must_exist(&whom)?;
        let _turn = self.user_locks.turn(&call.user).await;
        let key = table::block(&call.user, &whom);
        if request.blocked {
            let blocked = self.blocked(&call.user)?;
            if blocked.len() >= BLOCKED_PER_USER_MAX && !blocked.contains(&whom) {
                let detail =
                    format!("at most {BLOCKED_PER_USER_MAX} users can be blocked; unblock one first");
                return Err(Refusal::new(Code::NotAllowed, detail));
            }
            self.put(Table::Settings, key, Vec::new()).await?;
        } else {
            let delete = Mutation::Delete { table: Table::Settings, key };
            self.engine.write(vec![delete]).await.map_err(refuse::write_failed)?;
        }
        self.apply_block(&call.user, whom, request.blocked).await
    }

    /// The direct room of the two learns it. It is loaded if it must be: a loader that read the old value is waited for.
    async fn apply_block(&self, by: &UserId, whom: UserId, blocked: bool) -> Result<(), Refusal> {
        let id = RoomId::direct(by, &whom);
        if self.stored_room(id)?.is_none() {
            return Ok(());
        }
        let room = self.room(id).await?;
        let mut inner = room.lock();
        match blocked {
            true => inner.blocked.insert(whom),
            false => inner.blocked.remove(&whom),
        };
        Ok(())
    }

    /// Whether one user blocks another.
    pub(crate) fn blocks(&self, by: &UserId, whom: &UserId) -> Result<bool, Refusal> {
        let found = self.engine.get(Table::Settings, &table::block(by, whom)).map_err(refuse::not_done)?;
        Ok(found.is_some())
    }

    /// Everybody whom a user blocks, by name.
    pub(crate) fn blocked(&self, by: &UserId) -> Result<Vec<UserId>, Refusal> {
        let prefix = table::block_prefix(by);
        let found = self
            .engine
            .scan(Table::Settings, &prefix, None, BLOCKED_PER_USER_MAX)
            .map_err(refuse::not_done)?;
        let decode = |key: &[u8]| {
            let name =
                key.strip_prefix(&prefix[..]).and_then(|name| std::str::from_utf8(name).ok()?.parse().ok());
            name.ok_or_else(|| refuse::damaged_value("a block", by, "it does not decode"))
        };
        found.iter().map(|(key, _)| decode(key)).collect()
    }
}
