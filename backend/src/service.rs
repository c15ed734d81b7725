//! The backend as a service: started once, asked by gateways and session managers.
//!
//! The path of a message is `Core::send`, on one screen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_chassis::api::{BackendApi, Call};
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::trace::{Context, Kind, Span};
use buslane_shared::class::Protocol;
use buslane_shared::id::UserId;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, answer::Result as Outcome, request::Op};
use buslane_store::sealing::{SealError, Sealer};
use buslane_store::{Engine, StoreError};
use futures_util::future::BoxFuture;
use metrics::{counter, histogram};
use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;

use crate::codes::Issuer;
use crate::config::Config;
use crate::core::{Core, SendTurns, UserLocks};
use crate::cursors;
use crate::epochs::Epochs;
use crate::feed::Feed;
use crate::link;
use crate::loads::{self, Loads};
use crate::message::Received;
use crate::orders::Known;
use crate::pace::Pace;
use crate::registry::Registry;
use crate::retention;
use crate::revocations::Revocations;
use crate::rooms::Rooms;
use crate::tasks::Tasks;
use crate::token_keys;

/// How often idle things are let go and expired things forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// Why the backend did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key file does not belong to the store.
    #[error("the keys do not fit the store: {0}; start with the key file that belongs to this data folder")]
    Keys(#[from] SealError),
    /// The store does not take writes.
    #[error("the store cannot be taken over: {0}; see to the disk and start again")]
    Store(#[from] StoreError),
    /// Something stored cannot be used.
    #[error("the stored state cannot be used: {0}")]
    State(#[from] Refusal),
}

/// The backend.
pub struct Service {
    core: Arc<Core>,
}

impl Service {
    /// Takes the store over and begins to serve. Its tasks end with `shutdown`.
    pub async fn start(
        config: Config,
        engine: Arc<dyn Engine>,
        sealer: Sealer,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, StartError> {
        sealer.check().await?;
        let epochs = Epochs::take_over(&*engine, &config.node).await?;
        let (moves, moves_rx) = mpsc::channel(cursors::MOVES_QUEUED_MAX);
        let tasks = Tasks::here(shutdown.tracker().clone());
        let core = Arc::new(Core {
            rooms: Rooms::new(config.rooms_active_max),
            registry: Registry::new(tasks.clone()),
            feed: Feed::default(),
            loads: Loads::default(),
            orders: Known::default(),
            revocations: Revocations::default(),
            pace: Pace::new(&config.limits),
            user_locks: UserLocks::new(),
            send_turns: SendTurns::new(),
            tasks,
            stop: shutdown.token().clone(),
            config,
            engine,
            sealer,
            epochs,
            moves,
        });
        core.load_revocations()?;
        core.feed.set_nodes(Vec::new);
        let next_keys_ms = core.refresh_token_keys().await?;
        core.tasks.spawn(token_keys::run(core.clone(), next_keys_ms));
        core.tasks.spawn(cursors::run(core.clone(), moves_rx));
        core.tasks.spawn(retention::run(core.clone()));
        core.tasks.spawn(loads::run(core.clone()));
        core.tasks.spawn(tidy(core.clone()));
        tracing::info!(node = core.config.node, "backend started");
        Ok(Arc::new(Self { core }))
    }

    /// Makes a one-time code for the operator, with which one device of `user` is enrolled. The user need not exist.
    pub async fn make_code(&self, user: &UserId) -> Result<wire::EnrolCode, Refusal> {
        self.core.make_code(user, Issuer::Operator).await
    }

    /// What operators have ordered at this process, for everybody.
    pub fn take_orders(&self, orders: wire::OrderSet) {
        self.core.on_orders(orders);
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Why the store does not take writes, if it does not: for the readiness check.
    pub fn trouble(&self) -> Option<StoreError> {
        self.core.engine.trouble()
    }
}

impl Core {
    /// A message travels. The order of these lines is the promise: nothing is answered before it is durable.
    async fn send(self: &Arc<Self>, call: &Call, send: wire::Send) -> Result<wire::Receipt, Refusal> {
        let received = Received::message(call, send)?; //          its form is right
        let turn = self.send_turns.take(call.session, received.room).await; // none overtakes another on the way
        self.pace.send(&call.user)?; //                            its sender keeps the pace
        let room = self.room(received.room).await?; //             its room, loaded once
        // Under the room's lock: known → authorised → sequenced → sealed → queued (`Room::submit`). Then the commit makes
        // the receipt and, after that, the fan-out in the room's order (`pump`).
        let receipt = self.commit(&room, received, turn).await?;
        let receipt = receipt.ok_or_else(|| Refusal::of(Code::Internal))?;
        Ok(wire::Receipt {
            room: room.id.to_wire(),
            seq: receipt.seq,
            sent_at_ms: receipt.sent_at_ms,
            duplicate: receipt.duplicate,
        })
    }

    /// Runs what writes first and then tells the rest of the process, whether or not anybody still waits for it: stopped
    /// half-way, the store would hold a revocation or a block that nothing obeys.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.tasks.spawn(work).await.unwrap_or_else(|_| Err(Refusal::of(Code::Internal).maybe_applied()))
    }

    async fn run(self: &Arc<Self>, call: &Call, op: Op) -> Result<Outcome, Refusal> {
        if self.revocations.holds(call.device) {
            return Err(Refusal::of(Code::Revoked));
        }
        if is_change(&op) {
            self.pace.change(&call.user)?;
        }
        let done = |()| Outcome::Done(wire::Done {});
        match op {
            Op::Send(r) => self.send(call, r).await.map(Outcome::Receipt),
            Op::Sync(r) => self.sync(call, r).await.map(Outcome::Batch),
            Op::History(r) => self.history(call, r).await.map(Outcome::Batch),
            Op::Mark(r) => self.mark(call, r).await.map(done),
            Op::ReadCounts(r) => self.read_counts(call, r).await.map(Outcome::ReadCounts),
            Op::OpenDirect(r) => {
                let (core, call) = (self.clone(), call.clone());
                self.to_the_end(async move { core.open_direct(&call, r).await }).await.map(Outcome::Room)
            }
            Op::CreateRoom(r) => self.create_room(call, r).await.map(Outcome::Room),
            Op::Invite(r) => self.invite(call, r).await.map(done),
            Op::Join(r) => self.join(call, r).await.map(Outcome::Room),
            Op::Leave(r) => self.leave(call, r).await.map(done),
            Op::Kick(r) => self.kick(call, r).await.map(done),
            Op::ListMembers(r) => self.list_members(call, r).await.map(Outcome::Members),
            Op::ListRooms(r) => self.list_rooms(call, r).await.map(Outcome::Rooms),
            Op::DescribeRoom(r) => self.describe_room(call, r).await.map(Outcome::Room),
            Op::SetNotify(r) => {
                let (core, call) = (self.clone(), call.clone());
                self.to_the_end(async move { core.set_notify(&call, r).await }).await.map(done)
            }
            Op::SetBlock(r) => {
                let (core, call) = (self.clone(), call.clone());
                self.to_the_end(async move { core.set_block(&call, r).await }).await.map(done)
            }
            Op::ListBlocked(_) => {
                let users = self.blocked(&call.user)?.iter().map(ToString::to_string).collect();
                Ok(Outcome::Users(wire::UserList { users }))
            }
            Op::ListDevices(_) => self.list_devices(call).map(Outcome::Devices),
            Op::RevokeDevice(r) => {
                let (core, call) = (self.clone(), call.clone());
                self.to_the_end(async move { core.revoke_device(&call, r).await }).await.map(done)
            }
            Op::MakeCode(_) => self.make_code(&call.user, Issuer::User).await.map(Outcome::Code),
            // Answered by the session manager; here they are unknown.
            Op::Ping(_) | Op::SetAppState(_) => Err(Refusal::of(Code::Unsupported)),
        }
    }

    async fn answer(self: &Arc<Self>, call: Call, request: wire::Request) -> wire::Answer {
        let Some(op) = request.op else {
            return wire::Answer { id: request.id, ..Refusal::of(Code::Unsupported).into() };
        };
        let (protocol, writes) = (Protocol::of(&op).name(), writes(&op));
        let mut span = Span::child(call.parent, protocol, Kind::Internal);
        span.note("buslane.role", "backend");
        let call = Call { parent: span.context(), ..call };
        let began = Instant::now();
        let result = tokio::time::timeout_at(call.deadline, Box::pin(self.run(&call, op))).await;
        let result = result.unwrap_or_else(|_| {
            let late = Refusal::of(Code::Deadline);
            Err(if writes { late.maybe_applied() } else { late })
        });
        counter!("buslane_backend_requests_total", "protocol" => protocol).increment(1);
        histogram!("buslane_backend_request_seconds", "protocol" => protocol)
            .record(began.elapsed().as_secs_f64());
        match result {
            Ok(outcome) => wire::Answer { id: request.id, result: Some(outcome) },
            Err(refusal) => {
                counter!("buslane_backend_refusals_total", "code" => refusal.code.name()).increment(1);
                span.fail(refusal.code.name());
                tracing::debug!(trace = format_args!("{:032x}", call.trace), user = %call.user, protocol, %refusal, "refused");
                wire::Answer { id: request.id, ..refusal.into() }
            }
        }
    }
}

impl BackendApi for Service {
    fn relay(&self, call: Call, request: wire::Request) -> BoxFuture<'_, wire::Answer> {
        // Unconstrained: beyond 128 requests of one session in flight, the runtime's budget would turn back those that
        // wait for a place in the store and wake them in reverse, and a session's sends would lose their order.
        Box::pin(unconstrained(self.core.answer(call, request)))
    }

    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        Box::pin(async move {
            let mut span = Span::child(Context::current(), "enrol", Kind::Internal);
            span.note("buslane.role", "backend");
            let enrolled = self.core.enrol(request).await;
            enrolled.inspect_err(|refusal| span.fail(refusal.code.name()))
        })
    }

    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        let stream = self
            .core
            .feed
            .subscribe(request.role())
            .ok_or_else(|| Refusal::new(Code::Busy, "too many feeds; try again later"));
        Box::pin(std::future::ready(stream))
    }

    fn link(
        &self,
        up: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        Box::pin(std::future::ready(Ok(link::attach(&self.core, up))))
    }
}

/// Requests that write, and so may have been done when there is no answer.
fn writes(op: &Op) -> bool {
    matches!(op, Op::Send(_) | Op::Mark(_) | Op::OpenDirect(_)) || is_change(op)
}

/// Requests that a person makes now and then.
fn is_change(op: &Op) -> bool {
    matches!(
        op,
        Op::CreateRoom(_)
            | Op::Invite(_)
            | Op::Join(_)
            | Op::Leave(_)
            | Op::Kick(_)
            | Op::SetNotify(_)
            | Op::SetBlock(_)
            | Op::RevokeDevice(_)
            | Op::MakeCode(_)
    )
}

/// Lets idle rooms go and forgets what has expired, until the backend stops.
async fn tidy(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIDY_EVERY) => {}
            () = core.stop.cancelled() => break,
        }
        let now_ms = core.now_ms();
        core.rooms.sweep(now_ms);
        let forgotten = async {
            core.forget_codes(now_ms).await?;
            core.forget_revocations(now_ms).await
        };
        if let Err(refusal) = forgotten.await {
            tracing::warn!(%refusal, "expired codes or revocations were not forgotten; trying again");
        }
    }
    core.feed.close();
}
