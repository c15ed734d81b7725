//! A backend to be tested: a real service on a real engine, with phones that ask and session managers that listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use buslane_backend::{Config, Limits, Service};
use buslane_chassis::api::{BackendApi, Call};
use buslane_chassis::clock;
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::class::Class;
use buslane_shared::id::{ClientId, DeviceId, RoomId, SessionId, UserId};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{
    self, answer::Result as Outcome, enrol_device::Right, event, request::Op, to_manager,
};
use buslane_store::keywrap::{KeyWrap, MemoryKeyWrap};
use buslane_store::memory::MemoryEngine;
use buslane_store::sealing::Sealer;
use buslane_store::{
    Change, Engine, Epoch, Kv, Leases, Mutation, Reservation, RoomLog, SealedRecord, StoreError,
    StoredRecord, Table, Versioned,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Nothing in these tests takes longer, on the slowest machine.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

pub fn config() -> Config {
    Config { limits: Limits::off(), ..Config::default() }
}

/// A running backend.
pub struct World {
    pub service: Arc<Service>,
    pub engine: Arc<dyn Engine>,
    pub keys: Arc<dyn KeyWrap>,
    pub shutdown: Shutdown,
    pub config: Config,
}

impl World {
    pub async fn on(engine: Arc<dyn Engine>, keys: Arc<dyn KeyWrap>, config: Config) -> Self {
        let shutdown = Shutdown::new();
        let sealer = Sealer::new(engine.clone(), keys.clone());
        let service = Service::start(config.clone(), engine.clone(), sealer, &shutdown).await.unwrap();
        Self { service, engine, keys, shutdown, config }
    }

    /// On the engine in memory.
    pub async fn memory() -> (Self, Arc<MemoryEngine>) {
        Self::memory_with(config()).await
    }

    pub async fn memory_with(config: Config) -> (Self, Arc<MemoryEngine>) {
        let engine = MemoryEngine::new();
        let keys = Arc::new(MemoryKeyWrap::new().unwrap());
        (Self::on(engine.clone(), keys, config).await, engine)
    }

    /// On an engine in memory that can be held up and made to fail.
    pub async fn faulty() -> (Self, Arc<Faulty>) {
        let engine = Faulty::new();
        let keys = Arc::new(MemoryKeyWrap::new().unwrap());
        (Self::on(engine.clone(), keys, config()).await, engine)
    }

    /// The process dies and a new one starts on what was acknowledged.
    pub async fn restart_on(self, engine: Arc<dyn Engine>) -> Self {
        self.stop().await;
        Self::on(engine, self.keys, self.config).await
    }

    pub async fn stop(&self) {
        assert!(self.shutdown.finish(LIMIT).await, "a task did not end");
    }

    pub async fn try_enrol(&self, name: &str, key: [u8; 32], right: Right) -> Result<Phone, Refused> {
        let request = wire::EnrolDevice {
            user: name.to_owned(),
            device_key: Bytes::copy_from_slice(&key),
            device_name: "phone".to_owned(),
            right: Some(right),
        };
        let enrolled = self.service.enrol(request).await.map_err(|r| Refused(r.into()))?;
        let device = DeviceId::try_from(&enrolled.device).unwrap();
        assert_eq!(device, DeviceId::of_key(&key));
        assert!(enrolled.expires_ms > enrolled.enrolled_at_ms);
        Ok(self.phone(name, device))
    }

    /// A phone that is enrolled already.
    pub fn phone(&self, name: &str, device: DeviceId) -> Phone {
        Phone {
            service: self.service.clone(),
            user: user(name),
            device,
            session: SessionId::from_bytes(clock::random()),
        }
    }

    /// A new user with one phone.
    pub async fn enrol(&self, name: &str) -> Phone {
        self.try_enrol(name, clock::random(), Right::Open(true)).await.unwrap()
    }

    /// One more phone of a user.
    pub async fn enrol_another(&self, phone: &Phone) -> Phone {
        let Outcome::Code(code) = phone.ask(Op::MakeCode(wire::MakeCode {})).await.unwrap() else {
            panic!("no code")
        };
        self.try_enrol(phone.user.as_str(), clock::random(), Right::Code(code.code)).await.unwrap()
    }

    /// Session managers' side of a link.
    pub async fn link(&self, name: &str) -> Manager {
        let (up, rx) = mpsc::channel(64);
        let down = self.service.link(rx).await.unwrap();
        let manager = Manager { up, down };
        let node = wire::Node { name: name.to_owned(), weight: 1, ..Default::default() };
        manager.say(wire::from_manager::Kind::Announce(node)).await;
        manager
    }
}

/// A refusal as the client sees it.
#[derive(Debug, Clone)]
pub struct Refused(pub wire::Refusal);

impl Refused {
    pub fn code(&self) -> Code {
        self.0.code()
    }
}

/// A phone with a session.
#[derive(Clone)]
pub struct Phone {
    service: Arc<Service>,
    pub user: UserId,
    pub device: DeviceId,
    pub session: SessionId,
}

impl Phone {
    /// The same phone at another service.
    pub fn at(&self, world: &World) -> Self {
        Self { service: world.service.clone(), ..self.clone() }
    }

    pub async fn ask(&self, op: Op) -> Result<Outcome, Refused> {
        self.ask_within(op, LIMIT).await
    }

    pub async fn ask_within(&self, op: Op, limit: Duration) -> Result<Outcome, Refused> {
        let call = Call {
            user: self.user.clone(),
            device: self.device,
            session: self.session,
            class: Class::Talk,
            deadline: Instant::now() + limit,
            trace: 7,
            parent: buslane_chassis::trace::Context::NONE,
        };
        let answer = self.service.relay(call, wire::Request { id: 42, deadline_ms: 0, op: Some(op) }).await;
        assert_eq!(answer.id, 42);
        match answer.result.unwrap() {
            Outcome::Refusal(refusal) => Err(Refused(refusal)),
            outcome => Ok(outcome),
        }
    }

    pub async fn code_of(&self, op: Op) -> Code {
        self.ask(op).await.map_or_else(|refused| refused.code(), |outcome| panic!("not refused: {outcome:?}"))
    }

    pub async fn done(&self, op: Op) {
        assert_eq!(self.ask(op).await.unwrap(), Outcome::Done(wire::Done {}));
    }

    pub async fn room(&self, op: Op) -> wire::RoomInfo {
        match self.ask(op).await.unwrap() {
            Outcome::Room(info) => info,
            other => panic!("not a room: {other:?}"),
        }
    }

    pub async fn direct(&self, peer: &Phone) -> RoomId {
        RoomId::try_from(&self.room(open_direct(peer.user.as_str())).await.room).unwrap()
    }

    pub async fn group(&self, members: &[&Phone]) -> RoomId {
        let members = members.iter().map(|p| p.user.to_string()).collect();
        let create = wire::CreateRoom { client_id: fresh_id().to_wire(), title: "group".into(), members };
        RoomId::try_from(&self.room(Op::CreateRoom(create)).await.room).unwrap()
    }

    pub async fn describe(&self, room: RoomId) -> wire::RoomInfo {
        self.room(Op::DescribeRoom(wire::DescribeRoom { room: room.to_wire() })).await
    }

    pub async fn send(&self, room: RoomId, text: &str) -> Result<wire::Receipt, Refused> {
        self.send_as(room, fresh_id(), text).await
    }

    pub async fn send_as(&self, room: RoomId, id: ClientId, text: &str) -> Result<wire::Receipt, Refused> {
        match self.ask(send_op(room, id, text)).await? {
            Outcome::Receipt(receipt) => Ok(receipt),
            other => panic!("not a receipt: {other:?}"),
        }
    }

    pub async fn sync(&self, room: RoomId, after: u64, limit: u32) -> Result<wire::Batch, Refused> {
        batch(self.ask(Op::Sync(wire::Sync { room: room.to_wire(), after, limit })).await?)
    }

    pub async fn history(&self, room: RoomId, before: u64, limit: u32) -> Result<wire::Batch, Refused> {
        batch(self.ask(Op::History(wire::History { room: room.to_wire(), before, limit })).await?)
    }

    /// Every message that this user may read, page by page.
    pub async fn all(&self, room: RoomId) -> Vec<wire::Message> {
        let mut all: Vec<wire::Message> = vec![];
        loop {
            let batch = self.sync(room, all.last().map_or(0, |m| m.seq), 1000).await.unwrap();
            all.extend(batch.messages);
            if !batch.more {
                return all;
            }
        }
    }

    pub async fn rooms(&self) -> Vec<wire::RoomInfo> {
        match self.ask(Op::ListRooms(wire::ListRooms::default())).await.unwrap() {
            Outcome::Rooms(list) => list.rooms,
            other => panic!("not a list: {other:?}"),
        }
    }

    pub async fn members(&self, room: RoomId) -> Vec<(String, wire::Role)> {
        match self
            .ask(Op::ListMembers(wire::ListMembers { room: room.to_wire(), ..Default::default() }))
            .await
            .unwrap()
        {
            Outcome::Members(list) => list.members.iter().map(|m| (m.user.clone(), m.role())).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }

    pub fn session_ref(&self) -> wire::SessionRef {
        wire::SessionRef {
            user: self.user.to_string(),
            device: self.device.to_wire(),
            session: self.session.to_wire(),
        }
    }
}

fn batch(outcome: Outcome) -> Result<wire::Batch, Refused> {
    match outcome {
        Outcome::Batch(batch) => Ok(batch),
        other => panic!("not a batch: {other:?}"),
    }
}

pub fn fresh_id() -> ClientId {
    ClientId::from_bytes(clock::random())
}

pub fn open_direct(peer: &str) -> Op {
    Op::OpenDirect(wire::OpenDirect { peer: peer.to_owned() })
}

pub fn send_op(room: RoomId, id: ClientId, text: &str) -> Op {
    Op::Send(wire::Send {
        room: room.to_wire(),
        client_id: id.to_wire(),
        body: Bytes::copy_from_slice(text.as_bytes()),
        ..Default::default()
    })
}

pub fn invite(room: RoomId, users: &[&Phone]) -> Op {
    Op::Invite(wire::Invite {
        room: room.to_wire(),
        users: users.iter().map(|p| p.user.to_string()).collect(),
    })
}

pub fn join(room: RoomId) -> Op {
    Op::Join(wire::Join { room: room.to_wire() })
}

pub fn leave(room: RoomId) -> Op {
    Op::Leave(wire::Leave { room: room.to_wire() })
}

pub fn kick(room: RoomId, whom: &Phone) -> Op {
    Op::Kick(wire::Kick { room: room.to_wire(), user: whom.user.to_string() })
}

pub fn block(whom: &Phone, blocked: bool) -> Op {
    Op::SetBlock(wire::SetBlock { user: whom.user.to_string(), blocked })
}

pub fn mark(room: RoomId, delivered: u64, read: u64) -> Op {
    Op::Mark(wire::Mark { cursors: vec![wire::Cursor { room: room.to_wire(), delivered, read }] })
}

/// The text of a message; empty when it is a change of members.
pub fn text(message: &wire::Message) -> String {
    match &message.content {
        Some(wire::message::Content::Body(body)) => String::from_utf8(body.to_vec()).unwrap(),
        _ => String::new(),
    }
}

/// A session manager's end of a link.
pub struct Manager {
    pub up: mpsc::Sender<wire::FromManager>,
    pub down: mpsc::Receiver<wire::ToManager>,
}

/// What a manager was told to deliver.
#[derive(Debug)]
pub struct Delivered {
    pub event: event::Kind,
    pub targets: Vec<wire::DeliverTarget>,
}

impl Delivered {
    pub fn users(&self) -> Vec<&str> {
        self.targets.iter().map(|t| t.user.as_str()).collect()
    }

    pub fn message(&self) -> Option<&wire::Message> {
        match &self.event {
            event::Kind::Delivery(delivery) => delivery.message.as_ref(),
            _ => None,
        }
    }
}

impl Manager {
    pub async fn say(&self, kind: wire::from_manager::Kind) {
        self.up.send(wire::FromManager { kind: Some(kind) }).await.unwrap();
    }

    /// Announces the sessions of these phones, and waits until the backend knows.
    pub async fn open(&self, phones: &[&Phone]) {
        let opened = phones.iter().map(|p| p.session_ref()).collect();
        self.say(wire::from_manager::Kind::Sessions(wire::SessionChanges { opened, ..Default::default() }))
            .await;
        for phone in phones {
            until(async || is_connected(phone).await).await;
        }
    }

    pub async fn next_frame(&mut self) -> to_manager::Kind {
        timeout(LIMIT, self.down.recv())
            .await
            .expect("nothing came")
            .expect("the link has ended")
            .kind
            .unwrap()
    }

    pub async fn next(&mut self) -> Delivered {
        match self.next_frame().await {
            to_manager::Kind::Deliver(deliver) => {
                let event = wire::Event::decode(deliver.event).unwrap();
                assert_eq!(event.no, 0, "numbers are given by the session manager");
                Delivered { event: event.kind.unwrap(), targets: deliver.targets }
            }
            other => panic!("not a delivery: {other:?}"),
        }
    }

    /// The next delivery of a message.
    pub async fn next_message(&mut self) -> (wire::Message, Delivered) {
        loop {
            let delivered = self.next().await;
            if let Some(message) = delivered.message().cloned() {
                return (message, delivered);
            }
        }
    }
}

impl std::fmt::Debug for Phone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.user, self.device)
    }
}

async fn is_connected(phone: &Phone) -> bool {
    match phone.ask(Op::ListDevices(wire::ListDevices {})).await.unwrap() {
        Outcome::Devices(list) => list.devices.iter().any(|d| d.current && d.connected),
        other => panic!("not a list: {other:?}"),
    }
}

/// Waits until something is so.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, wait).await.expect("it never came to be so");
}

/// The engine in memory, whose commits can be held up and whose writes can be made to fail.
pub struct Faulty {
    pub inner: Arc<MemoryEngine>,
    open: tokio::sync::watch::Sender<bool>,
    /// Appends from now until one fails; 0: none does.
    fail_append_in: AtomicU64,
    fail_writes: AtomicBool,
    pub appends: AtomicU64,
}

impl Faulty {
    pub fn new() -> Arc<Self> {
        Self::over(MemoryEngine::new())
    }

    pub fn over(inner: Arc<MemoryEngine>) -> Arc<Self> {
        let open = tokio::sync::watch::Sender::new(true);
        let (fail_append_in, appends) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { inner, open, fail_append_in, fail_writes: AtomicBool::new(false), appends })
    }

    /// Commits are not reported any more.
    pub fn hold(&self) {
        self.open.send_replace(false);
    }

    /// Commits are reported again.
    pub fn release(&self) {
        self.open.send_replace(true);
    }

    /// The n-th append from now is not written, for the disk is full.
    pub fn fail_append(&self, n: u64) {
        self.fail_append_in.store(n, Ordering::SeqCst);
    }

    /// Writes of tables fail, or no longer.
    pub fn fail_writes(&self, fail: bool) {
        self.fail_writes.store(fail, Ordering::SeqCst);
    }

    fn full() -> StoreError {
        StoreError::DiskFull { needed_bytes: 1 }
    }
}

impl RoomLog for Faulty {
    fn reserve(&self) -> BoxFuture<'_, Result<Reservation, StoreError>> {
        self.inner.reserve()
    }

    fn append(
        &self,
        place: Reservation,
        fence: Epoch,
        record: SealedRecord,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let left = self.fail_append_in.load(Ordering::SeqCst);
        self.fail_append_in.store(left.saturating_sub(1), Ordering::SeqCst);
        let done: BoxFuture<'static, _> = match left {
            1 => Box::pin(std::future::ready(Err(Self::full()))),
            _ => self.inner.append(place, fence, record),
        };
        let mut open = self.open.subscribe();
        Box::pin(async move {
            let _ = open.wait_for(|open| *open).await;
            done.await
        })
    }

    fn read(
        &self,
        room: RoomId,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.inner.read(room, after, limit, max_bytes)
    }

    fn read_back(
        &self,
        room: RoomId,
        before: u64,
        limit: usize,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        self.inner.read_back(room, before, limit, max_bytes)
    }

    fn head(&self, room: RoomId) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.head(room)
    }

    fn find(&self, room: RoomId, sender: &UserId, client_id: ClientId) -> Result<Option<u64>, StoreError> {
        self.inner.find(room, sender, client_id)
    }

    fn trim(&self, room: RoomId, before: u64) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.trim(room, before)
    }
}

impl Kv for Faulty {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(table, key)
    }

    fn write(&self, batch: Vec<Mutation>) -> BoxFuture<'static, Result<(), StoreError>> {
        match self.fail_writes.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(Self::full()))),
            false => self.inner.write(batch),
        }
    }

    fn compare_and_set(
        &self,
        table: Table,
        key: Bytes,
        expected: Option<u64>,
        value: Bytes,
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.inner.compare_and_set(table, key, expected, value)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Versioned)>, StoreError> {
        self.inner.scan(table, prefix, after, limit)
    }

    fn watch(&self, table: Table, prefix: &[u8]) -> mpsc::Receiver<Change> {
        self.inner.watch(table, prefix)
    }
}

impl Leases for Faulty {
    fn acquire(&self, shards: Vec<u8>, owner: &str) -> BoxFuture<'_, Result<Vec<Epoch>, StoreError>> {
        self.inner.acquire(shards, owner)
    }
}

impl Engine for Faulty {
    fn trouble(&self) -> Option<StoreError> {
        self.inner.trouble()
    }
}
