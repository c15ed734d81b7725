//! What every engine must do, as one suite that any engine can be run through.
//!
//! It is written against the boundary alone, and every check panics with what was wrong: it is a test that lives in the
//! library so that engines elsewhere can be held to it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::boundary::{
    Change, Engine, Epoch, KEY_BYTES_MAX, Kv, Leases, Mutation, RoomLog, SealedRecord, StoreError,
    StoredRecord, Table, VALUE_BYTES_MAX,
};
use crate::{PLACES, watching::WATCH_QUEUE};

/// How the suite gets at an engine.
pub trait Factory: Send + Sync {
    /// The engine under test.
    type Engine: Engine;

    /// A new, empty engine.
    fn open(&self) -> impl Future<Output = Arc<Self::Engine>> + Send;

    /// What a process finds that starts after this one has ended. Nobody else holds the engine.
    fn reopen(&self, engine: Arc<Self::Engine>) -> impl Future<Output = Arc<Self::Engine>> + Send;

    /// Makes the next commit fail as an fsync does that returns an error.
    fn fail_next_sync(&self, engine: &Self::Engine);
}

/// Runs every check; panics at the first that fails.
pub async fn run<F: Factory>(factory: &F) {
    appends_are_dense_and_in_order(factory).await;
    appends_are_queued_when_the_call_returns(factory).await;
    client_ids_are_found(factory).await;
    what_was_acknowledged_survives(factory).await;
    pages_respect_their_limits(factory).await;
    trimming_keeps_the_head(factory).await;
    trimming_takes_more_than_one_commit(factory).await;
    older_owners_are_fenced(factory).await;
    values_have_growing_revisions(factory).await;
    compare_and_set_has_one_winner(factory).await;
    scans_come_in_pages(factory).await;
    what_does_not_fit_is_refused(factory).await;
    watchers_see_changes_in_order(factory).await;
    slow_watchers_are_told_once(factory).await;
    the_queue_is_bounded(factory).await;
    many_rooms_at_once(factory).await;
    nothing_is_acknowledged_after_a_failed_sync(factory).await;
}

/// A long time to wait for something that ought to happen at once.
const LIMIT: Duration = Duration::from_secs(20);

/// A room of the shard `shard`.
fn room(shard: u8, number: u8) -> RoomId {
    let mut bytes = [number; 16];
    bytes[0] = shard;
    RoomId::from_bytes(bytes)
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn client_id(number: u64) -> ClientId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ClientId::from_bytes(bytes)
}

fn record(room: RoomId, seq: u64) -> SealedRecord {
    let bytes = Bytes::from(format!("record {seq} of {room}"));
    SealedRecord { room, seq, sender: user("alice"), client_id: client_id(seq), bytes }
}

async fn own(engine: &impl Engine, shard: u8) -> Epoch {
    engine.acquire(vec![shard], "suite").await.unwrap()[0]
}

async fn append(engine: &impl Engine, fence: Epoch, record: SealedRecord) -> Result<(), StoreError> {
    let place = engine.reserve().await?;
    engine.append(place, fence, record).await
}

async fn fill(engine: &impl Engine, fence: Epoch, room: RoomId, seqs: std::ops::RangeInclusive<u64>) {
    let mut acks = Vec::new();
    for seq in seqs {
        let place = engine.reserve().await.unwrap();
        acks.push(engine.append(place, fence, record(room, seq)));
    }
    for ack in join_all(acks).await {
        ack.unwrap();
    }
}

async fn all(engine: &impl Engine, room: RoomId) -> Vec<StoredRecord> {
    engine.read(room, 0, usize::MAX, usize::MAX).await.unwrap()
}

fn stored(room: RoomId, seqs: std::ops::RangeInclusive<u64>) -> Vec<StoredRecord> {
    seqs.map(|seq| StoredRecord { seq, bytes: record(room, seq).bytes }).collect()
}

fn seqs(records: &[StoredRecord]) -> Vec<u64> {
    records.iter().map(|r| r.seq).collect()
}

async fn appends_are_dense_and_in_order<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let (room, other) = (room(1, 1), room(1, 2));
    let fence = own(engine, 1).await;
    assert_eq!(engine.head(room).await, Ok(0));
    for seq in 1..=3 {
        append(engine, fence, record(room, seq)).await.unwrap();
        assert_eq!(engine.head(room).await, Ok(seq));
    }
    for wrong in [0, 3, 5, u64::MAX] {
        let refused = append(engine, fence, record(room, wrong)).await;
        assert_eq!(refused, Err(StoreError::OutOfSequence { head: 3, got: wrong }));
    }
    append(engine, fence, record(room, 4)).await.unwrap();
    append(engine, fence, record(other, 1)).await.unwrap();
    assert_eq!(all(engine, room).await, stored(room, 1..=4));
    assert_eq!(all(engine, other).await, stored(other, 1..=1));
}

async fn appends_are_queued_when_the_call_returns<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let room = room(2, 1);
    let fence = own(engine, 2).await;
    let mut acks = Vec::new();
    for seq in 1..=300 {
        let place = engine.reserve().await.unwrap();
        let ack = engine.append(place, fence, record(room, seq));
        if seq % 3 == 0 {
            drop(ack); // does not take the record back
        } else {
            acks.push(ack);
        }
    }
    for ack in join_all(acks).await {
        ack.unwrap();
    }
    append(engine, fence, record(room, 301)).await.unwrap();
    assert_eq!(all(engine, room).await, stored(room, 1..=301));
}

async fn client_ids_are_found<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let (here, there) = (room(3, 1), room(3, 2));
    let fence = own(engine, 3).await;
    fill(engine, fence, here, 1..=5).await;
    assert_eq!(engine.find(here, &user("alice"), client_id(4)), Ok(Some(4)));
    assert_eq!(engine.find(here, &user("alice"), client_id(6)), Ok(None));
    assert_eq!(engine.find(here, &user("bob"), client_id(4)), Ok(None));
    assert_eq!(engine.find(here, &user("alic"), client_id(4)), Ok(None));
    assert_eq!(engine.find(there, &user("alice"), client_id(4)), Ok(None));
    engine.trim(here, 4).await.unwrap();
    assert_eq!(engine.find(here, &user("alice"), client_id(3)), Ok(None));
    assert_eq!(engine.find(here, &user("alice"), client_id(4)), Ok(Some(4)));
}

async fn what_was_acknowledged_survives<F: Factory>(factory: &F) {
    let engine = factory.open().await;
    let room = room(4, 1);
    let fence = own(&*engine, 4).await;
    fill(&*engine, fence, room, 1..=40).await;
    let put =
        |value: &str| Mutation::Put { table: Table::Users, key: "a".into(), value: value.to_owned().into() };
    engine.write(vec![put("1"), put("2")]).await.unwrap();
    let before = engine.get(Table::Users, b"a").unwrap().unwrap();

    let engine = factory.reopen(engine).await;
    assert_eq!(all(&*engine, room).await, stored(room, 1..=40));
    assert_eq!(engine.head(room).await, Ok(40));
    assert_eq!(engine.find(room, &user("alice"), client_id(40)), Ok(Some(40)));
    assert_eq!(engine.get(Table::Users, b"a"), Ok(Some(before.clone())));
    assert_eq!(before.value, "2");

    let again = own(&*engine, 4).await;
    assert!(again > fence, "{again:?} after {fence:?}");
    append(&*engine, again, record(room, 41)).await.unwrap();
    let key = Bytes::from("a");
    let set = engine.compare_and_set(Table::Users, key, Some(before.revision), "3".into()).await.unwrap();
    assert!(set > before.revision);

    let engine = factory.reopen(engine).await;
    assert_eq!(engine.head(room).await, Ok(41));
    assert_eq!(engine.get(Table::Users, b"a").unwrap().unwrap().value, "3");
}

async fn pages_respect_their_limits<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let room = room(5, 1);
    let fence = own(engine, 5).await;
    // Neighbours in the order of keys, which must never show up.
    for neighbour in [self::room(5, 0), self::room(5, 2)] {
        fill(engine, fence, neighbour, 1..=5).await;
    }
    assert_eq!(all(engine, room).await, vec![]);
    fill(engine, fence, room, 1..=100).await;
    let read =
        |after, limit, bytes| async move { seqs(&engine.read(room, after, limit, bytes).await.unwrap()) };
    let back = |before, limit, bytes| async move {
        seqs(&engine.read_back(room, before, limit, bytes).await.unwrap())
    };
    assert_eq!(read(0, 3, usize::MAX).await, vec![1, 2, 3]);
    assert_eq!(read(97, 50, usize::MAX).await, vec![98, 99, 100]);
    assert_eq!(read(100, 50, usize::MAX).await, Vec::<u64>::new());
    assert_eq!(read(u64::MAX, 50, usize::MAX).await, Vec::<u64>::new());
    assert_eq!(read(0, 0, usize::MAX).await, Vec::<u64>::new());
    assert_eq!(back(4, 50, usize::MAX).await, vec![3, 2, 1]);
    assert_eq!(back(u64::MAX, 2, usize::MAX).await, vec![100, 99]);
    assert_eq!(back(1, 50, usize::MAX).await, Vec::<u64>::new());
    assert_eq!(back(0, 50, usize::MAX).await, Vec::<u64>::new());
    // Bytes: at least one, and no more than fit.
    let one = record(room, 50).bytes.len();
    assert_eq!(read(49, 50, 1).await, vec![50]);
    assert_eq!(read(49, 50, one * 3).await, vec![50, 51, 52]);
    assert_eq!(back(60, 50, one * 2).await, vec![59, 58]);
}

async fn trimming_keeps_the_head<F: Factory>(factory: &F) {
    let engine = factory.open().await;
    let (room, untouched) = (room(6, 1), room(6, 2));
    let fence = own(&*engine, 6).await;
    fill(&*engine, fence, room, 1..=10).await;
    fill(&*engine, fence, untouched, 1..=3).await;
    assert_eq!(engine.trim(room, 4).await, Ok(3));
    assert_eq!(engine.trim(room, 4).await, Ok(0));
    assert_eq!(engine.trim(room, 2).await, Ok(0));
    assert_eq!(all(&*engine, room).await, stored(room, 4..=10));
    let back = engine.read_back(room, u64::MAX, 100, usize::MAX).await.unwrap();
    assert_eq!(seqs(&back), (4..=10).rev().collect::<Vec<_>>());
    assert_eq!(engine.trim(room, u64::MAX).await, Ok(7));
    assert_eq!(all(&*engine, room).await, vec![]);
    assert_eq!(engine.head(room).await, Ok(10));
    assert_eq!(engine.trim(self::room(6, 3), 100).await, Ok(0));

    let engine = factory.reopen(engine).await;
    assert_eq!(engine.head(room).await, Ok(10));
    let fence = own(&*engine, 6).await;
    let refused = append(&*engine, fence, record(room, 1)).await;
    assert_eq!(refused, Err(StoreError::OutOfSequence { head: 10, got: 1 }));
    append(&*engine, fence, record(room, 11)).await.unwrap();
    assert_eq!(engine.head(room).await, Ok(11));
    assert_eq!(all(&*engine, room).await, stored(room, 11..=11));
    assert_eq!(all(&*engine, untouched).await, stored(untouched, 1..=3));
}

async fn trimming_takes_more_than_one_commit<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let room = room(7, 1);
    let fence = own(engine, 7).await;
    fill(engine, fence, room, 1..=3000).await;
    let trims = [engine.trim(room, 2901), engine.trim(room, 2901)];
    let removed: Vec<u64> = join_all(trims).await.into_iter().map(Result::unwrap).collect();
    assert!(removed.iter().max() == Some(&2900), "{removed:?}");
    assert_eq!(all(engine, room).await, stored(room, 2901..=3000));
    assert_eq!(engine.find(room, &user("alice"), client_id(2900)), Ok(None));
}

async fn older_owners_are_fenced<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let (mine, other) = (room(8, 1), room(9, 1));
    for never_given in [Epoch(0), Epoch(1)] {
        assert_eq!(append(engine, never_given, record(mine, 1)).await, Err(StoreError::Fenced));
    }
    let epochs = engine.acquire(vec![8, 9], "first").await.unwrap();
    append(engine, epochs[0], record(mine, 1)).await.unwrap();
    append(engine, epochs[1], record(other, 1)).await.unwrap();
    let newer = engine.acquire(vec![8], "second").await.unwrap();
    assert!(newer[0] > epochs[0]);
    assert_eq!(append(engine, epochs[0], record(mine, 2)).await, Err(StoreError::Fenced));
    append(engine, newer[0], record(mine, 2)).await.unwrap();
    append(engine, epochs[1], record(other, 2)).await.unwrap();
    assert_eq!(all(engine, mine).await, stored(mine, 1..=2));
}

async fn values_have_growing_revisions<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let put =
        |value: &str| Mutation::Put { table: Table::Rooms, key: "k".into(), value: value.to_owned().into() };
    let delete = || Mutation::Delete { table: Table::Rooms, key: "k".into() };
    let mut last = 0;
    for value in ["1", "2", ""] {
        engine.write(vec![put(value)]).await.unwrap();
        let found = engine.get(Table::Rooms, b"k").unwrap().unwrap();
        assert_eq!(found.value, value);
        assert!(found.revision > last);
        last = found.revision;
    }
    assert_eq!(engine.get(Table::Users, b"k"), Ok(None));
    engine.write(vec![delete()]).await.unwrap();
    assert_eq!(engine.get(Table::Rooms, b"k"), Ok(None));
    engine.write(vec![delete(), put("3"), delete(), put("4")]).await.unwrap();
    let found = engine.get(Table::Rooms, b"k").unwrap().unwrap();
    assert_eq!(found.value, "4");
    assert!(found.revision > last, "a value that comes again has a new revision");
    engine.write(vec![]).await.unwrap();
}

async fn compare_and_set_has_one_winner<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let set = |expected, value: &str| {
        engine.compare_and_set(Table::System, "k".into(), expected, value.to_owned().into())
    };
    let tries = join_all((0..50).map(|i| set(None, &i.to_string()))).await;
    let won: Vec<usize> = (0..50).filter(|i| tries[*i].is_ok()).collect();
    assert_eq!(won.len(), 1);
    assert!(tries.iter().all(|t| t.is_ok() || *t == Err(StoreError::Conflict)));
    let found = engine.get(Table::System, b"k").unwrap().unwrap();
    assert_eq!(found.value, won[0].to_string());
    assert_eq!(Ok(found.revision), tries[won[0]]);

    assert_eq!(set(Some(found.revision + 1), "x").await, Err(StoreError::Conflict));
    let next = set(Some(found.revision), "y").await.unwrap();
    assert_eq!(set(Some(found.revision), "z").await, Err(StoreError::Conflict));
    engine.write(vec![Mutation::Delete { table: Table::System, key: "k".into() }]).await.unwrap();
    assert_eq!(set(Some(next), "z").await, Err(StoreError::Conflict));
    assert!(set(None, "z").await.unwrap() > next);
}

async fn scans_come_in_pages<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let put = |key: &[u8]| Mutation::Put {
        table: Table::UserRooms,
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(key),
    };
    let keys: [&[u8]; 8] = [b"\0", b"a", b"a\0", b"ab", b"a\xff", b"a\xff\xff", b"b", b"\xff\xff"];
    engine.write(keys.iter().map(|k| put(k)).collect()).await.unwrap();
    let scan = |prefix: &[u8], after: Option<&[u8]>, limit| -> Vec<Bytes> {
        let rows = engine.scan(Table::UserRooms, prefix, after, limit).unwrap();
        assert!(rows.iter().all(|(key, value)| *key == value.value));
        rows.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(scan(b"", None, 100), keys);
    assert_eq!(scan(b"a", None, 100), keys[1..6]);
    assert_eq!(scan(b"a\xff", None, 100), keys[4..6]);
    assert_eq!(scan(b"\xff", None, 100), keys[7..]);
    assert_eq!(scan(b"c", None, 100), keys[..0]);
    assert_eq!(scan(b"a", Some(b"a\0"), 2), keys[3..5]);
    assert_eq!(scan(b"a", Some(b""), 2), keys[1..3]);
    assert_eq!(scan(b"a", Some(b"b"), 2), keys[..0]);
    assert_eq!(scan(b"a", Some(b"a\xff\xff"), 2), keys[..0]);
    assert_eq!(scan(b"", None, 0), keys[..0]);
    assert_eq!(engine.scan(Table::Users, b"", None, 100), Ok(vec![]));
}

async fn what_does_not_fit_is_refused<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let put = |key: Bytes, value: Bytes| Mutation::Put { table: Table::Users, key, value };
    let key = |bytes: usize| Bytes::from(vec![7; bytes]);
    for (bad, value) in
        [(key(0), key(1)), (key(KEY_BYTES_MAX + 1), key(1)), (key(1), key(VALUE_BYTES_MAX + 1))]
    {
        // Nothing of a batch is written when one of it does not fit.
        let batch = vec![put("good".into(), "x".into()), put(bad.clone(), value.clone())];
        assert!(matches!(engine.write(batch).await, Err(StoreError::Unfit(_))));
        let set = engine.compare_and_set(Table::Users, bad, None, value).await;
        assert!(matches!(set, Err(StoreError::Unfit(_))));
    }
    assert_eq!(engine.scan(Table::Users, b"", None, 10), Ok(vec![]));
    assert_eq!(engine.get(Table::Users, b""), Ok(None));
    engine.write(vec![put(key(KEY_BYTES_MAX), key(VALUE_BYTES_MAX))]).await.unwrap();
    assert_eq!(engine.get(Table::Users, &key(KEY_BYTES_MAX)).unwrap().unwrap().value.len(), VALUE_BYTES_MAX);
}

async fn watchers_see_changes_in_order<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let put = |key: &str, value: &str| Mutation::Put {
        table: Table::Settings,
        key: key.to_owned().into(),
        value: value.to_owned().into(),
    };
    engine.write(vec![put("a/0", "before")]).await.unwrap();
    let mut watch = engine.watch(Table::Settings, b"a/");
    let gone = engine.watch(Table::Settings, b"");
    drop(gone);
    let batch = vec![
        put("a/1", "x"),
        put("b/1", "x"),
        Mutation::Delete { table: Table::Settings, key: "a/0".into() },
    ];
    engine.write(batch).await.unwrap();
    engine
        .write(vec![Mutation::Put { table: Table::Users, key: "a/2".into(), value: "x".into() }])
        .await
        .unwrap();
    let revision = engine.compare_and_set(Table::Settings, "a/3".into(), None, "y".into()).await.unwrap();
    let first = engine.get(Table::Settings, b"a/1").unwrap().unwrap();
    let expected = [
        Change::Put { key: "a/1".into(), value: first },
        Change::Deleted { key: "a/0".into() },
        Change::Put { key: "a/3".into(), value: crate::Versioned { revision, value: "y".into() } },
    ];
    for change in expected {
        assert_eq!(tokio::time::timeout(LIMIT, watch.recv()).await.unwrap(), Some(change));
    }
    assert!(watch.try_recv().is_err());
}

async fn slow_watchers_are_told_once<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let mut watch = engine.watch(Table::Settings, b"");
    let put =
        |i: usize| Mutation::Put { table: Table::Settings, key: "k".into(), value: i.to_string().into() };
    engine.write((0..WATCH_QUEUE * 2).map(put).collect()).await.unwrap();
    engine.write((0..10).map(put).collect()).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(change) = watch.try_recv() {
        seen.push(change);
    }
    assert_eq!(seen.iter().filter(|c| **c == Change::Lagged).count(), 1);
    assert_eq!(seen.last(), Some(&Change::Lagged), "what is scanned after it is newer than what was dropped");
    engine.write(vec![put(7)]).await.unwrap();
    let next = tokio::time::timeout(LIMIT, watch.recv()).await.unwrap();
    assert!(matches!(next, Some(Change::Put { value, .. }) if value.value == "7"));
}

async fn the_queue_is_bounded<F: Factory>(factory: &F) {
    let engine = &*factory.open().await;
    let mut places = Vec::new();
    for _ in 0..PLACES {
        places.push(engine.reserve().await.unwrap());
    }
    let mut next = engine.reserve();
    assert!((&mut next).now_or_never().is_none(), "a place beyond the bound was given out");
    // A place comes back when it is dropped, and when what was queued with it is done.
    places.pop();
    let place = tokio::time::timeout(LIMIT, next).await.unwrap().unwrap();
    let fence = own(engine, 10).await;
    engine.append(place, fence, record(room(10, 1), 1)).await.unwrap();
    drop(tokio::time::timeout(LIMIT, engine.reserve()).await.unwrap().unwrap());
}

async fn many_rooms_at_once<F: Factory>(factory: &F) {
    const ROOMS: u8 = 40;
    const EACH: u64 = 60;
    let engine = factory.open().await;
    let shards: Vec<u8> = (0..ROOMS).collect();
    let epochs = engine.acquire(shards, "suite").await.unwrap();
    let writers = (0..ROOMS).map(|shard| {
        let (engine, fence) = (Arc::clone(&engine), epochs[usize::from(shard)]);
        tokio::spawn(async move {
            let room = room(shard, shard);
            fill(&*engine, fence, room, 1..=EACH / 2).await;
            let key = Bytes::copy_from_slice(room.as_bytes());
            engine.compare_and_set(Table::Rooms, key, None, "state".into()).await.unwrap();
            fill(&*engine, fence, room, EACH / 2 + 1..=EACH).await;
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let engine = factory.reopen(engine).await;
    let mut revisions = HashSet::new();
    for shard in 0..ROOMS {
        let room = room(shard, shard);
        assert_eq!(all(&*engine, room).await, stored(room, 1..=EACH));
        revisions.insert(engine.get(Table::Rooms, room.as_bytes()).unwrap().unwrap().revision);
    }
    assert_eq!(revisions.len(), usize::from(ROOMS));
}

async fn nothing_is_acknowledged_after_a_failed_sync<F: Factory>(factory: &F) {
    let engine = factory.open().await;
    let room = room(11, 1);
    let fence = own(&*engine, 11).await;
    fill(&*engine, fence, room, 1..=5).await;
    let (early, late) = (engine.reserve().await.unwrap(), engine.reserve().await.unwrap());
    factory.fail_next_sync(&engine);
    let stopped =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Stopped(_))), "{result:?}");
    stopped(engine.append(early, fence, record(room, 6)).await);
    stopped(engine.append(late, fence, record(room, 7)).await);
    stopped(engine.reserve().await.map(|_| ()));
    stopped(engine.write(vec![]).await);
    stopped(engine.compare_and_set(Table::Users, "k".into(), None, "v".into()).await.map(|_| ()));
    stopped(engine.acquire(vec![11], "suite").await.map(|_| ()));
    stopped(engine.trim(room, 3).await.map(|_| ()));
    assert!(matches!(engine.trouble(), Some(StoreError::Stopped(_))));
    // What was stored before can still be read, now and later.
    assert_eq!(all(&*engine, room).await[..5], stored(room, 1..=5));
    let engine = factory.reopen(engine).await;
    assert_eq!(engine.trouble(), None);
    let found = all(&*engine, room).await;
    assert_eq!(found, stored(room, 1..=found.len() as u64));
    assert!((5..=6).contains(&found.len()), "{}", found.len());
}
