//! What goes, what stays, and that nobody notices but by the age of what is there.

use buslane_chassis::api::{BackendApi, Call};
use buslane_chassis::clock;
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::class::Class;
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::wire::{self, answer::Result as Outcome, enrol_device::Right, request::Op};
use buslane_store::keywrap::MemoryKeyWrap;
use buslane_store::memory::MemoryEngine;
use buslane_store::sealing::Sealer;

use super::*;
use crate::{Config, Limits, Service};

struct World {
    service: Arc<Service>,
    engine: Arc<MemoryEngine>,
    keys: Arc<MemoryKeyWrap>,
    shutdown: Shutdown,
}

impl World {
    async fn on(engine: Arc<MemoryEngine>, keys: Arc<MemoryKeyWrap>, retention_days: u32) -> Self {
        let shutdown = Shutdown::new();
        let config = Config { retention_days, limits: Limits::off(), ..Config::default() };
        let sealer = Sealer::new(engine.clone(), keys.clone());
        let service = Service::start(config, engine.clone(), sealer, &shutdown).await.unwrap();
        Self { service, engine, keys, shutdown }
    }

    async fn enrol(&self, name: &str) -> (UserId, DeviceId) {
        let key = bytes::Bytes::copy_from_slice(&clock::random::<32>());
        let right = Some(Right::Open(true));
        let request =
            wire::EnrolDevice { user: name.into(), device_key: key.clone(), right, ..Default::default() };
        self.service.enrol(request).await.unwrap();
        (name.parse().unwrap(), DeviceId::of_key(&key))
    }

    async fn ask(&self, who: &(UserId, DeviceId), op: Op) -> Outcome {
        let call = Call {
            user: who.0.clone(),
            device: who.1,
            session: SessionId::from_bytes([0; 16]),
            class: Class::Talk,
            deadline: tokio::time::Instant::now() + Duration::from_secs(3600),
            trace: 0,
            parent: buslane_chassis::trace::Context::NONE,
        };
        let request = wire::Request { id: 1, deadline_ms: 0, op: Some(op) };
        self.service.relay(call, request).await.result.unwrap()
    }

    async fn send(&self, who: &(UserId, DeviceId), room: &bytes::Bytes) -> u64 {
        let client_id = bytes::Bytes::copy_from_slice(&clock::random::<16>());
        let send = wire::Send { room: room.clone(), client_id, body: "x".into(), ..Default::default() };
        match self.ask(who, Op::Send(send)).await {
            Outcome::Receipt(receipt) => receipt.seq,
            other => panic!("not a receipt: {other:?}"),
        }
    }

    async fn sync(&self, who: &(UserId, DeviceId), room: &bytes::Bytes) -> wire::Batch {
        match self.ask(who, Op::Sync(wire::Sync { room: room.clone(), after: 0, limit: 0 })).await {
            Outcome::Batch(batch) => batch,
            other => panic!("not a batch: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_old_goes_and_members_and_sequences_stay() {
    let world = World::on(MemoryEngine::new(), Arc::new(MemoryKeyWrap::new().unwrap()), 3).await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let create = wire::CreateRoom {
        client_id: bytes::Bytes::copy_from_slice(&clock::random::<16>()),
        title: "t".into(),
        members: vec!["bob".into()],
    };
    let Outcome::Room(room) = world.ask(&ann, Op::CreateRoom(create)).await else { panic!("no room") };
    let room = room.room;
    for _ in 0..9 {
        world.send(&ann, &room).await;
    }
    let now_ms = clock::unix_ms();
    assert_eq!(world.service.core().retain(now_ms + 2 * DAY_MS).await, Ok(0));
    assert_eq!(world.sync(&bob, &room).await.messages.len(), 10);
    assert_eq!(world.service.core().retain(now_ms + 4 * DAY_MS).await, Ok(10));
    let batch = world.sync(&bob, &room).await;
    assert_eq!((batch.messages.len(), batch.first, batch.head, batch.more), (0, 11, 10, false));
    assert_eq!(world.send(&bob, &room).await, 11, "a sequence is never used again");
    assert!(world.shutdown.finish(Duration::from_secs(30)).await);

    let again = World::on(world.engine.reopen().unwrap(), world.keys.clone(), 3).await;
    let batch = again.sync(&bob, &room).await;
    assert_eq!((batch.messages[0].seq, batch.first, batch.head), (11, 11, 11));
    let members = wire::ListMembers { room, ..Default::default() };
    let Outcome::Members(members) = again.ask(&ann, Op::ListMembers(members)).await else {
        panic!("no list")
    };
    assert_eq!(members.members.len(), 2, "the event that made them members is gone, they are not");
    assert!(again.shutdown.finish(Duration::from_secs(30)).await);
}

#[tokio::test(start_paused = true)]
async fn for_ever_is_for_ever() {
    let world = World::on(MemoryEngine::new(), Arc::new(MemoryKeyWrap::new().unwrap()), 0).await;
    let ended = tokio::time::timeout(Duration::from_secs(1), run(world.service.core().clone())).await;
    assert!(ended.is_ok(), "nothing is to be looked through");
    assert!(world.shutdown.finish(Duration::from_secs(30)).await);
}
