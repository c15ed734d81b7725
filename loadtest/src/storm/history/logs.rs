//! The logs of the rooms, read back from the server when the run is over and the system is quiet.
//!
//! It must never pass off what it could not read as empty.

use std::time::{Duration, Instant};

use buslane_client::Error;
use buslane_client::raw::Session;
use buslane_shared::wire::{self, answer, membership, message, request};
use bytes::Bytes;
use futures_util::StreamExt;

use super::record::{ClientKey, Print, client_key, print_of};
use crate::storm::fleet::Phone;
use crate::storm::net::Net;
use crate::storm::scenario::Side;

/// Messages that are asked for at a time: as many as the protocol allows.
const PAGE: u32 = 1_000;

/// Phones that read at a time: enough to keep one processor of the server busy.
const READERS: usize = 16;

/// How long one answer may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Between two tries, when the server names no time.
const PAUSE: Duration = Duration::from_millis(200);

/// A member that reads.
#[derive(Debug)]
pub struct Reader {
    /// Without an open session.
    pub phone: Phone,
    /// Rooms of which its user is a member from the beginning.
    pub rooms: Vec<Bytes>,
}

/// One room as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomLog {
    /// The room.
    pub(super) room: Vec<u8>,
    /// The lowest sequence that is still kept.
    pub(super) first: u64,
    /// What it holds, as it came.
    pub(super) lines: Vec<Line>,
    /// Who came and went.
    pub(super) changes: Vec<MemberChange>,
    /// Why it was not read to its end.
    pub(super) unread: Option<String>,
}

/// One place of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub seq: u64,
    pub client_id: ClientKey,
    pub print: Print,
}

/// From a sequence on a user is a member, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberChange {
    pub seq: u64,
    pub user: String,
    pub is_member: bool,
}

impl RoomLog {
    fn new(room: &Bytes) -> Self {
        Self { room: room.to_vec(), first: 1, ..Self::default() }
    }

    /// Whether what lies at this sequence was read, if there is anything.
    pub(super) fn reaches(&self, seq: u64) -> bool {
        self.unread.is_none() || self.lines.last().is_some_and(|line| seq <= line.seq)
    }

    pub(super) fn push(&mut self, message: &wire::Message) {
        let client_id = client_key(&message.client_id);
        self.lines.push(Line { seq: message.seq, client_id, print: print_of(message) });
        let Some(message::Content::Membership(change)) = &message.content else { return };
        let is_member = match change.change() {
            membership::Change::Created | membership::Change::Joined => true,
            membership::Change::Left | membership::Change::Kicked => false,
            membership::Change::Invited | membership::Change::Unspecified => return,
        };
        let changed = change.users.iter();
        self.changes.extend(changed.map(|user| MemberChange {
            seq: message.seq,
            user: user.clone(),
            is_member,
        }));
    }
}

/// Reads every room of every reader, all of it within `limit`. A room that could not be read to its end says why.
pub async fn read_logs(net: &Net, readers: Vec<Reader>, limit: Duration) -> Vec<RoomLog> {
    let end = Instant::now() + limit;
    let read = readers.into_iter().map(|reader| read(net, reader, end));
    futures_util::stream::iter(read).buffer_unordered(READERS).concat().await
}

async fn read(net: &Net, mut reader: Reader, end: Instant) -> Vec<RoomLog> {
    let mut logs: Vec<RoomLog> = reader.rooms.iter().map(RoomLog::new).collect();
    let mut open = None;
    for log in &mut logs {
        while let Err(why) = read_on(net, &mut reader.phone, &mut open, log, end).await {
            if Instant::now() + PAUSE >= end {
                log.unread = Some(why);
                break;
            }
            open = None;
            tokio::time::sleep(PAUSE).await;
        }
    }
    if let Some((session, _)) = open {
        session.close();
    }
    logs
}

/// A session, and the id of its last request.
type Open = Option<(Session, u64)>;

/// Reads a room from where it was left to its end.
async fn read_on(
    net: &Net,
    phone: &mut Phone,
    open: &mut Open,
    log: &mut RoomLog,
    end: Instant,
) -> Result<(), String> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("the time was over".to_owned());
        }
        let (session, id) = match open {
            Some(open) => open,
            None => {
                let opened = phone.open_patiently(net, Side::Foreground, left).await;
                open.insert((opened.map_err(|error| format!("{error:#}"))?, 0))
            }
        };
        *id += 1;
        let after = log.lines.last().map_or(0, |line| line.seq);
        let sync = wire::Sync { room: Bytes::copy_from_slice(&log.room), after, limit: PAGE };
        let answered = session.request(*id, request::Op::Sync(sync), left.min(STEP_LIMIT)).await;
        let batch = match answered {
            Ok(answer::Result::Batch(batch)) => batch,
            Ok(_) => return Err("Sync was answered with something else".to_owned()),
            Err(Error::Refused(refused)) if refused.retryable => {
                let wait = refused.retry_after.unwrap_or(PAUSE);
                if Instant::now() + wait >= end {
                    return Err(refused.to_string());
                }
                tokio::time::sleep(wait).await;
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        if log.lines.is_empty() {
            log.first = batch.first.max(1);
        }
        batch.messages.iter().for_each(|message| log.push(message));
        if !batch.more {
            return Ok(());
        }
        if batch.messages.is_empty() {
            return Err("the server says that there is more and does not give it".to_owned());
        }
    }
}
