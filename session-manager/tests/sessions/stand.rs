//! A running session manager, the backend behind it, and a clock's worth of patience.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use buslane_chassis::api::{Backend, BackendApi, Call, LINK_QUEUE};
use buslane_chassis::clock::{random, unix_ms};
use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Overseer;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::{Authority, Identity, install_provider};
use buslane_session_manager::{Config, SessionManager, Tuner};
use buslane_shared::class::Class;
use buslane_shared::id::DeviceId;
use buslane_shared::mark::{Mark, MarkBytes};
use buslane_shared::overload::orders::{Kind, Order, Orders};
use buslane_shared::overload::settings::Limits;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::token::{KeyRing, Purpose};
use buslane_shared::wire::{self, answer::Result as Outcome, from_manager, request::Op, to_manager};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// Nothing in these tests takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const NODE: &str = "here";

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// The backend. A request's operation says what it does:
/// `Send` is recorded and answered; `Sync` waits for a permit of `gate`; `ListDevices` and `Kick` are never answered;
/// `MakeCode` panics; `History` answers with a large body; `CreateRoom` takes 300 ms of the test's patience: never, it is
/// refused; everything else is done.
pub struct Script {
    pub sent: Mutex<Vec<(Call, wire::Send)>>,
    pub gate: Semaphore,
    pub relayed: AtomicUsize,
    pub given_up: AtomicUsize,
    answered: AtomicUsize,
    /// Sessions that were announced and not closed, by session id, with what the manager said of itself.
    pub sessions: Mutex<BTreeMap<Vec<u8>, wire::SessionRef>>,
    pub announced: Mutex<Vec<wire::Node>>,
    pub confirms: std::sync::atomic::AtomicBool,
    pub resets: AtomicUsize,
    feed: watch::Sender<wire::FeedUpdate>,
    down: Mutex<Option<mpsc::Sender<wire::ToManager>>>,
    seq: AtomicU64,
}

struct GivenUp<'a>(&'a AtomicUsize, bool);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Script {
    fn new(keys: wire::KeySet) -> Arc<Self> {
        let first = wire::FeedUpdate { keys: Some(keys), ..Default::default() };
        Arc::new(Self {
            sent: Mutex::default(),
            gate: Semaphore::new(0),
            relayed: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            sessions: Mutex::default(),
            announced: Mutex::default(),
            confirms: true.into(),
            resets: AtomicUsize::new(0),
            feed: watch::Sender::new(first),
            down: Mutex::new(None),
            seq: AtomicU64::new(0),
        })
    }

    pub fn revoke(&self, user: &str, device: DeviceId, revoked_at_ms: u64) {
        let revoked = wire::RevokedDevice { user: user.into(), device: device.to_wire(), revoked_at_ms };
        self.feed.send_modify(|update| {
            update.revoked.get_or_insert_default().devices.push(revoked);
        });
    }

    pub async fn down(&self, kind: to_manager::Kind) {
        let down = self.down.lock().clone().expect("there is a link");
        down.send(wire::ToManager { kind: Some(kind) }).await.expect("the manager listens");
    }

    pub async fn deliver(&self, user: &str, except: Option<DeviceId>, seq: u64) {
        self.deliver_body(user, except, seq, Bytes::from_static(b"text")).await;
    }

    pub async fn deliver_body(&self, user: &str, except: Option<DeviceId>, seq: u64, body: Bytes) {
        let content = Some(wire::message::Content::Body(body));
        let message = wire::Message { seq, sender: "somebody".into(), content, ..Default::default() };
        let delivery = wire::Delivery { message: Some(message), notify: false };
        let event = wire::Event { no: 0, kind: Some(wire::event::Kind::Delivery(delivery)) };
        let target = wire::DeliverTarget {
            user: user.into(),
            except_device: except.map(DeviceId::to_wire).unwrap_or_default(),
            notify: seq % 2 == 1,
        };
        let deliver = wire::Deliver {
            event: event.encode_to_vec().into(),
            targets: vec![target],
            ..Default::default()
        };
        self.down(to_manager::Kind::Deliver(deliver)).await;
    }

    /// Ends the link; the manager comes back by itself.
    pub fn cut_link(&self) {
        *self.down.lock() = None;
    }

    /// Requests that ran to their end.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    pub fn knows(&self, user: &str) -> usize {
        self.sessions.lock().values().filter(|s| s.user == user).count()
    }

    fn on_changes(&self, changes: wire::SessionChanges) {
        let mut sessions = self.sessions.lock();
        if changes.reset {
            self.resets.fetch_add(1, Ordering::SeqCst);
            sessions.clear();
        }
        for closed in changes.closed {
            sessions.remove(closed.session.as_ref());
        }
        for opened in changes.opened {
            sessions.insert(opened.session.to_vec(), opened);
        }
    }

    async fn answer(&self, call: Call, op: Op) -> Outcome {
        match op {
            Op::Send(send) => {
                let seq = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
                let room = send.room.clone();
                self.sent.lock().push((call, send));
                Outcome::Receipt(wire::Receipt { room, seq, ..Default::default() })
            }
            Op::Sync(_) => {
                self.gate.acquire().await.expect("never closed").forget();
                Outcome::Batch(wire::Batch::default())
            }
            Op::History(history) => {
                let body = Bytes::from(vec![7; 250_000]);
                let content = Some(wire::message::Content::Body(body));
                let message = wire::Message { content, ..Default::default() };
                Outcome::Batch(wire::Batch {
                    room: history.room,
                    messages: vec![message],
                    ..Default::default()
                })
            }
            Op::ListDevices(_) | Op::Kick(_) => std::future::pending().await,
            Op::MakeCode(_) => panic!("a defect of the backend"),
            Op::CreateRoom(_) => Outcome::Refusal(Refusal::of(Code::RoomFull).into()),
            _ => Outcome::Done(wire::Done {}),
        }
    }
}

impl BackendApi for Script {
    fn relay(&self, call: Call, request: wire::Request) -> BoxFuture<'_, wire::Answer> {
        Box::pin(async move {
            self.relayed.fetch_add(1, Ordering::SeqCst);
            let mut guard = GivenUp(&self.given_up, false);
            let result = self.answer(call, request.op.expect("an operation")).await;
            guard.1 = true;
            self.answered.fetch_add(1, Ordering::SeqCst);
            wire::Answer { id: request.id, result: Some(result) }
        })
    }

    fn enrol(&self, _: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        Box::pin(async { Err(Refusal::of(Code::EnrolmentClosed)) })
    }

    fn feed(&self, _: wire::FeedRequest) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        let mut state = self.feed.subscribe();
        Box::pin(async move {
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
        _: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        unreachable!("see Linked")
    }
}

/// A shared script; the link needs to own it.
struct Linked(Arc<Script>);

impl BackendApi for Linked {
    fn relay(&self, call: Call, request: wire::Request) -> BoxFuture<'_, wire::Answer> {
        self.0.relay(call, request)
    }

    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        self.0.enrol(request)
    }

    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        self.0.feed(request)
    }

    fn link(
        &self,
        mut up: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        let script = Arc::clone(&self.0);
        Box::pin(async move {
            let (down, rx) = mpsc::channel(LINK_QUEUE);
            let weak = down.downgrade();
            *script.down.lock() = Some(down);
            tokio::spawn(async move {
                while let Some(frame) = up.recv().await {
                    match frame.kind {
                        Some(from_manager::Kind::Announce(node)) => script.announced.lock().push(node),
                        Some(from_manager::Kind::Sessions(changes)) => {
                            let no = changes.no;
                            script.on_changes(changes);
                            let Some(down) = weak.upgrade().filter(|_| no > 0) else { continue };
                            if script.confirms.load(Ordering::SeqCst) {
                                let kind = Some(to_manager::Kind::Applied(no));
                                let _ = down.send(wire::ToManager { kind }).await;
                            }
                        }
                        Some(from_manager::Kind::Load(_) | from_manager::Kind::Orders(_)) | None => {}
                    }
                }
            });
            Ok(rx)
        })
    }
}

/// A running session manager.
pub struct Stand {
    pub front: std::net::SocketAddr,
    pub wake: std::net::SocketAddr,
    pub script: Arc<Script>,
    pub ca: String,
    pub ring: KeyRing,
    pub orders: watch::Sender<Arc<Orders>>,
    pub overseer: Arc<dyn Overseer>,
    pub tuner: Tuner,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

pub fn config() -> Config {
    let mut config = Config {
        node: NODE.to_owned(),
        front: "127.0.0.1:0".parse().unwrap(),
        wake: "127.0.0.1:0".parse().unwrap(),
        front_workers: Some(1),
        ..Config::default()
    };
    config.times.drain_ms = 300;
    config
}

/// A node that finds nothing alarming, however slow the machine is on which the tests run: what is not about signals must not
/// depend on them.
pub fn unmoved() -> Config {
    let mut config = config();
    let never = Limits { guard: 1e9, hard: 2e9 };
    let thresholds = &mut config.overload.thresholds;
    for limits in [
        &mut thresholds.foreground_wait_ms,
        &mut thresholds.background_wait_ms,
        &mut thresholds.sojourn_ms,
        &mut thresholds.lateness_ms,
        &mut thresholds.seats_busy,
        &mut thresholds.logins,
        &mut thresholds.resources,
    ] {
        *limits = never;
    }
    thresholds.dependency = Limits { guard: 2e-9, hard: 1e-9 };
    thresholds.timeouts = 1.0;
    config
}

impl Stand {
    pub async fn start() -> Self {
        Self::with(config()).await
    }

    pub async fn with(config: Config) -> Self {
        install_provider();
        let authority = Authority::generate().unwrap();
        let pem = authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
        let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
        let keys = wire::KeySet {
            keys: vec![wire::TokenKey {
                id: 1,
                secret: Bytes::copy_from_slice(&random::<32>()),
                not_before_ms: 0,
                expires_ms: u64::MAX,
            }],
        };
        let script = Script::new(keys.clone());
        let backend: Backend = Arc::new(Linked(Arc::clone(&script)));
        let shutdown = Shutdown::new();
        let role = wire::RoleKind::SessionManager;
        let feed = Feed::follow(backend.clone(), role, NODE, &Shutdown::new());
        assert!(feed.ready(PATIENCE).await);
        let orders = watch::Sender::new(Arc::new(Orders::default()));
        let manager = SessionManager::bind(config, &identity, backend, feed, &shutdown).unwrap();
        let manager = manager.obeying(orders.subscribe());
        let (overseer, tuner) = (manager.overseer(), manager.tuner());
        let (front, wake) = (manager.front_addr(), manager.wake_addr());
        let running = tokio::spawn(manager.run());
        until("the manager announces itself", || !script.announced.lock().is_empty()).await;
        let ca = authority.certificate().to_owned();
        let ring = KeyRing::new(&keys);
        Self { front, wake, script, ca, ring, orders, overseer, tuner, shutdown, running }
    }

    /// A ticket for a device, as a gateway makes it, and its proof key.
    pub fn ticket(&self, user: &str, device: u8) -> (Bytes, Bytes) {
        let proof_key = Bytes::copy_from_slice(&random::<32>());
        let body = wire::TicketBody {
            user: user.into(),
            device: Bytes::copy_from_slice(&[device; 16]),
            proof_key: proof_key.clone(),
            issued_at_ms: unix_ms(),
            expires_ms: unix_ms() + 60_000,
            nodes: vec![NODE.into()],
            choice_version: 1,
            ..Default::default()
        };
        (self.seal(&body), proof_key)
    }

    pub fn seal(&self, body: &wire::TicketBody) -> Bytes {
        self.ring.seal(Purpose::Ticket, body, random(), unix_ms()).unwrap()
    }

    /// A fresh pass of a gateway for the front port.
    pub fn pass(&self) -> MarkBytes {
        self.mark(&Mark::pass(Class::Look, unix_ms(), u32::from_le_bytes(random())))
    }

    pub fn mark(&self, mark: &Mark) -> MarkBytes {
        self.ring.marks().make(mark, unix_ms()).unwrap()
    }

    /// Orders an emergency that lasts until it is ended.
    pub fn order_emergency(&self) {
        let now_ms = unix_ms();
        let order = Order {
            id: now_ms,
            kind: Kind::Emergency,
            reason: "drill".into(),
            author: "test".into(),
            given_ms: now_ms,
            from_ms: now_ms,
            until_ms: now_ms + 600_000,
        };
        self.orders.send_replace(Arc::new([order].into_iter().collect()));
    }

    /// Ends every order.
    pub fn end_orders(&self) {
        self.orders.send_replace(Arc::default());
    }

    pub async fn until_posture(&self, posture: wire::Posture) {
        until("the posture", || self.overseer.posture().posture == posture).await;
    }

    pub fn begin_shutdown(&self) {
        self.shutdown.begin();
    }

    /// Stops it and waits until it has stopped.
    pub async fn stop(self) {
        self.shutdown.begin();
        tokio::time::timeout(PATIENCE, self.running).await.expect("it stops").unwrap();
    }
}
