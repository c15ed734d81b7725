//! The outbox's decisions: which message goes next, and what becomes of it. Pure: `now` is an argument.
//!
//! Each room is a queue in the order of the sends. A room that was told to wait waits as a whole, so that nothing
//! overtakes. Where several of a room are under way, each names the one in front of it, and the server takes it after that one alone: so
//! a refusal of one cannot be overtaken by those behind it either. A message whose outcome is unknown goes again, under the same client id, before anything behind it. While the
//! server is in an emergency second tries have a budget: they are what keeps an overloaded server overloaded.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use buslane_shared::id::{ClientId, RoomId};
use buslane_shared::overload::retry::{RETRY_SHARE, RetryBudget};
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use tokio::sync::oneshot;

use crate::error::{Error, Refused};
use crate::outbox::{OutboxItem, SendState};
use crate::types::Receipt;

/// Refusals "for a time" in a row, after which a message is given back to the app. With waits that grow to a minute
/// this is about a quarter of an hour: longer than a restart of the server, shorter than a person's patience.
const REFUSALS_MAX: u32 = 20;

/// For as long a server that is overloaded may put a message off; as often as it likes, because it names the times.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Second tries that are in order in ten seconds, however little else is sent: what a person writes in that time.
const RETRY_RESERVE: u32 = 10;

/// A room whose second try exceeds the budget waits this long.
const BUDGET_WAIT: Duration = Duration::from_secs(1);

/// What a message weighs beyond its body and mentions.
const OVERHEAD_BYTES: usize = 160;

/// Sizes that are never exceeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub messages: usize,
    pub bytes: usize,
    pub in_flight: usize,
    pub in_flight_per_room: usize,
}

/// Resolves an app's wait for a receipt.
pub(crate) type Reply = oneshot::Sender<Result<Receipt, Error>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On its way to the disk; not to be sent before it is there.
    Storing,
    Waiting,
    Flying,
    Failed,
}

#[derive(Debug)]
struct Entry {
    room: RoomId,
    client_id: ClientId,
    send: wire::Send,
    stage: Stage,
    /// It was sent at least once and no answer is known: the server may have it.
    maybe_sent: bool,
    refusals: u32,
    /// It was last sent as one that follows another.
    follows: bool,
    /// It was refused for no reason but that the one in front of it was: to send it again is no second try.
    held_back: bool,
    /// Since when the server puts it off for lack of capacity.
    put_off_since: Option<Instant>,
    failure: Option<Refused>,
    reply: Option<Reply>,
    /// Somebody waits until it is on the disk.
    on_stored: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Entry {
    fn weight_bytes(&self) -> usize {
        weight_bytes(&self.send)
    }

    fn state(&self) -> SendState {
        match (&self.failure, self.stage) {
            (Some(refused), Stage::Failed) => SendState::Failed { reason: refused.clone() },
            (_, Stage::Flying) => SendState::Sending,
            _ => SendState::Pending,
        }
    }
}

#[derive(Debug, Default)]
struct RoomQueue {
    /// Ordinals that are not in flight, ascending.
    waiting: VecDeque<u64>,
    flying: BTreeSet<u64>,
    /// How many may be in flight after a refusal: one, and one more with each receipt, so that those behind a refused message are not
    /// sent in vain. `None`: as many as ever.
    window: Option<usize>,
    retry_at: Option<Instant>,
    /// It stands in the round.
    listed: bool,
}

/// What became of a message, for the store and for the app.
#[derive(Debug)]
pub(crate) struct Finished {
    pub room: RoomId,
    pub client_id: ClientId,
    pub send: wire::Send,
    pub reply: Option<Reply>,
}

/// What becomes of a message that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// It goes again.
    Again,
    /// It is the app's business now.
    Failed,
    /// It was not in flight.
    Unknown,
}

/// All messages that have no receipt.
#[derive(Debug)]
pub(crate) struct Pending {
    bounds: Bounds,
    entries: HashMap<u64, Entry>,
    by_client: HashMap<ClientId, u64>,
    rooms: HashMap<RoomId, RoomQueue>,
    /// Rooms to look at, in turn; a room that waits for a time stands in `delayed` instead.
    round: VecDeque<RoomId>,
    delayed: Vec<RoomId>,
    flying: usize,
    bytes: usize,
    next_ordinal: u64,
    retries: RetryBudget,
    /// The server is in an emergency: the budget of second tries is kept to.
    thrifty: bool,
    born: Instant,
}

impl Pending {
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            bounds,
            retries: RetryBudget::new(RETRY_SHARE, RETRY_RESERVE),
            thrifty: false,
            born: now,
            entries: HashMap::new(),
            by_client: HashMap::new(),
            rooms: HashMap::new(),
            round: VecDeque::new(),
            delayed: Vec::new(),
            flying: 0,
            bytes: 0,
            next_ordinal: 1,
        }
    }

    /// Whether second tries are held within their budget from now on.
    pub fn set_thrifty(&mut self, thrifty: bool) {
        self.thrifty = thrifty;
    }

    /// Takes a message in. It is not sent before [`Pending::stored`].
    pub fn enqueue(
        &mut self,
        room: RoomId,
        client_id: ClientId,
        send: wire::Send,
        reply: Reply,
    ) -> Result<u64, Error> {
        let weight = weight_bytes(&send);
        if self.entries.len() >= self.bounds.messages || self.bytes + weight > self.bounds.bytes {
            return Err(Error::OutboxFull { messages: self.entries.len(), bytes: self.bytes });
        }
        if self.by_client.contains_key(&client_id) {
            return Err(Error::Invalid {
                field: "client_id",
                detail: "it is in the outbox already".to_owned(),
            });
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        let entry = Entry {
            room,
            client_id,
            send,
            stage: Stage::Storing,
            maybe_sent: false,
            refusals: 0,
            follows: false,
            held_back: false,
            put_off_since: None,
            failure: None,
            reply: Some(reply),
            on_stored: None,
        };
        self.insert(ordinal, entry);
        Ok(ordinal)
    }

    /// Takes in what an earlier run left. The bounds do not apply: what was promised is kept.
    pub fn restore(
        &mut self,
        ordinal: u64,
        room: RoomId,
        client_id: ClientId,
        send: wire::Send,
        failure: Option<Refused>,
    ) {
        self.next_ordinal = self.next_ordinal.max(ordinal + 1);
        let stage = if failure.is_some() { Stage::Failed } else { Stage::Waiting };
        let entry = Entry {
            room,
            client_id,
            send,
            stage,
            maybe_sent: true,
            refusals: 0,
            follows: false,
            held_back: false,
            put_off_since: None,
            failure,
            reply: None,
            on_stored: None,
        };
        self.insert(ordinal, entry);
    }

    fn insert(&mut self, ordinal: u64, entry: Entry) {
        self.bytes += entry.weight_bytes();
        self.by_client.insert(entry.client_id, ordinal);
        let (room, waits) = (entry.room, entry.stage != Stage::Failed);
        self.entries.insert(ordinal, entry);
        if waits {
            self.wait(room, ordinal);
        }
    }

    /// The message is on the disk (or needs none).
    pub fn stored(&mut self, ordinal: u64) {
        if let Some(entry) = self.entries.get_mut(&ordinal)
            && entry.stage == Stage::Storing
        {
            entry.stage = Stage::Waiting;
            let room = entry.room;
            self.list(room);
        }
    }

    /// Resolves when the message is on the disk.
    pub fn on_stored(&mut self, ordinal: u64) -> oneshot::Receiver<Result<(), Error>> {
        let (tell, told) = oneshot::channel();
        if let Some(entry) = self.entries.get_mut(&ordinal) {
            entry.on_stored = Some(tell);
        }
        told
    }

    /// Who waits until the message is on the disk.
    pub fn take_stored(&mut self, ordinal: u64) -> Option<oneshot::Sender<Result<(), Error>>> {
        self.entries.get_mut(&ordinal)?.on_stored.take()
    }

    /// The next message to send, if there is one: rooms take turns, each within its own order. It names the one in front of it if that
    /// is in flight.
    pub fn next(&mut self, now: Instant) -> Option<(u64, wire::Send)> {
        if self.flying >= self.bounds.in_flight {
            return None;
        }
        self.wake_delayed(now);
        while let Some(room) = self.round.pop_front() {
            let Some(queue) = self.rooms.get_mut(&room) else { continue };
            queue.listed = false;
            let most = self.bounds.in_flight_per_room;
            if queue.flying.len() >= queue.window.map_or(most, |window| window.min(most)) {
                continue;
            }
            let Some(&ordinal) = queue.waiting.front() else { continue };
            let Some(entry) = self.entries.get_mut(&ordinal) else { continue };
            if entry.stage != Stage::Waiting {
                continue;
            }
            let nanos = now.saturating_duration_since(self.born).as_nanos();
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            if entry.held_back {
                entry.held_back = false;
            } else if !entry.maybe_sent && entry.put_off_since.is_none() {
                self.retries.on_first_try(nanos);
            } else if self.thrifty && !self.retries.may_retry(nanos) {
                self.delay(room, now + BUDGET_WAIT);
                continue;
            }
            queue.waiting.pop_front();
            let in_front = queue.flying.range(..ordinal).next_back().copied();
            queue.flying.insert(ordinal);
            self.flying += 1;
            entry.stage = Stage::Flying;
            entry.maybe_sent = true;
            entry.follows = in_front.is_some();
            let mut send = entry.send.clone();
            let in_front = in_front.and_then(|ordinal| self.entries.get(&ordinal));
            send.after = in_front.map(|entry| entry.client_id.to_wire()).unwrap_or_default();
            self.list(room);
            return Some((ordinal, send));
        }
        None
    }

    /// When a room that waits may go on.
    pub fn next_wake(&self) -> Option<Instant> {
        self.delayed.iter().filter_map(|room| self.rooms.get(room)?.retry_at).min()
    }

    /// The receipt is there.
    pub fn sent(&mut self, ordinal: u64) -> Option<Finished> {
        let room = self.land(ordinal)?;
        if let Some(queue) = self.rooms.get_mut(&room) {
            let more = queue.window.map(|window| window + 1);
            queue.window = more.filter(|window| *window < self.bounds.in_flight_per_room);
        }
        self.remove(ordinal)
    }

    /// The server refused. For a time: it goes again after `wait`, and the room with it.
    pub fn refused(&mut self, ordinal: u64, refused: &Refused, wait: Duration, now: Instant) -> AfterRefusal {
        let Some(room) = self.land(ordinal) else { return AfterRefusal::Unknown };
        let Some(entry) = self.entries.get_mut(&ordinal) else { return AfterRefusal::Unknown };
        // An earlier try may have been stored, whatever this one was told.
        entry.maybe_sent |= refused.maybe_applied;
        entry.held_back = refused.code == Code::OutOfOrder && entry.follows;
        let is_held_back = entry.held_back;
        let patient = if is_held_back {
            // As often as the one in front of it is refused, and that has its bound.
            true
        } else if refused.busy.is_some() {
            now < *entry.put_off_since.get_or_insert(now) + PATIENCE
        } else {
            entry.refusals += 1;
            entry.refusals < REFUSALS_MAX
        };
        if refused.retryable && patient {
            entry.stage = Stage::Waiting;
            self.wait(room, ordinal);
            if !is_held_back {
                // Otherwise the time of the one in front is the time of all.
                self.delay(room, now + wait);
            }
            if let Some(queue) = self.rooms.get_mut(&room) {
                queue.window = Some(1);
            }
            return AfterRefusal::Again;
        }
        entry.stage = Stage::Failed;
        entry.failure = Some(refused.clone());
        self.list(room);
        AfterRefusal::Failed
    }

    /// How often the message was refused so far.
    pub fn refusals(&self, ordinal: u64) -> u32 {
        self.entries.get(&ordinal).map_or(0, |e| e.refusals)
    }

    /// The app's wait for the receipt, to be resolved by whoever ends it.
    pub fn take_reply(&mut self, ordinal: u64) -> Option<Reply> {
        self.entries.get_mut(&ordinal)?.reply.take()
    }

    /// The connection is gone: what was in flight has an unknown outcome and goes again, first.
    pub fn rewind(&mut self) {
        let mut flying: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, e)| e.stage == Stage::Flying)
            .map(|(o, e)| (*o, e.room))
            .collect();
        flying.sort_unstable();
        for (ordinal, room) in flying {
            if let Some(entry) = self.entries.get_mut(&ordinal) {
                entry.stage = Stage::Waiting;
            }
            self.wait(room, ordinal);
        }
        for queue in self.rooms.values_mut() {
            queue.flying.clear();
        }
        self.flying = 0;
    }

    /// Takes a message back that was certainly never sent.
    pub fn cancel(&mut self, client_id: ClientId) -> Option<(u64, Finished)> {
        let ordinal = *self.by_client.get(&client_id)?;
        let entry = self.entries.get(&ordinal)?;
        let certain = !entry.maybe_sent && entry.stage != Stage::Flying && entry.stage != Stage::Storing;
        if certain { Some((ordinal, self.remove(ordinal)?)) } else { None }
    }

    /// Forgets a message that is not in flight, whatever became of it.
    pub fn discard(&mut self, client_id: ClientId) -> Option<(u64, Finished)> {
        let ordinal = *self.by_client.get(&client_id)?;
        let entry = self.entries.get(&ordinal)?;
        let idle = matches!(entry.stage, Stage::Waiting | Stage::Failed);
        if idle { Some((ordinal, self.remove(ordinal)?)) } else { None }
    }

    /// Forgets a message that could not be stored.
    pub fn drop_unstored(&mut self, ordinal: u64) -> Option<Finished> {
        if self.entries.get(&ordinal)?.stage == Stage::Storing { self.remove(ordinal) } else { None }
    }

    /// Gives a failed message another chance, wherever in its room that is now: those that were sent after it may have gone before; its ordinal and content, to be stored as waiting again.
    pub fn retry(&mut self, client_id: ClientId) -> Option<(u64, RoomId, wire::Send)> {
        let ordinal = *self.by_client.get(&client_id)?;
        let entry = self.entries.get_mut(&ordinal)?;
        if entry.stage != Stage::Failed {
            return None;
        }
        entry.stage = Stage::Waiting;
        entry.failure = None;
        entry.refusals = 0;
        entry.put_off_since = None;
        let (room, send) = (entry.room, entry.send.clone());
        self.wait(room, ordinal);
        Some((ordinal, room, send))
    }

    /// What a message says and whose it is.
    pub fn entry(&self, ordinal: u64) -> Option<(RoomId, ClientId, &wire::Send)> {
        self.entries.get(&ordinal).map(|e| (e.room, e.client_id, &e.send))
    }

    /// Everything that has no receipt, in the order of the sends.
    pub fn list_all(&self) -> Vec<OutboxItem> {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_unstable_by_key(|(ordinal, _)| **ordinal);
        let item = |(_, e): (&u64, &Entry)| OutboxItem {
            room: e.room,
            client_id: e.client_id,
            body: e.send.body.clone(),
            mentions: e.send.mentions.clone(),
            state: e.state(),
        };
        all.into_iter().map(item).collect()
    }

    /// Messages without a receipt.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Messages in flight.
    pub fn in_flight(&self) -> usize {
        self.flying
    }

    /// Ends every wait with `error`.
    pub fn fail_waits(&mut self, error: &Error) {
        for reply in self.entries.values_mut().filter_map(|e| e.reply.take()) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Takes a message out of flight.
    fn land(&mut self, ordinal: u64) -> Option<RoomId> {
        let entry = self.entries.get(&ordinal)?;
        if entry.stage != Stage::Flying {
            return None;
        }
        let room = entry.room;
        self.flying = self.flying.saturating_sub(1);
        if let Some(queue) = self.rooms.get_mut(&room) {
            queue.flying.remove(&ordinal);
        }
        self.list(room);
        Some(room)
    }

    fn remove(&mut self, ordinal: u64) -> Option<Finished> {
        let entry = self.entries.remove(&ordinal)?;
        self.by_client.remove(&entry.client_id);
        self.bytes = self.bytes.saturating_sub(entry.weight_bytes());
        if let Some(queue) = self.rooms.get_mut(&entry.room) {
            if let Ok(at) = queue.waiting.binary_search(&ordinal) {
                queue.waiting.remove(at);
            }
            if queue.waiting.is_empty() && queue.flying.is_empty() {
                self.rooms.remove(&entry.room);
                self.delayed.retain(|room| *room != entry.room);
            } else {
                // What stood behind it may be next now.
                self.list(entry.room);
            }
        }
        Some(Finished { room: entry.room, client_id: entry.client_id, send: entry.send, reply: entry.reply })
    }

    /// Puts a message into its room's queue, at its place.
    fn wait(&mut self, room: RoomId, ordinal: u64) {
        let waiting = &mut self.rooms.entry(room).or_default().waiting;
        if let Err(at) = waiting.binary_search(&ordinal) {
            waiting.insert(at, ordinal);
        }
        self.list(room);
    }

    /// Puts a room into the round, unless it stands there or has to wait.
    fn list(&mut self, room: RoomId) {
        if let Some(queue) = self.rooms.get_mut(&room)
            && !queue.listed
            && queue.retry_at.is_none()
            && !queue.waiting.is_empty()
        {
            queue.listed = true;
            self.round.push_back(room);
        }
    }

    fn delay(&mut self, room: RoomId, until: Instant) {
        if let Some(queue) = self.rooms.get_mut(&room) {
            if queue.retry_at.is_none() {
                self.delayed.push(room);
            }
            queue.retry_at = Some(queue.retry_at.map_or(until, |at| at.max(until)));
            if queue.listed {
                queue.listed = false;
                self.round.retain(|r| *r != room);
            }
        }
    }

    fn wake_delayed(&mut self, now: Instant) {
        if self.delayed.is_empty() {
            return;
        }
        let (mut due, mut later) = (Vec::new(), Vec::new());
        for room in std::mem::take(&mut self.delayed) {
            match self.rooms.get_mut(&room) {
                Some(queue) if queue.retry_at.is_some_and(|at| at > now) => later.push(room),
                Some(queue) => {
                    queue.retry_at = None;
                    due.push(room);
                }
                None => {}
            }
        }
        self.delayed = later;
        for room in due {
            self.list(room);
        }
    }
}

fn weight_bytes(send: &wire::Send) -> usize {
    OVERHEAD_BYTES + send.body.len() + send.mentions.iter().map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests;
