//! One ordered stream of requests to the backend, over a connection of its own.
//!
//! Why it exists: what a session sends has an order, and single calls of gRPC lose it between a caller's poll and the
//! callee's task (measured: 2,000 pipelined sends arrive shuffled). A stream keeps it, and costs a tenth of the headers. A
//! lane opens its stream when there is something to send, and again after a loss. It must never send a request twice: whose
//! answer was lost is told so, and decides himself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buslane_shared::wire;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::generated::backend_client::BackendClient;
use super::terms;
use crate::api::Call;

/// Calls of one lane that are queued or unanswered. Sixteen sessions with everything in flight; more callers wait, in
/// order, and at most until their deadline.
const CALLS_MAX: usize = 4096;

/// Frames on their way into the connection: enough to fill the packets of one write.
const FRAMES_QUEUE: usize = 256;

/// Between two tries to connect. Far shorter than a restart, far longer than a refused connection takes.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How a call ended without an answer.
#[derive(Debug, Clone)]
pub(super) enum Lost {
    /// There was no connection: the backend has certainly seen nothing of it.
    NeverSent(Status),
    /// It was on its way when the connection was lost.
    MaybeDone(Status),
}

/// The caller's end of a lane. Dropping it ends the lane.
pub(super) struct Lane {
    calls: Arc<Semaphore>,
    next_no: AtomicU64,
    jobs: mpsc::UnboundedSender<Job>,
    given_up: mpsc::UnboundedSender<u64>,
    _driver: AbortOnDropHandle<()>,
}

/// A request that waits to be sent. Both queues of a lane are unbounded in type only: whoever is in one holds a place.
struct Job {
    no: u64,
    call: Call,
    request: wire::Request,
    waiting: Waiting,
}

struct Waiting {
    reply: oneshot::Sender<Result<wire::Answer, Lost>>,
    _place: OwnedSemaphorePermit,
}

/// Tells the driver that nobody waits any more, however the caller's future ended.
struct GiveUp<'a> {
    no: u64,
    answered: bool,
    to: &'a mpsc::UnboundedSender<u64>,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // An error means that the lane has ended, and everything with it.
            let _ = self.to.send(self.no);
        }
    }
}

impl Lane {
    /// A lane over this connection. Call it inside the runtime on which it is to live.
    pub(super) fn new(client: BackendClient<Channel>) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (given_up, cancels) = mpsc::unbounded_channel();
        let driver = Driver { client, jobs: queue, cancels, pending: Mutex::default() };
        Self {
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            next_no: AtomicU64::new(1),
            jobs,
            given_up,
            _driver: AbortOnDropHandle::new(tokio::spawn(driver.run())),
        }
    }

    /// Sends a request and waits for its answer. Requests are sent in the order in which these futures are first polled;
    /// dropping one gives the request up.
    pub(super) async fn relay(&self, call: Call, request: wire::Request) -> Result<wire::Answer, Lost> {
        let ended = || Lost::MaybeDone(Status::unavailable("the lane to the backend has ended"));
        // Unconstrained: the runtime's budget would send every 128th caller of a task to the back, in reverse order.
        let place = unconstrained(self.calls.clone().acquire_owned()).await.map_err(|_| ended())?;
        let no = self.next_no.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let job = Job { no, call, request, waiting: Waiting { reply, _place: place } };
        self.jobs.send(job).map_err(|_| ended())?;
        let mut guard = GiveUp { no, answered: false, to: &self.given_up };
        let answer = answer.await;
        guard.answered = true;
        answer.unwrap_or_else(|_| Err(ended()))
    }
}

struct Driver {
    client: BackendClient<Channel>,
    jobs: mpsc::UnboundedReceiver<Job>,
    cancels: mpsc::UnboundedReceiver<u64>,
    pending: Mutex<HashMap<u64, Waiting>>,
}

impl Driver {
    async fn run(mut self) {
        while let Some(first) = self.next_wanted().await {
            let (to, frames) = mpsc::channel(FRAMES_QUEUE);
            match self.client.relay(ReceiverStream::new(frames)).await {
                Ok(answers) => {
                    let why = self.drive(first, to, answers.into_inner()).await;
                    self.fail_pending(&why);
                }
                Err(why) => {
                    never_sent(first, &why);
                    self.pause(&why).await;
                }
            }
            // Without a stream nothing is pending, so there is nothing to give up.
            while self.cancels.try_recv().is_ok() {}
        }
    }

    /// The next request for whose answer somebody waits.
    async fn next_wanted(&mut self) -> Option<Job> {
        loop {
            let job = self.jobs.recv().await?;
            if !job.waiting.reply.is_closed() {
                return Some(job);
            }
        }
    }

    /// Carries requests and answers until the stream ends, and says why it did.
    async fn drive(
        &mut self,
        first: Job,
        to: mpsc::Sender<wire::RelayFrame>,
        answers: Streaming<wire::RelayAnswer>,
    ) -> Status {
        let Self { jobs, cancels, pending, .. } = self;
        // Two halves that never wait for each other: otherwise two full queues could wait for one another for ever.
        tokio::select! {
            why = take_answers(answers, pending) => why,
            () = send_requests(first, jobs, cancels, pending, to) => Status::unavailable("the lane was closed"),
        }
    }

    fn fail_pending(&mut self, why: &Status) {
        for (_, waiting) in self.pending.get_mut().drain() {
            let _ = waiting.reply.send(Err(Lost::MaybeDone(why.clone())));
        }
    }

    /// Without a connection everybody is told at once (none of them gets it sooner by waiting), and the next connection is
    /// not tried before the pause is over: callers are many, and each would try.
    async fn pause(&mut self, why: &Status) {
        let until = Instant::now() + CONNECT_PAUSE;
        while let Ok(Some(job)) = tokio::time::timeout_at(until, self.jobs.recv()).await {
            never_sent(job, why);
        }
    }
}

fn never_sent(job: Job, why: &Status) {
    let _ = job.waiting.reply.send(Err(Lost::NeverSent(why.clone())));
}

async fn send_requests(
    first: Job,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    cancels: &mut mpsc::UnboundedReceiver<u64>,
    pending: &Mutex<HashMap<u64, Waiting>>,
    to: mpsc::Sender<wire::RelayFrame>,
) {
    use wire::relay_frame::Kind;
    let mut job = Some(first);
    loop {
        let frame = match job.take() {
            Some(Job { waiting, .. }) if waiting.reply.is_closed() => None,
            Some(Job { no, call, request, waiting }) => {
                let relay = terms::to_wire(&call, request, Instant::now());
                // Known before it is sent: the answer may be quick.
                pending.lock().insert(no, waiting);
                Some(wire::RelayFrame { no, kind: Some(Kind::Request(relay)) })
            }
            None => None,
        };
        if let Some(frame) = frame
            && to.send(frame).await.is_err()
        {
            // The stream has broken; the other half says why.
            return std::future::pending().await;
        }
        tokio::select! {
            next = jobs.recv() => match next {
                Some(next) => job = Some(next),
                None => return,
            },
            Some(no) = cancels.recv() => {
                // Whoever gave up before his request was sent is not pending, and his request will not be sent.
                let was_sent = pending.lock().remove(&no).is_some();
                let frame = wire::RelayFrame { no, kind: Some(Kind::GivenUp(true)) };
                if was_sent && to.send(frame).await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

async fn take_answers(
    mut answers: Streaming<wire::RelayAnswer>,
    pending: &Mutex<HashMap<u64, Waiting>>,
) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                // Not pending: it was given up in the meantime.
                let waiting = pending.lock().remove(&answer.no);
                if let Some(waiting) = waiting {
                    let _ = waiting.reply.send(Ok(answer.answer.unwrap_or_default()));
                }
            }
            Ok(None) => return Status::unavailable("the backend has ended the stream"),
            Err(status) => return status,
        }
    }
}
