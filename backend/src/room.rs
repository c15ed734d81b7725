//! One active room: its members, its sequence, and what is on its way to the disk.
//!
//! Everything that decides about a message happens under one short lock: is it known, may its sender, which place, seal,
//! queue. So the order of places is the order of the store's queue, and a decision about who is a member is never older
//! than the place that it leads to. Nothing waits under the lock.
//!
//! When an append fails, the room is broken: it takes nothing any more, answers what was on the way, and is loaded anew from
//! the store, which alone knows what it has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buslane_shared::UnixMs;
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::membership::{Event, RoomState};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::sequencer::{Decision, Lookup, MessageKey, Sequencer};
use buslane_shared::wire::{NotifySettings, Role};
use buslane_store::sealing::RoomKey;
use buslane_store::{Engine, Epoch, Reservation, StoreError};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OnceCell, oneshot};

use crate::cursors::Cursors;
use crate::epochs::Epochs;
use crate::message::{Ask, Authorised, Received, Sealed, Sequenced, What};
use crate::pace::RoomPace;
use crate::refuse;

/// What the commit made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) seq: u64,
    pub(crate) sent_at_ms: UnixMs,
    pub(crate) duplicate: bool,
}

/// Who is told when a message is durable, or why it is not.
type Waiter = oneshot::Sender<Result<Receipt, Refusal>>;

/// The members at one moment, with their settings where they have some.
pub(crate) type Audience = Arc<Vec<(UserId, Option<NotifySettings>)>>;

/// A message that is queued in the store.
pub(crate) struct Pending {
    pub(crate) message: Sequenced,
    pub(crate) epoch: Epoch,
    /// Members as of this message.
    pub(crate) audience: Audience,
    /// Users whose relation to the room it changes.
    pub(crate) roles: Vec<(UserId, Role)>,
    commit: Option<BoxFuture<'static, Result<(), StoreError>>>,
    waiters: Vec<Waiter>,
    duplicates: Vec<Waiter>,
}

impl Pending {
    /// Tells everybody who waits.
    pub(crate) fn answer(&mut self, result: &Result<(), Refusal>) {
        let receipt = |duplicate| match result {
            Ok(()) => {
                let header = &self.message.header;
                Ok(Receipt { seq: header.seq, sent_at_ms: header.sent_at_ms, duplicate })
            }
            Err(refusal) => Err(refusal.clone()),
        };
        // Who no longer waits has cancelled or run out of time.
        self.waiters.drain(..).for_each(|w| drop(w.send(receipt(false))));
        self.duplicates.drain(..).for_each(|w| drop(w.send(receipt(true))));
    }
}

/// What came of handing a message to the room.
pub(crate) enum Submitted {
    /// It is on its way to the disk. `start`: nobody watches over this room's commits yet, the caller is to see to it.
    Pending { receipt: oneshot::Receiver<Result<Receipt, Refusal>>, start: bool },
    /// It is durable since an earlier send.
    Known(Receipt),
    /// It is in the log under this sequence since an earlier send.
    Stored(u64),
    /// There is nothing to write: what was asked for is so already.
    Nothing,
    /// What the caller knew is out of date: look again.
    LookAgain(Received, Reservation),
}

/// What the caller found out before the lock.
pub(crate) struct Ready<'a> {
    pub(crate) key: &'a RoomKey,
    pub(crate) epoch: Epoch,
    pub(crate) lookup: Lookup,
    /// What the message is to follow is in the room.
    pub(crate) in_order: bool,
    pub(crate) now_ms: UnixMs,
}

/// An active room.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) pace: RoomPace,
    pub(crate) key: OnceCell<Arc<RoomKey>>,
    pub(crate) cursors: OnceCell<Mutex<Cursors>>,
    /// One change of members at a time: the change, the users' lists and the stored state belong together.
    pub(crate) changing: tokio::sync::Mutex<()>,
    used_at_ms: AtomicU64,
    inner: Mutex<Inner>,
}

/// What is behind the lock.
pub(crate) struct Inner {
    pub(crate) state: RoomState,
    pub(crate) sequencer: Sequencer,
    /// Lowest sequence that is kept.
    pub(crate) first: u64,
    /// Membership events up to here are in the stored state.
    pub(crate) folded: u64,
    /// The state is being stored.
    pub(crate) folding: bool,
    pub(crate) notify: HashMap<UserId, NotifySettings>,
    /// Members of a direct room whom the other one blocks.
    pub(crate) blocked: HashSet<UserId>,
    /// Own messages that move a sender's read cursor and are not yet written as such.
    pub(crate) own_reads: HashMap<UserId, u64>,
    audience: Option<Audience>,
    pending: VecDeque<Pending>,
    pumping: bool,
    broken: Option<StoreError>,
    last_sent_ms: UnixMs,
}

impl Room {
    pub(crate) fn new(
        id: RoomId,
        pace: RoomPace,
        state: RoomState,
        head: u64,
        first: u64,
        folded: u64,
    ) -> Self {
        let inner = Inner {
            state,
            sequencer: Sequencer::after(head),
            first: first.max(1),
            folded,
            folding: false,
            notify: HashMap::new(),
            blocked: HashSet::new(),
            own_reads: HashMap::new(),
            audience: None,
            pending: VecDeque::new(),
            pumping: false,
            broken: None,
            last_sent_ms: 0,
        };
        Self {
            id,
            pace,
            key: OnceCell::new(),
            cursors: OnceCell::new(),
            changing: tokio::sync::Mutex::new(()),
            used_at_ms: AtomicU64::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// The room's state. Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Notes that somebody used the room.
    pub(crate) fn touch(&self, now_ms: UnixMs) {
        self.used_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When somebody last used the room.
    pub(crate) fn used_at_ms(&self) -> UnixMs {
        self.used_at_ms.load(Ordering::Relaxed)
    }

    /// Takes a message in: known, authorised, sequenced, sealed, queued, in this order and under the lock.
    pub(crate) fn submit(
        &self,
        engine: &dyn Engine,
        epochs: &Epochs,
        received: Received,
        place: Reservation,
        ready: &Ready<'_>,
    ) -> Result<Submitted, Refusal> {
        let mut inner = self.lock();
        if let Some(error) = &inner.broken {
            return Err(refuse::not_done(error.clone()));
        }
        let message_key: MessageKey = (received.sender.clone(), received.client_id);
        let seq = match inner.sequencer.decide(&message_key, ready.lookup) {
            Decision::Next(_) if epochs.now(self.id) != Some(ready.epoch) => {
                return Ok(Submitted::LookAgain(received, place));
            }
            Decision::Next(_) if !ready.in_order => return Err(Refusal::of(Code::OutOfOrder)),
            Decision::Next(seq) => seq,
            Decision::Known(known) if known.durable => {
                let receipt = Receipt { seq: known.seq, sent_at_ms: known.sent_at_ms, duplicate: true };
                return Ok(Submitted::Known(receipt));
            }
            Decision::Known(known) => return inner.wait_for(known.seq),
            Decision::Stored(seq) => return Ok(Submitted::Stored(seq)),
            Decision::LookAgain => return Ok(Submitted::LookAgain(received, place)),
        };
        let Some(authorised) = inner.authorise(received)? else { return Ok(Submitted::Nothing) };
        if authorised.event.is_none() {
            self.pace.send()?;
        }
        inner.last_sent_ms = inner.last_sent_ms.max(ready.now_ms);
        let sequenced = authorised.sequence(seq, inner.last_sent_ms);
        let sealed = sequenced.seal(ready.key, ready.epoch).map_err(refuse::not_done)?;
        inner.sequencer.take(message_key, sealed.sequenced.header.sent_at_ms);
        Ok(inner.queue(engine, place, sealed))
    }

    /// The commit to wait for next; `None`: nothing is on the way, and whoever submits next starts anew.
    pub(crate) fn next_commit(&self) -> Option<BoxFuture<'static, Result<(), StoreError>>> {
        let mut inner = self.lock();
        let commit = inner.pending.front_mut().and_then(|p| p.commit.take());
        inner.pumping = commit.is_some();
        commit
    }

    /// The commit of the oldest message has come to an end.
    pub(crate) fn settle(&self, result: &Result<(), StoreError>) -> Option<Pending> {
        let mut inner = self.lock();
        let pending = inner.pending.pop_front()?;
        match result {
            Ok(()) => inner.sequencer.committed(pending.message.header.seq),
            Err(error) => {
                // The first error says what is wrong; those behind it only no longer fit.
                inner.broken.get_or_insert_with(|| error.clone());
            }
        }
        Some(pending)
    }

    /// Why the room takes nothing any more, if it does not.
    pub(crate) fn broken(&self) -> Option<StoreError> {
        self.lock().broken.clone()
    }

    /// Whoever watched over the commits is gone: nothing can be answered any more, and the store knows what it has.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.broken.get_or_insert_with(|| StoreError::Stopped("the room's task has ended".into()));
        inner.pending.clear();
        inner.pumping = false;
    }
}

impl Inner {
    /// Nobody was ever in this room: it does not exist.
    pub(crate) fn is_unborn(&self) -> bool {
        self.sequencer.head() == 0 && self.state.everybody().next().is_none()
    }

    /// An append has failed: what is in memory may not be in the store.
    pub(crate) fn broken_now(&self) -> bool {
        self.broken.is_some()
    }

    /// Waits for the commit of a message that is on its way.
    fn wait_for(&mut self, seq: u64) -> Result<Submitted, Refusal> {
        let pending = self.pending.iter_mut().find(|p| p.message.header.seq == seq);
        let pending = pending.ok_or_else(|| Refusal::of(Code::Internal))?;
        let (tx, receipt) = oneshot::channel();
        pending.duplicates.push(tx);
        Ok(Submitted::Pending { receipt, start: false })
    }

    /// Whether the sender may. `None`: there is nothing to do.
    fn authorise(&self, received: Received) -> Result<Option<Authorised>, Refusal> {
        match &received.what {
            What::Message { mentions, .. } => {
                self.state.may_send(&received.sender, mentions)?;
                if self.blocked.contains(&received.sender) {
                    return Err(Refusal::of(Code::Blocked));
                }
                Ok(Some(Authorised { received, event: None }))
            }
            What::Change(ask) => {
                let event = self.authorise_change(&received.sender, ask)?;
                Ok(event.map(|event| Authorised { received, event: Some(event) }))
            }
        }
    }

    /// The event that a change comes to, if the user may ask for it. `None`: it is so already.
    pub(crate) fn authorise_change(&self, who: &UserId, ask: &Ask) -> Result<Option<Event>, Refusal> {
        Ok(match ask {
            Ask::Create { .. } if !self.is_unborn() => None,
            Ask::Create { title, members } => Some(Event::Created {
                creator: who.clone(),
                title: title.clone(),
                members: members.iter().filter(|m| *m != who).cloned().collect(),
            }),
            Ask::Invite(users) => self.state.may_invite(who, users)?,
            Ask::Join => self.state.may_join(who)?,
            Ask::Leave => Some(self.state.may_leave(who)?),
            Ask::Kick(whom) => Some(self.state.may_kick(who, whom)?),
        })
    }

    /// Queues a sealed message in the store, and folds it in when it is a change of members.
    fn queue(&mut self, engine: &dyn Engine, place: Reservation, sealed: Sealed) -> Submitted {
        let Sealed { sequenced, record, epoch } = sealed;
        let roles = match &sequenced.event {
            Some(event) => self.fold(sequenced.header.seq, event),
            None => Vec::new(),
        };
        let commit = engine.append(place, epoch, record);
        let audience = self.audience();
        let (tx, receipt) = oneshot::channel();
        self.pending.push_back(Pending {
            message: sequenced,
            epoch,
            audience,
            roles,
            commit: Some(commit),
            waiters: vec![tx],
            duplicates: Vec::new(),
        });
        let start = !std::mem::replace(&mut self.pumping, true);
        Submitted::Pending { receipt, start }
    }

    /// Folds an event in; the answer is whose relation to the room it changes, and into what.
    fn fold(&mut self, seq: u64, event: &Event) -> Vec<(UserId, Role)> {
        let owner_of = |state: &RoomState| {
            state.members().find(|(_, m)| m.role == Role::Owner).map(|(user, _)| user.clone())
        };
        let owner_before = owner_of(&self.state);
        self.state.apply(seq, event);
        self.audience = None;
        let mut users = match event {
            Event::Created { creator, members, .. } => {
                std::iter::once(creator).chain(members).cloned().collect::<Vec<_>>()
            }
            Event::Invited(users) => users.clone(),
            Event::Joined(user) | Event::Left(user) | Event::Kicked(user) => vec![user.clone()],
        };
        let owner = owner_of(&self.state);
        if owner != owner_before {
            users.extend(owner.filter(|heir| !users.contains(heir)));
        }
        users.into_iter().map(|user| (user.clone(), self.state.role(&user))).collect()
    }

    /// The members now, with their settings.
    pub(crate) fn audience(&mut self) -> Audience {
        let (state, notify) = (&self.state, &self.notify);
        let members = || state.members().map(|(user, _)| (user.clone(), notify.get(user).copied())).collect();
        self.audience.get_or_insert_with(|| Arc::new(members())).clone()
    }

    /// A member's settings have changed.
    pub(crate) fn set_notify(&mut self, user: UserId, settings: NotifySettings) {
        self.notify.insert(user, settings);
        self.audience = None;
    }
}
