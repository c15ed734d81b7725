//! The backend's end of a lane: begins requests in their order, answers them as they are done.
//!
//! Why it exists: the order of a session's requests must survive the network, so one task begins all requests of a lane.
//! A request that fails by a panic is answered and counted; the others of its lane go on. It must never begin more than it
//! can answer: while answers are slow to leave, nothing new is read, and the caller's queue fills instead of ours.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use buslane_shared::wire::relay_frame::Kind;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{RELAY, terms};
use crate::api::{Backend, Call};
use crate::trace::{self, Span};

/// Requests of one lane at work at a time. A caller has fewer places than this, so reaching it means a caller of another
/// version; its frames then wait in the connection's window.
const RUNNING_MAX: usize = 8192;

/// How long requests that are at work may take to be answered once the shutdown has begun.
const GOODBYE: Duration = Duration::from_secs(2);

/// What one request leaves behind: its number, and the answer unless it was given up.
type Ended = (u64, Option<wire::Answer>);

/// Serves one lane until its stream ends, or the backend does.
pub(super) async fn serve(
    mut frames: Streaming<wire::RelayFrame>,
    backend: Backend,
    to: mpsc::Sender<wire::RelayAnswer>,
    ending: CancellationToken,
) {
    let mut lane = Running {
        backend: &backend,
        running: FuturesUnordered::new(),
        handles: HashMap::new(),
        done: VecDeque::new(),
    };
    loop {
        tokio::select! {
            Some(ended) = lane.running.next() => lane.on_ended(ended),
            // Never waited for alone: a request that holds its turn in a room goes on while answers are slow to leave.
            place = to.reserve(), if !lane.done.is_empty() => match (place, lane.done.pop_front()) {
                (Ok(place), Some(answer)) => place.send(answer),
                _ => return,
            },
            frame = frames.message(), if lane.running.len() + lane.done.len() < RUNNING_MAX => match frame {
                Ok(Some(frame)) => lane.on_frame(frame),
                // The stream is broken or closed: nobody is there to be answered.
                Ok(None) | Err(_) => return,
            },
            () = ending.cancelled() => break,
        }
    }
    let last = async {
        while let Some(ended) = lane.running.next().await {
            lane.on_ended(ended);
        }
        for answer in std::mem::take(&mut lane.done) {
            if to.send(answer).await.is_err() {
                return;
            }
        }
    };
    // What is still at work after that is answered by the end of the stream: it may have been done.
    let _ = tokio::time::timeout(GOODBYE, last).await;
}

struct Running<'a> {
    backend: &'a Backend,
    running: FuturesUnordered<BoxFuture<'a, Ended>>,
    handles: HashMap<u64, AbortHandle>,
    /// Answers that wait for a place on their way.
    done: VecDeque<wire::RelayAnswer>,
}

impl<'a> Running<'a> {
    fn on_frame(&mut self, frame: wire::RelayFrame) {
        let no = frame.no;
        match frame.kind {
            Some(Kind::Request(relay)) => {
                let now = Instant::now();
                match terms::from_wire(relay, now) {
                    Ok((call, _)) if call.deadline <= now => self.refuse(no, Refusal::of(Code::Deadline)),
                    Ok((call, request)) => self.begin(no, call, request),
                    Err(e) => self.refuse(no, Refusal::field("session", e)),
                }
            }
            Some(Kind::GivenUp(_)) => {
                if let Some(handle) = self.handles.remove(&no) {
                    handle.abort();
                }
            }
            // A frame of a newer version.
            None => {}
        }
    }

    fn begin(&mut self, no: u64, call: Call, request: wire::Request) {
        let (handle, registration) = AbortHandle::new_pair();
        let id = request.id;
        let mut span = Span::call(call.parent, RELAY, trace::Kind::Server);
        let call = Call { parent: span.context(), ..call };
        // Unconstrained: the runtime's budget would send every 128th request to the back, and reverse their order.
        let work = Abortable::new(unconstrained(self.backend.relay(call, request)), registration);
        self.handles.insert(no, handle);
        self.running.push(Box::pin(async move {
            // The backend's shared state stays sound when a request panics: decisions are made under locks, and a lock that
            // was held is released.
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(answer)) => {
                    span.answered(&answer);
                    (no, Some(answer))
                }
                Ok(Err(_given_up)) => (no, None),
                Err(_) => {
                    metrics::counter!("buslane_rpc_panics_total").increment(1);
                    tracing::error!(no, "a relayed request panicked");
                    let refusal = Refusal::of(Code::Internal).maybe_applied();
                    span.fail(Code::Internal.name());
                    (no, Some(wire::Answer { id, ..refusal.into() }))
                }
            }
        }));
    }

    fn refuse(&mut self, no: u64, refusal: Refusal) {
        self.running.push(Box::pin(std::future::ready((no, Some(refusal.into())))));
    }

    fn on_ended(&mut self, (no, answer): Ended) {
        self.handles.remove(&no);
        if let Some(answer) = answer {
            self.done.push_back(wire::RelayAnswer { no, answer: Some(answer) });
        }
    }
}
