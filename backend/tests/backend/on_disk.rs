//! The same promises on the engine that keeps data on a disk, with several rooms and threads at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use buslane_shared::id::{ClientId, RoomId};
use buslane_store::fjall_engine::{FjallEngine, Options};
use buslane_store::keywrap::FileKeyWrap;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::support::*;

async fn open(folder: &Path) -> World {
    let options = Options { free_bytes_min: 0, ..Options::default() };
    let engine = FjallEngine::open(&folder.join("store"), options).unwrap();
    let keys = FileKeyWrap::open_or_create(&folder.join("keys").join("kek.json")).unwrap();
    World::on(engine, Arc::new(keys), config()).await
}

/// Stops the backend and lets the engine go, so that the folder can be opened again.
async fn close(world: World) {
    world.stop().await;
    let World { service, engine, .. } = world;
    drop(service);
    until(async || Arc::strong_count(&engine) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledged_messages_survive_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = open(folder.path()).await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let mut rooms = vec![ann.direct(&bob).await];
    for _ in 0..3 {
        rooms.push(ann.group(&[&bob]).await);
    }
    let mut manager = world.link("sm").await;
    manager.open(&[&bob]).await;
    let senders = (0..8).map(|n| {
        let (phone, room) = (if n < 4 { ann.clone() } else { bob.clone() }, rooms[n % 4]);
        tokio::spawn(async move {
            let sends = (0..100).map(|_| async {
                let id = fresh_id();
                (room, id, phone.send_as(room, id, "on disk").await.unwrap().seq)
            });
            join_all(sends).await
        })
    });
    let acknowledged: Vec<(RoomId, ClientId, u64)> =
        join_all(senders.collect::<Vec<_>>()).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(acknowledged.len(), 800);
    in_order(&mut manager, 400).await; // his own messages are not sent back to his only phone
    drop(manager);
    let (ann_device, bob_device) = (ann.device, bob.device);
    drop((ann, bob));
    close(world).await;

    let world = open(folder.path()).await;
    let (ann, bob) = (world.phone("ann", ann_device), world.phone("bob", bob_device));
    for room in &rooms {
        let all = bob.all(*room).await;
        assert_eq!(all.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=all.len() as u64).collect::<Vec<_>>());
        let by_id: BTreeMap<_, _> = all.iter().map(|m| (m.client_id.clone(), m.seq)).collect();
        for (_, id, seq) in acknowledged.iter().filter(|(r, ..)| r == room) {
            assert_eq!(by_id.get(&id.to_wire()), Some(seq));
        }
        assert_eq!(ann.send(*room, "on").await.unwrap().seq, all.len() as u64 + 1);
    }
    let (room, id, seq) = acknowledged[17];
    let again = ann.send_as(room, id, "on disk").await.unwrap();
    assert_eq!((again.seq, again.duplicate), (seq, true));
    drop((ann, bob));
    close(world).await;
    assert!(!holds(folder.path(), b"on disk"), "a message lies on the disk in the clear");
}

/// Deliveries of each room come in its order.
async fn in_order(manager: &mut Manager, count: usize) {
    let mut heads: BTreeMap<bytes::Bytes, u64> = BTreeMap::new();
    for _ in 0..count {
        let (message, delivered) = manager.next_message().await;
        assert_eq!((message.sender.as_str(), delivered.users()), ("ann", vec!["bob"]));
        let head = heads.entry(message.room).or_default();
        assert!(message.seq > *head, "{} after {head}", message.seq);
        *head = message.seq;
    }
}

fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        std::fs::read(path).unwrap().windows(needle.len()).any(|w| w == needle)
    })
}

/// The first send of a room waits until the room has a key on the disk. Those that come when it has one find others waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_that_come_later_do_not_overtake_those_that_wait() {
    let folder = tempfile::tempdir().unwrap();
    let world = open(folder.path()).await;
    let ann = world.enrol("ann").await;
    for peer in 0..20 {
        let room = ann.direct(&world.enrol(&format!("peer{peer}")).await).await;
        let mut flights = FuturesUnordered::new();
        let mut seqs = vec![0; 300];
        for n in 0..seqs.len() {
            let (phone, text) = (&ann, n.to_string());
            flights.push(async move { (n, phone.send(room, &text).await.unwrap().seq) });
            while let Some(Some((n, seq))) = flights.next().now_or_never() {
                seqs[n] = seq;
            }
            if n % 10 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while let Some((n, seq)) = flights.next().await {
            seqs[n] = seq;
        }
        let disorder = seqs.windows(2).filter(|pair| pair[0] >= pair[1]).count();
        assert_eq!(disorder, 0, "places where a later send has a lower sequence");
    }
    world.stop().await;
}
