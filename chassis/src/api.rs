//! How roles see each other: the backend as gateways and session managers call it.
//!
//! Two implementations: the backend itself (all roles in one process, no network between them) and
//! [`crate::rpc::RemoteBackend`] (gRPC over mTLS). A role never knows which one it has.

use std::sync::Arc;

use buslane_shared::class::Class;
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::refusal::Refusal;
use buslane_shared::wire;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::trace::Context;

/// On whose behalf a request is relayed, how important it is, and until when its answer is wanted.
#[derive(Debug, Clone)]
pub struct Call {
    /// The user of the session, verified.
    pub user: UserId,
    /// The device of the session, verified.
    pub device: DeviceId,
    /// The session, so that an event does not go back to its origin.
    pub session: SessionId,
    /// Importance of the request.
    pub class: Class,
    /// After this nobody waits for the answer.
    pub deadline: Instant,
    /// Joins the log lines of one request, and is the id of its trace where it has one.
    pub trace: u128,
    /// The span that it belongs to.
    pub parent: Context,
}

/// Capacity of the queues of a link. Beyond it deliveries are dropped and the devices catch up from the log.
pub const LINK_QUEUE: usize = 4096;

/// The backend, near or far.
pub trait BackendApi: Send + Sync + 'static {
    /// Runs one request of a client. Always answers; the request id is filled in.
    ///
    /// Writes of one session to one room are sequenced in the order in which these futures are first polled. For that,
    /// nothing before the sequencing may give way to the runtime's cooperative budget: it would send every 128th future of
    /// a task to the back and wake those in reverse (see [`tokio::task::coop::unconstrained`]).
    fn relay(&self, call: Call, request: wire::Request) -> BoxFuture<'_, wire::Answer>;

    /// Registers a device.
    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>>;

    /// Keys, nodes and revocations: first everything, then changes. The stream ends when the backend goes away.
    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>>;

    /// Attaches a session manager: what it reports goes up, what is to be delivered comes down. The link ends when either
    /// side drops its end.
    fn link(
        &self,
        up: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>>;
}

/// A shared handle of the backend.
pub type Backend = Arc<dyn BackendApi>;
