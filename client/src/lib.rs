//! The SDK of Buslane: a client that stays connected, keeps what is written until the server has it, passes on each message of
//! each room once and in order, and never says more about its state than it knows.
//!
//! ```no_run
//! use buslane_client::{CaSource, Client, Event, Options, Storage};
//!
//! # async fn example() -> Result<(), buslane_client::Error> {
//! let user = "alice".parse().expect("a valid name");
//! let ca = CaSource::File("ca.pem".into());
//! let client = Client::open(Options::new(user, "127.0.0.1:7400", ca, Storage::Directory("alice".into()))).await?;
//!
//! let bob = "bob".parse().expect("a valid name");
//! let room = client.room_direct(&bob).await?.id;
//! // Ready when the message is in the outbox: from here on it arrives, over lost connections and restarts, once.
//! let outgoing = client.send(room, "hello").await?;
//! // Ready when the message is on the server's stable storage.
//! println!("message {} of the room", outgoing.receipt().await?.seq);
//!
//! let mut events = client.events();
//! while let Some(event) = events.next().await {
//!     if let Event::Message(message) = event {
//!         println!("{}: {}", message.sender, message.text().unwrap_or("(no text)"));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`state`] (what an app sees), `supervisor.rs` (staying in), `access.rs` (getting in), `connection.rs` (one
//! session), and the decisions they drive: `pending.rs` (the outbox), `inbox.rs` (order and gaps), `recovery.rs` (what a failure
//! means), `way.rs` (which port, with what).
//!
//! Everything is bounded, nothing panics on what a server sends, and no payload, credential or ticket is ever logged.
//! Every future may be dropped at any time.

pub mod conditions;
pub mod error;
pub mod events;
pub mod gate;
pub mod identity;
pub mod options;
pub mod outbox;
pub mod session;
pub mod state;
pub mod transport;
pub mod types;

mod access;
mod bulk;
mod calls;
mod connection;
mod core;
mod frames;
mod inbox;
mod marks;
mod passes;
mod pending;
mod promotion;
mod recovery;
mod sent;
mod slot;
mod store;
mod supervisor;
mod way;

/// The layer below: connections to a gateway and to a session manager with nothing in between, for tools that want every
/// request in their own hands. No reconnecting, no outbox, no ordering.
pub mod raw {
    pub use crate::frames::FrameReader;
    pub use crate::gate::{Credential, Entry, Gate, Right};
    pub use crate::identity::Identity;
    pub use crate::session::{Door, Hello, Session, Token, answered};
    pub use crate::transport::{Protocol, Transport};
}

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use buslane_shared::id::{DeviceId, RoomId, UserId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use buslane_shared::class::Class;
pub use conditions::Conditions;
pub use error::{Busy, Error, Overloaded, Refused};
pub use events::Events;
pub use options::{AppState, CaSource, EnrolRight, FirstLogin, Options, Storage, TokenProvider};
pub use outbox::{Outbox, OutboxItem, Outgoing, SendState};
pub use state::{CloseReason, State};
pub use types::{
    Change, Content, Device, EnrolCode, Event, Member, Message, NotifyMode, NotifySettings, Page, Posture,
    ReadCounts, Receipt, Role, Room, RoomKind,
};

use crate::core::{CALLS_WAITING_MAX, Core};
use crate::events::EventQueue;
use crate::identity::Identity;
use crate::inbox::Inbox;
use crate::marks::{Mark, Marks};
use crate::passes::PassBook;
use crate::pending::{Bounds, Pending};
use crate::sent::SentLog;
use crate::store::{Keep, Kept, Store};
use crate::supervisor::Supervisor;
use crate::transport::Transport;

/// How long [`Client::close`] takes at most: a second for the last answers, and the rest for the disk.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// How long the close is given to reach the server.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// A device of a user. Cheap to clone; all clones are the same client, which ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.shutdown.cancel();
    }
}

impl Client {
    /// Opens the state on this device and begins to connect; it does not wait for a connection. Must be called in a Tokio
    /// runtime, on which the client then lives.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let transport = Transport::new(&options.ca)?;
        Self::open_on(options, transport).await
    }

    /// As [`Client::open`], over a transport that other clients of this process share ([`Options::ca`] is not used).
    pub async fn open_on(options: Options, transport: Transport) -> Result<Self, Error> {
        options.check()?;
        let (identity, store, kept) = open_storage(&options).await?;
        let bounds = Bounds {
            messages: options.outbox_messages_max,
            bytes: options.outbox_bytes_max,
            in_flight: options.in_flight,
            in_flight_per_room: options.in_flight_per_room,
        };
        let mut outbox = Pending::new(bounds, Instant::now());
        for send in kept.outbox {
            outbox.restore(send.ordinal, send.room, send.client_id, send.send, send.failure);
        }
        let fresh = (!kept.seen_rooms).then_some(options.first_login);
        let inbox = Inbox::new(kept.cursors, fresh);
        let (calls, waiting) = mpsc::channel(CALLS_WAITING_MAX);
        let core = Arc::new(Core {
            app_state: Mutex::new(options.app_state),
            passes: Mutex::new(PassBook::default()),
            options,
            transport,
            identity,
            store,
            outbox: Mutex::new(outbox),
            sent: Mutex::new(SentLog::default()),
            events: EventQueue::default(),
            marks: Mutex::new(Marks::default()),
            dropped_calls: Mutex::new(Vec::new()),
            state: watch::Sender::new(State::Idle),
            caught_up: watch::Sender::new(false),
            conditions: watch::Sender::default(),
            wake: Notify::new(),
            hurry: Notify::new(),
            promote: Notify::new(),
            calls,
            shutdown: CancellationToken::new(),
            next_id: AtomicU64::new(1),
        });
        let told = Arc::downgrade(&core);
        core.store.on_stored(Arc::new(move |ordinals, outcome| {
            if let Some(core) = told.upgrade() {
                core.on_stored(ordinals, &outcome);
            }
        }));
        let supervisor = Supervisor::new(core.clone(), waiting, inbox, kept.credential);
        let supervisor = Mutex::new(Some(tokio::spawn(supervisor.run())));
        Ok(Self { handle: Arc::new(Handle { core, supervisor }) })
    }

    /// Who this is.
    pub fn user(&self) -> &UserId {
        &self.handle.core.options.user
    }

    /// Which device this is.
    pub fn device(&self) -> DeviceId {
        self.handle.core.identity.device()
    }

    /// The state, now and as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.handle.core.state.subscribe()
    }

    /// What the server does now and asks of this client, now and as it changes.
    pub fn conditions(&self) -> watch::Receiver<Conditions> {
        self.handle.core.conditions.subscribe()
    }

    /// Waits until there is a session; fails when the client is closed first, or with the last cause after `limit`.
    pub async fn connected(&self, limit: Duration) -> Result<(), Error> {
        let mut state = self.state();
        let decided = state.wait_for(|s| s.is_up() || matches!(s, State::Closed { .. }));
        match tokio::time::timeout(limit, decided).await {
            Ok(Ok(state)) => match &*state {
                State::Closed { reason } => Err(reason.error()),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(match &*self.handle.core.state.borrow() {
                State::Connecting { cause: Some(cause), .. }
                | State::Reconnecting { cause, .. }
                | State::Suspended { cause: Some(cause), .. } => cause.clone(),
                _ => Error::Timeout { after: limit },
            }),
        }
    }

    /// Everything that this device hears. There is one stream: a new one takes over, and the one before ends.
    pub fn events(&self) -> Events {
        Events::of(self.handle.core.clone())
    }

    /// Puts a message into the outbox. Ready when it is there (on the disk, unless the storage keeps none): from then on it
    /// is sent, whatever happens to the returned handle. A future that is dropped earlier has put it there or not.
    pub async fn send(&self, room: RoomId, body: impl Into<Bytes>) -> Result<Outgoing, Error> {
        self.send_mentioning(room, body, Vec::new()).await
    }

    /// As [`Client::send`], asking for the attention of users, who must be members.
    pub async fn send_mentioning(
        &self,
        room: RoomId,
        body: impl Into<Bytes>,
        mentions: Vec<String>,
    ) -> Result<Outgoing, Error> {
        self.handle.core.send(room, calls::fresh_id(), body.into(), mentions).await
    }

    /// What has no receipt yet.
    pub fn outbox(&self) -> Outbox {
        Outbox { core: self.handle.core.clone() }
    }

    /// The user has read a room up to a message. Told to the server soon, together with others.
    pub fn mark_read(&self, room: RoomId, seq: u64) {
        self.handle.core.mark(room, Mark { delivered: 0, read: seq });
    }

    /// A person looks at the app: what the server put off for a phone that nobody looked at is tried at once, and a session
    /// that began on the background port moves to the foreground port.
    pub fn enter_foreground(&self) {
        self.set_app_state(AppState::Foreground);
    }

    /// Nobody looks at the app any more.
    pub fn enter_background(&self) {
        self.set_app_state(AppState::Background);
    }

    fn set_app_state(&self, state: AppState) {
        *self.handle.core.app_state.lock() = state;
        self.handle.core.wake.notify_one();
        if state == AppState::Foreground {
            self.handle.core.hurry.notify_one();
            self.handle.core.promote.notify_one();
        }
    }

    /// The device has changed its network: all connections move to new sockets, and a try that waits is made now (unless the
    /// server has named the time).
    pub fn network_changed(&self) {
        self.handle.core.transport.rebind();
        self.handle.core.wake.notify_one();
        self.handle.core.hurry.notify_one();
    }

    /// Fetches what was missed, for an app that a push has woken for a short time: true when every room is as far as the
    /// server's log, false when `limit` is over first. The messages come by [`Client::events`], which must be read meanwhile.
    pub async fn fetch_pending(&self, limit: Duration) -> bool {
        self.handle.core.hurry.notify_one();
        let mut caught_up = self.handle.core.caught_up.subscribe();
        let closed = async {
            let _ = self.state().wait_for(|s| matches!(s, State::Closed { .. })).await;
        };
        let fetched = async {
            tokio::select! {
                reached = caught_up.wait_for(|reached| *reached) => reached.is_ok(),
                () = closed => false,
            }
        };
        tokio::time::timeout(limit, fetched).await.unwrap_or(false)
    }

    /// Ends the client: waits a moment for what is on its way, tells the server, and writes the state. Takes a few seconds
    /// at most; a second call does nothing. Messages without a receipt stay in a durable outbox.
    pub async fn close(&self) {
        self.handle.core.shutdown.cancel();
        let supervisor = self.handle.supervisor.lock().take();
        if let Some(mut supervisor) = supervisor
            && tokio::time::timeout(CLOSE_LIMIT, &mut supervisor).await.is_err()
        {
            supervisor.abort();
        }
        self.handle.core.transport.settle(SETTLE_LIMIT).await;
        let core = self.handle.core.clone();
        let written = tokio::task::spawn_blocking(move || core.store.close());
        if tokio::time::timeout(CLOSE_LIMIT, written).await.is_err() {
            tracing::error!("the client's state was not written in time");
        }
    }
}

async fn open_storage(options: &Options) -> Result<(Identity, Store, Kept), Error> {
    let (folder, keep) = match &options.storage {
        Storage::Memory => return Ok((Identity::generate()?, Store::memory(), Kept::default())),
        Storage::IdentityOnly(folder) => (folder.clone(), Keep::Identity),
        Storage::Directory(folder) => (folder.clone(), Keep::Everything),
    };
    let (path, user) = (folder.display().to_string(), options.user.to_string());
    let opened = tokio::task::spawn_blocking(move || {
        let identity = Identity::load(&folder)?;
        let (store, kept) = Store::open(&folder, &user, keep)?;
        Ok((identity, store, kept))
    });
    let failed = |e: tokio::task::JoinError| Error::StateUnusable { path, detail: e.to_string() };
    opened.await.map_err(failed)?
}
