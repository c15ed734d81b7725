//! Reading a room: forwards since a cursor, backwards from the head, and how many have read.
//!
//! Membership is asked on every call, and a member never reads below his horizon. Only what is durable is shown. A record
//! that does not open is reported; a batch never skips one.

use buslane_chassis::api::Call;
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_DEFAULT, BATCH_MESSAGES_MAX};
use buslane_shared::refusal::Refusal;
use buslane_shared::wire;
use buslane_store::StoredRecord;
use buslane_store::record::OpenRecord;

use crate::core::Core;
use crate::message::{self, parse_room};
use crate::refuse;
use crate::room::Room;

/// What a user may read of a room now.
#[derive(Debug, Clone, Copy)]
struct Window {
    first: u64,
    head: u64,
}

impl Core {
    fn window(&self, room: &Room, user: &UserId) -> Result<Window, Refusal> {
        let inner = room.lock();
        let horizon = inner.state.may_read(user)?;
        Ok(Window { first: horizon.max(inner.first), head: inner.sequencer.durable() })
    }

    /// Reads, and reads again when what may be read has changed meanwhile: old messages went, or the reader did.
    async fn steadily<T, F>(
        &self,
        room: &Room,
        user: &UserId,
        read: impl Fn(Window) -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        loop {
            let window = self.window(room, user)?;
            let result = read(window).await;
            if self.window(room, user)?.first == window.first {
                return result;
            }
        }
    }

    /// Messages after a sequence, ascending.
    pub(crate) async fn sync(&self, call: &Call, request: wire::Sync) -> Result<wire::Batch, Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        self.steadily(&room, &call.user, |window| self.sync_in(&room, window, &request)).await
    }

    async fn sync_in(
        &self,
        room: &Room,
        window: Window,
        request: &wire::Sync,
    ) -> Result<wire::Batch, Refusal> {
        let after = request.after.max(window.first - 1).min(window.head);
        let limit = limit(request.limit);
        let mut records = match after < window.head {
            true => {
                let read = self.engine.read(room.id, after, limit, BATCH_BYTES_MAX);
                read.await.map_err(refuse::not_done)?
            }
            false => Vec::new(),
        };
        records.retain(|r| r.seq <= window.head);
        dense(room.id, after + 1..=window.head, records.iter().map(|r| r.seq))?;
        let more = records.last().map_or(after, |r| r.seq) < window.head;
        self.batch(room, records, window, more).await
    }

    /// Messages before a sequence, descending.
    pub(crate) async fn history(&self, call: &Call, request: wire::History) -> Result<wire::Batch, Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        self.steadily(&room, &call.user, |window| self.history_in(&room, window, &request)).await
    }

    async fn history_in(
        &self,
        room: &Room,
        window: Window,
        request: &wire::History,
    ) -> Result<wire::Batch, Refusal> {
        let before = match request.before {
            0 => window.head + 1,
            before => before.min(window.head + 1),
        };
        let limit = limit(request.limit);
        let mut records = match window.first < before {
            true => {
                let read = self.engine.read_back(room.id, before, limit, BATCH_BYTES_MAX);
                read.await.map_err(refuse::not_done)?
            }
            false => Vec::new(),
        };
        records.retain(|r| r.seq >= window.first);
        dense(room.id, (window.first..before).rev(), records.iter().map(|r| r.seq))?;
        let more = records.last().map_or(before, |r| r.seq) > window.first;
        self.batch(room, records, window, more).await
    }

    async fn batch(
        &self,
        room: &Room,
        records: Vec<StoredRecord>,
        window: Window,
        more: bool,
    ) -> Result<wire::Batch, Refusal> {
        let messages = self.open(room, &records).await?.into_iter().map(message::read);
        let messages = messages.collect::<Result<_, _>>().map_err(refuse::not_done)?;
        Ok(wire::Batch { room: room.id.to_wire(), messages, head: window.head, first: window.first, more })
    }

    async fn open(&self, room: &Room, records: &[StoredRecord]) -> Result<Vec<OpenRecord>, Refusal> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let key = self.room_key(room).await?;
        records.iter().map(|record| key.open(room.id, record).map_err(refuse::not_done)).collect()
    }

    /// How many members have not read (or not received) each message of a range. The sender never counts, nor does who
    /// came later.
    pub(crate) async fn read_counts(
        &self,
        call: &Call,
        request: wire::ReadCounts,
    ) -> Result<wire::ReadCountList, Refusal> {
        let room = self.room(parse_room(&request.room)?).await?;
        if request.to < request.from || request.to - request.from >= u64::from(BATCH_MESSAGES_MAX) {
            return Err(Refusal::field(
                "to",
                format!("at least `from`, and at most {BATCH_MESSAGES_MAX} sequences"),
            ));
        }
        self.steadily(&room, &call.user, |window| self.read_counts_in(&room, window, &request)).await
    }

    async fn read_counts_in(
        &self,
        room: &Room,
        window: Window,
        request: &wire::ReadCounts,
    ) -> Result<wire::ReadCountList, Refusal> {
        let from = request.from.max(window.first);
        let to = request.to.min(window.head);
        let mut list = wire::ReadCountList { room: room.id.to_wire(), from, ..Default::default() };
        let members = self.members_with_cursors(room).await?;
        let mut after = from - 1;
        while after < to {
            let wanted = (to - after) as usize;
            let records =
                self.engine.read(room.id, after, wanted, BATCH_BYTES_MAX).await.map_err(refuse::not_done)?;
            dense(room.id, after + 1..=to, records.iter().map(|r| r.seq))?;
            let Some(last) = records.last() else { break };
            after = last.seq;
            for record in self.open(room, &records).await? {
                let (seq, sender) = (record.header.seq, record.header.sender);
                let concerned = members.iter().filter(|m| m.since <= seq && m.user != sender);
                let (mut unread, mut undelivered) = (0, 0);
                for member in concerned {
                    unread += u32::from(member.read < seq);
                    undelivered += u32::from(member.delivered.max(member.read) < seq);
                }
                list.unread.push(unread);
                list.undelivered.push(undelivered);
            }
        }
        Ok(list)
    }

    async fn members_with_cursors(&self, room: &Room) -> Result<Vec<Reader>, Refusal> {
        let cursors = self.cursors(room).await?.lock();
        let inner = room.lock();
        let reader = |(user, member): (&UserId, buslane_shared::membership::Member)| {
            let cursor = cursors.get(user);
            Reader {
                user: user.clone(),
                since: member.since,
                delivered: cursor.map_or(0, |c| c.delivered),
                read: cursor.map_or(0, |c| c.read),
            }
        };
        Ok(inner.state.members().map(reader).collect())
    }
}

/// A member and how far he is.
struct Reader {
    user: UserId,
    since: u64,
    delivered: u64,
    read: u64,
}

fn limit(asked: u32) -> usize {
    match asked {
        0 => BATCH_MESSAGES_DEFAULT as usize,
        asked => asked.min(BATCH_MESSAGES_MAX) as usize,
    }
}

/// The records that were read are the first of those that must be there, without a hole.
fn dense(
    room: RoomId,
    mut expected: impl Iterator<Item = u64>,
    found: impl ExactSizeIterator<Item = u64>,
) -> Result<(), Refusal> {
    let missing =
        |seq: u64| Err(refuse::damaged_value("the log", room, format!("sequence {seq} is missing")));
    if found.len() == 0 {
        return expected.next().map_or(Ok(()), missing);
    }
    for seq in found {
        let must = expected.next();
        if must != Some(seq) {
            return missing(must.unwrap_or(seq));
        }
    }
    Ok(())
}
