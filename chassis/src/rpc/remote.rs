//! The backend in another process, as [`BackendApi`].
//!
//! Why it exists: a session manager must not care where the backend runs. Talk has a connection of its own, so that bulk
//! and background never queue in front of it, and so have the long-lived streams. It must never answer later than the
//! deadline, and never claim that a write was not done when it may have been.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buslane_shared::class::{Class, is_write};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status, Streaming};

use super::generated::backend_client::BackendClient;
use super::lane::{Lane, Lost};
use super::{ENROL, MESSAGE_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT, RELAY, RpcError, door, terms};
use crate::api::{BackendApi, Call, LINK_QUEUE};
use crate::tls::Mtls;
use crate::trace::{self, Kind, Span};

/// A backend on the same network answers in milliseconds; on a far one in less than this.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// An enrolment has no deadline of its own: a gateway's client waits 10 s in all.
const ENROL_LIMIT: Duration = Duration::from_secs(8);

/// When to come back after the backend was not reached: about the time of a restart.
const RETRY_AFTER_MS: u32 = 1000;

/// Updates of the feed on their way; each is small, and the newest of a kind is all that counts.
const FEED_QUEUE: usize = 64;

/// Bytes under way on one connection and on one stream: a fan-out must not wait for a round trip.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// See [`CONNECTION_WINDOW_BYTES`].
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

type Client = BackendClient<Channel>;

/// Whether a request keeps its place among the others of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// It writes.
    Kept,
    /// It only reads.
    Free,
}

/// Lanes for talk. Each is one connection and one task at the backend, so this many processors can work for one session
/// manager's talk; a session always uses the same one.
const TALK_LANES: usize = 4;

/// The backend over gRPC. Connects when it is first needed, and again whenever it has to.
pub struct RemoteBackend {
    /// C0 to C3, what a person waits for, and every write.
    talk: [Lane; TALK_LANES],
    /// Everything else that is relayed.
    background: Lane,
    /// Enrolments, feed and link.
    client: Client,
    /// Ends the pumps of feeds and links together with this backend.
    ending: CancellationToken,
    _end: DropGuard,
}

impl RemoteBackend {
    /// The backend at `address` (host:port). Does not connect yet: a backend that is away is no reason not to start. Call
    /// it inside the runtime on which its connections are to live.
    pub fn new(address: &str, mtls: &Mtls) -> Result<Self, RpcError> {
        if address.parse::<tonic::codegen::http::uri::Authority>().ok().and_then(|a| a.port_u16()).is_none() {
            return Err(RpcError::BadAddress(address.to_owned()));
        }
        let config = Arc::new(mtls.identity.mutual_client_config(mtls.roots.clone(), &[b"h2"])?);
        let client = || {
            let connector =
                Connector { address: address.to_owned(), tls: TlsConnector::from(config.clone()) };
            BackendClient::new(endpoint().connect_with_connector_lazy(connector))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
        let ending = CancellationToken::new();
        Ok(Self {
            talk: std::array::from_fn(|_| Lane::new(client())),
            background: Lane::new(client()),
            client: client(),
            _end: ending.clone().drop_guard(),
            ending,
        })
    }

    /// The lane of a call. All writes of one session take the same lane, whatever its app state is at the time, so that
    /// their order is kept.
    fn lane(&self, call: &Call, order: Order) -> &Lane {
        if call.class > Class::Bulk && order == Order::Free {
            return &self.background;
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(call.session);
        self.talk.get(hash as usize % TALK_LANES).unwrap_or(&self.background)
    }

    async fn relay_within(&self, call: Call, request: wire::Request) -> Result<wire::Answer, Refusal> {
        let wrote = request.op.as_ref().is_some_and(is_write);
        let may_be_done = |refusal: Refusal| if wrote { refusal.maybe_applied() } else { refusal };
        let deadline = call.deadline;
        if deadline <= Instant::now() {
            return Err(Refusal::of(Code::Deadline));
        }
        let lane = self.lane(&call, if wrote { Order::Kept } else { Order::Free });
        match tokio::time::timeout_at(deadline, lane.relay(call, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Lost::NeverSent(status))) => Err(unavailable(&status)),
            Ok(Err(Lost::MaybeDone(status))) => Err(may_be_done(unavailable(&status))),
            Err(_) => Err(may_be_done(Refusal::of(Code::Deadline))),
        }
    }
}

impl BackendApi for RemoteBackend {
    fn relay(&self, call: Call, request: wire::Request) -> BoxFuture<'_, wire::Answer> {
        let id = request.id;
        Box::pin(async move {
            let mut span = Span::call(call.parent, RELAY, Kind::Client);
            let call = Call { parent: span.context_or(call.parent), ..call };
            let answer = self.relay_within(call, request).await.unwrap_or_else(wire::Answer::from);
            span.answered(&answer);
            wire::Answer { id, ..answer }
        })
    }

    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        use wire::enrol_device_answer::Result as Answer;
        let mut client = self.client.clone();
        Box::pin(async move {
            let mut span = Span::call(trace::Context::current(), ENROL, Kind::Client);
            let now = Instant::now();
            let deadline = now + ENROL_LIMIT;
            let mut request = Request::new(request);
            terms::write_deadline(deadline, request.metadata_mut(), now);
            span.context().write(request.metadata_mut());
            let answer = tokio::time::timeout_at(deadline, client.enrol(request)).await;
            let answer = answer.map_err(|_| Refusal::of(Code::Deadline).maybe_applied())?;
            let answer = answer.map_err(|status| unavailable(&status).maybe_applied())?.into_inner().result;
            // A refusal is an answer: the call itself has done what it is for.
            span.settle();
            match answer {
                Some(Answer::Enrolled(enrolled)) => Ok(enrolled),
                Some(Answer::Refusal(refusal)) => Err(from_wire(refusal)),
                None => Err(Refusal::of(Code::Internal)),
            }
        })
    }

    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        let mut client = self.client.clone();
        Box::pin(async move {
            let updates = client.feed(request).await.map_err(|status| refusal(&status))?;
            Ok(self.pump(updates.into_inner(), FEED_QUEUE, None))
        })
    }

    fn link(
        &self,
        up: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        let mut client = self.client.clone();
        Box::pin(async move {
            // HTTP/2 ends a call when both halves are gone: whoever drops the lower half must end the upper one too.
            let half = CancellationToken::new();
            let up = ReceiverStream::new(up).take_until(half.clone().cancelled_owned());
            let down = client.link(up).await.map_err(|status| refusal(&status))?;
            Ok(self.pump(down.into_inner(), LINK_QUEUE, Some(half.drop_guard())))
        })
    }
}

impl RemoteBackend {
    /// Carries what comes from the backend into a bounded queue. The task ends with the stream, with its reader, or with
    /// this backend; `other_half` goes with it.
    fn pump<T: Send + 'static>(
        &self,
        mut from: Streaming<T>,
        capacity: usize,
        other_half: Option<DropGuard>,
    ) -> mpsc::Receiver<T> {
        let (to, queue) = mpsc::channel(capacity);
        let ending = self.ending.clone();
        tokio::spawn(async move {
            let carry = async {
                // An error of the stream is its end: whoever reads the queue connects again.
                while let Ok(Some(item)) = from.message().await {
                    if to.send(item).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = carry => {}
                () = to.closed() => {}
                () = ending.cancelled() => {}
            }
            drop(other_half);
        });
        queue
    }
}

fn unavailable(status: &Status) -> Refusal {
    tracing::debug!(%status, "a call to the backend failed");
    metrics::counter!("buslane_rpc_failures_total", "code" => status.code().description()).increment(1);
    Refusal::of(Code::Unavailable).retry_after_ms(RETRY_AFTER_MS)
}

/// The typed refusal in the details of a status, or that the backend is not there.
fn refusal(status: &Status) -> Refusal {
    match wire::Refusal::decode(status.details()) {
        Ok(typed) if !status.details().is_empty() => from_wire(typed),
        _ => unavailable(status),
    }
}

fn from_wire(refusal: wire::Refusal) -> Refusal {
    // The field is a name of the schema; those of an enrolment are all that come this way.
    let field = ["user", "device_key", "device_name", "code", "right", "node", "role"]
        .into_iter()
        .find(|known| *known == refusal.field)
        .unwrap_or("");
    Refusal {
        code: refusal.code(),
        retry_after_ms: refusal.retry_after_ms,
        maybe_applied: refusal.maybe_applied,
        detail: refusal.detail,
        field,
        // An enrolment has no class and gets no slot.
        busy: None,
    }
}

fn endpoint() -> Endpoint {
    // The scheme is that of HTTP/2 inside of our TLS; the host is only the `:authority` of requests.
    Endpoint::from_static("http://backend.buslane.internal")
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
}

/// Opens connections with our certificate, the one that is current at that moment.
#[derive(Clone)]
struct Connector {
    address: String,
    tls: TlsConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, tls } = self.clone();
        Box::pin(async move { door::connect(address, tls).await.map(TokioIo::new) })
    }
}
