//! A small backend for tests: it really answers, and what it is asked can be looked at.
//!
//! Why it exists: the ways to a backend (feed, gRPC) are tested without the backend itself, which depends on this crate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::id::{DeviceId, SessionId};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use buslane_shared::wire::request::Op;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::api::{Backend, BackendApi, Call};
use crate::tls::{Authority, Identity, Mtls, Role, roots_from_pem};

/// Waits until `holds`, at most ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < limit, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends one HTTP request, which must ask for the end of its connection; status, head and body of the answer.
pub(crate) async fn http(to: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// Remembers calls; answers pings with the time left, sends with a receipt, never answers a
/// `ListDevices` or a `Kick`, and panics at a `MakeCode`.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) calls: Mutex<Vec<(Call, wire::Request)>>,
    /// What every feed shows: the current value first, then changes.
    pub(crate) state: watch::Sender<wire::FeedUpdate>,
    /// Both ends of every link that was attached.
    pub(crate) links: Mutex<Vec<Link>>,
    /// Calls that were dropped before they were answered.
    pub(crate) given_up: Arc<Mutex<usize>>,
}

pub(crate) struct Link {
    pub(crate) up: Option<mpsc::Receiver<wire::FromManager>>,
    pub(crate) down: Option<mpsc::Sender<wire::ToManager>>,
}

struct GivenUp(Arc<Mutex<usize>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn shared(self: &Arc<Self>) -> Backend {
        self.clone()
    }

    pub(crate) fn take_link(
        &self,
    ) -> Option<(mpsc::Receiver<wire::FromManager>, mpsc::Sender<wire::ToManager>)> {
        let link = self.links.lock().pop()?;
        Some((link.up?, link.down?))
    }
}

impl BackendApi for Recorder {
    fn relay(&self, call: Call, request: wire::Request) -> BoxFuture<'_, wire::Answer> {
        use wire::answer::Result as Answer;
        self.calls.lock().push((call.clone(), request.clone()));
        let id = request.id;
        let given_up = GivenUp(self.given_up.clone());
        Box::pin(async move {
            let result = match request.op {
                Some(Op::Ping(_)) => {
                    let left_ms = call.deadline.duration_since(Instant::now()).as_millis() as u64;
                    Answer::Pong(wire::Pong { now_ms: left_ms, ..Default::default() })
                }
                Some(Op::Send(send)) => {
                    Answer::Receipt(wire::Receipt { room: send.room, ..Default::default() })
                }
                Some(Op::ListDevices(_) | Op::Kick(_)) => std::future::pending().await,
                Some(Op::MakeCode(_)) => panic!("a bug of the backend"),
                _ => Answer::Refusal(Refusal::of(Code::Unsupported).into()),
            };
            std::mem::forget(given_up);
            wire::Answer { id, result: Some(result) }
        })
    }

    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        Box::pin(async move {
            match request.user.as_str() {
                "taken" => Err(Refusal::of(Code::NameTaken)),
                "Bad" => Err(Refusal::field("user", "no capitals")),
                _ => Ok(wire::EnrolledDevice { enrolled_at_ms: 5, ..Default::default() }),
            }
        })
    }

    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        let mut state = self.state.subscribe();
        Box::pin(async move {
            if request.node == "unwelcome" {
                return Err(Refusal::of(Code::Draining).retry_after_ms(250));
            }
            let (to, updates) = mpsc::channel(4);
            tokio::spawn(async move {
                loop {
                    let now = state.borrow_and_update().clone();
                    if to.send(now).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        changed = state.changed() => if changed.is_err() { return },
                        () = to.closed() => return,
                    }
                }
            });
            Ok(updates)
        })
    }

    fn link(
        &self,
        up: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        let (down, deliveries) = mpsc::channel(4);
        self.links.lock().push(Link { up: Some(up), down: Some(down) });
        Box::pin(async move { Ok(deliveries) })
    }
}

/// A call that is wanted for `left`.
pub(crate) fn call(left: Duration) -> Call {
    Call {
        user: "alice".parse().unwrap(),
        device: DeviceId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        class: buslane_shared::class::Class::Talk,
        deadline: Instant::now() + left,
        trace: 7,
        parent: crate::trace::Context::NONE,
    }
}

pub(crate) fn request(id: u64, op: Op) -> wire::Request {
    wire::Request { id, deadline_ms: 0, op: Some(op) }
}

pub(crate) fn send(id: u64) -> wire::Request {
    let room = Bytes::copy_from_slice(&[9; 16]);
    request(id, Op::Send(wire::Send { room, ..Default::default() }))
}

/// Key number `id`, valid from the beginning of time for a million years.
pub(crate) fn keys(id: u32) -> wire::KeySet {
    let key = wire::TokenKey {
        id,
        secret: Bytes::copy_from_slice(&[id as u8; 32]),
        not_before_ms: 0,
        expires_ms: u64::MAX,
    };
    wire::KeySet { keys: vec![key] }
}

/// The identity of a role in the system of `authority`.
pub(crate) fn mtls(authority: &Authority, role: Role) -> Mtls {
    mtls_named(authority, role.server_name())
}

pub(crate) fn mtls_named(authority: &Authority, name: &str) -> Mtls {
    let pem = authority.issue(name, &[]).unwrap();
    Mtls {
        identity: Identity::from_pem(&pem.certificate, &pem.key).unwrap(),
        roots: Arc::new(roots_from_pem(authority.certificate()).unwrap()),
    }
}
