//! The backend as a gRPC service.
//!
//! Why it exists: gateways and session managers may run elsewhere. Each call is checked against the role that the peer's
//! certificate names, turned into a call of [`crate::api::BackendApi`], and its answer is typed. It must never decide
//! anything about the request itself.

use std::pin::Pin;

use buslane_shared::refusal::{Code as RefusalCode, Refusal};
use buslane_shared::wire;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, Streaming};

use super::door::{self, Peer};
use super::generated::backend_server::{Backend as BackendRpc, BackendServer};
use super::{ENROL, MESSAGE_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT, RpcError, relay, terms};
use crate::api::{Backend, LINK_QUEUE};
use crate::shutdown::Shutdown;
use crate::tls::{Mtls, Role};
use crate::trace::{Context, Kind, Span};

/// Calls of one connection at a time: lanes, feeds and links are one each, enrolments pass quickly.
const CALLS_PER_CONNECTION_MAX: u32 = 1024;

/// Calls given up by their callers that wait to be cleaned up. Many gateways' clients may give up at once, and that must
/// not be taken for an attack (the default of 20 would close the connection and fail all others with it).
const RESETS_MAX: usize = CALLS_PER_CONNECTION_MAX as usize;

/// Answers of one lane on their way into the connection: enough to fill the packets of one write.
const ANSWERS_QUEUE: usize = 256;

/// Bytes under way on one connection: deliveries to a session manager must not wait for a round trip each.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Serves the backend to other roles until the shutdown.
pub async fn serve(
    listener: TcpListener,
    mtls: &Mtls,
    backend: Backend,
    shutdown: &Shutdown,
) -> Result<(), RpcError> {
    let tls = mtls.identity.mutual_server_config(mtls.roots.clone(), &[b"h2"])?;
    let connections = door::accept(listener, tls, shutdown);
    let service = BackendServer::new(Service { backend, ending: shutdown.token().clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .serve_with_incoming_shutdown(service, connections, shutdown.token().clone().cancelled_owned())
        .await?;
    Ok(())
}

struct Service {
    backend: Backend,
    ending: CancellationToken,
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl BackendRpc for Service {
    type RelayStream = Boxed<wire::RelayAnswer>;

    async fn relay(
        &self,
        request: Request<Streaming<wire::RelayFrame>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        allow(&request, &[Role::SessionManager])?;
        let (to, answers) = mpsc::channel(ANSWERS_QUEUE);
        let lane = relay::serve(request.into_inner(), self.backend.clone(), to, self.ending.clone());
        let lane = AbortOnDropHandle::new(tokio::spawn(lane));
        // The stream ends when the lane does, and the lane with the stream.
        let answers = ReceiverStream::new(answers).map(move |answer| {
            let _owned = &lane;
            Ok(answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn enrol(
        &self,
        request: Request<wire::EnrolDevice>,
    ) -> Result<Response<wire::EnrolDeviceAnswer>, Status> {
        use wire::enrol_device_answer::Result as Answer;
        allow(&request, &[Role::Gateway])?;
        let deadline = terms::read_deadline(request.metadata(), Instant::now());
        let mut span = Span::call(Context::read(request.metadata()), ENROL, Kind::Server);
        let enrolling = span.context().scope(self.backend.enrol(request.into_inner()));
        let enrolled = tokio::time::timeout_at(deadline, enrolling).await;
        let answer =
            match enrolled.unwrap_or_else(|_| Err(Refusal::of(RefusalCode::Deadline).maybe_applied())) {
                Ok(enrolled) => {
                    span.settle();
                    Answer::Enrolled(enrolled)
                }
                Err(refusal) => {
                    span.fail(refusal.code.name());
                    Answer::Refusal(refusal.into())
                }
            };
        Ok(Response::new(wire::EnrolDeviceAnswer { result: Some(answer) }))
    }

    type FeedStream = Boxed<wire::FeedUpdate>;

    async fn feed(&self, request: Request<wire::FeedRequest>) -> Result<Response<Self::FeedStream>, Status> {
        allow(&request, &[Role::Gateway, Role::SessionManager])?;
        let updates = self.backend.feed(request.into_inner()).await.map_err(status)?;
        let updates = ReceiverStream::new(updates).map(Ok).take_until(self.ending.clone().cancelled_owned());
        Ok(Response::new(Box::pin(updates)))
    }

    type LinkStream = Boxed<wire::ToManager>;

    async fn link(
        &self,
        request: Request<Streaming<wire::FromManager>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        allow(&request, &[Role::SessionManager])?;
        let (up, reports) = mpsc::channel(LINK_QUEUE);
        // The pump lives as long as the stream below: when either side ends, so does the other.
        let pump = AbortOnDropHandle::new(tokio::spawn(pump_up(request.into_inner(), up)));
        let deliveries = self.backend.link(reports).await.map_err(status)?;
        let deliveries = ReceiverStream::new(deliveries)
            .map(move |frame| {
                let _owned = &pump;
                Ok(frame)
            })
            .take_until(self.ending.clone().cancelled_owned());
        Ok(Response::new(Box::pin(deliveries)))
    }
}

async fn pump_up(mut from: Streaming<wire::FromManager>, up: mpsc::Sender<wire::FromManager>) {
    // An error of the stream is the end of the link, as its end is.
    while let Ok(Some(frame)) = from.message().await {
        if up.send(frame).await.is_err() {
            return;
        }
    }
}

fn allow<T>(request: &Request<T>, roles: &[Role]) -> Result<(), Status> {
    let peer = request.extensions().get::<Peer>();
    if peer.is_some_and(|peer| peer.0.iter().any(|role| roles.contains(role))) {
        return Ok(());
    }
    tracing::warn!(?peer, ?roles, "a call was refused: it is not for this role");
    Err(Status::permission_denied("the certificate of the caller names another role"))
}

/// A refusal as a gRPC status; the typed one travels in its details.
fn status(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    let details = wire::Refusal::from(refusal).encode_to_vec();
    Status::with_details(Code::FailedPrecondition, message, Bytes::from(details))
}
