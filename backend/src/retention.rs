//! Old messages go: after as many days as the operator says, slowly, and never before the room knows.
//!
//! A room is told first what it will keep, in the same write that folds its membership events; only then its log is
//! trimmed. So nobody reads below what is kept, and no change of members is lost with the record that made it.

use std::sync::Arc;
use std::time::Duration;

use buslane_shared::UnixMs;
use buslane_shared::id::RoomId;
use buslane_shared::refusal::Refusal;
use buslane_store::{Table, retention};
use metrics::counter;

use crate::core::Core;
use crate::refuse;

/// How often all rooms are looked through: retention is counted in days.
const EVERY: Duration = Duration::from_secs(3600);

/// When they are first looked through: after the rush of a start, and soon enough for a process that is often restarted.
const FIRST: Duration = Duration::from_secs(60);

/// Pause after each step, so that it never competes with people for the disk.
const PAUSE: Duration = Duration::from_millis(20);

/// Rooms looked at in one step.
const ROOMS_PAGE: usize = 256;

const DAY_MS: u64 = 24 * 3600 * 1000;

impl Core {
    /// Looks through all rooms once. The answer is how many messages went.
    pub(crate) async fn retain(&self, now_ms: UnixMs) -> Result<u64, Refusal> {
        let keep_ms = u64::from(self.config.retention_days) * DAY_MS;
        let (mut removed, mut after) = (0, None);
        loop {
            let page = self
                .engine
                .scan(Table::Rooms, b"", after.as_deref(), ROOMS_PAGE)
                .map_err(refuse::not_done)?;
            let Some((last, _)) = page.last() else { return Ok(removed) };
            after = Some(last.clone());
            for (key, _) in &page {
                let id = RoomId::try_from(key)
                    .map_err(|e| refuse::damaged(&format!("the table of rooms: {e}")))?;
                removed += self.retain_room(id, now_ms, keep_ms).await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn retain_room(&self, id: RoomId, now_ms: UnixMs, keep_ms: u64) -> Result<u64, Refusal> {
        let mut removed = 0;
        loop {
            let before =
                retention::expired(&*self.engine, id, now_ms, keep_ms).await.map_err(refuse::not_done)?;
            let Some(before) = before else { return Ok(removed) };
            let room = self.room(id).await?;
            let _turn = room.changing.lock().await;
            {
                let mut inner = room.lock();
                inner.first = inner.first.max(before);
            }
            if !self.store_state(&room).await? {
                return Ok(removed); // it is being loaded anew; the next pass comes
            }
            let gone = self.engine.trim(id, before).await.map_err(refuse::write_failed)?;
            counter!("buslane_backend_messages_expired_total").increment(gone);
            removed += gone;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Looks through all rooms every hour, until the backend stops.
pub(crate) async fn run(core: Arc<Core>) {
    if core.config.retention_days == 0 {
        return;
    }
    let mut wait = FIRST;
    while core.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        wait = EVERY;
        match core.stop.run_until_cancelled(core.retain(core.now_ms())).await {
            Some(Ok(removed)) => tracing::debug!(removed, "old messages removed"),
            Some(Err(refusal)) => {
                tracing::warn!(%refusal, "old messages were not removed; trying again in an hour")
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
