//! Sealing: every flipped bit is noticed, nothing opens in another place, and rotation loses nothing.

use super::*;
use crate::boundary::Kv;
use crate::memory::MemoryEngine;
use buslane_shared::id::ClientId;
use proptest::prelude::*;

const ROOM: RoomId = RoomId::from_bytes([7; 16]);

fn header(seq: u64) -> RecordHeader {
    RecordHeader {
        room: ROOM,
        seq,
        sender: "alice".parse().unwrap(),
        client_id: ClientId::from_bytes([3; 16]),
        sent_at_ms: 1_700_000_000_000,
    }
}

struct Fixture {
    engine: Arc<MemoryEngine>,
    wrap: Arc<MemoryKeyWrap>,
    sealer: Sealer,
}

fn fixture() -> Fixture {
    let engine = MemoryEngine::new();
    let wrap = Arc::new(MemoryKeyWrap::new().unwrap());
    let sealer = Sealer::new(engine.clone(), wrap.clone());
    Fixture { engine, wrap, sealer }
}

fn stored(seq: u64, bytes: Bytes) -> StoredRecord {
    StoredRecord { seq, bytes }
}

#[tokio::test]
async fn a_record_opens_as_it_was_sealed() {
    let key = fixture().sealer.room_key(ROOM).await.unwrap();
    for (seq, clear) in [(1, &b""[..]), (2, b"hello"), (3, &[9; CONTENT_BYTES_MAX])] {
        let sealed = key.seal(Epoch(1), &header(seq), clear).unwrap();
        let open = key.open(ROOM, &stored(seq, sealed)).unwrap();
        assert_eq!(open, OpenRecord { header: header(seq), clear: Bytes::copy_from_slice(clear) });
    }
    assert!(key.seal(Epoch(1), &header(4), &[0; CONTENT_BYTES_MAX + 1]).is_err());
}

#[tokio::test]
async fn the_content_is_not_in_the_record() {
    let key = fixture().sealer.room_key(ROOM).await.unwrap();
    let sealed = key.seal(Epoch(1), &header(1), b"a marker to look for").unwrap();
    assert!(!sealed.windows(6).any(|w| w == b"marker"));
}

#[tokio::test]
async fn every_flipped_bit_of_a_record_is_noticed() {
    let key = fixture().sealer.room_key(ROOM).await.unwrap();
    let sealed = key.seal(Epoch(1), &header(1), b"hello").unwrap();
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut flipped = sealed.to_vec();
            flipped[at] ^= 1 << bit;
            assert!(key.open(ROOM, &stored(1, flipped.into())).is_err(), "byte {at}, bit {bit}");
        }
    }
    for cut in 0..sealed.len() {
        assert!(key.open(ROOM, &stored(1, sealed.slice(..cut))).is_err(), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_record_that_was_moved_does_not_open() {
    let sealer = fixture().sealer;
    let other = RoomId::from_bytes([8; 16]);
    let (key, other_key) = (sealer.room_key(ROOM).await.unwrap(), sealer.room_key(other).await.unwrap());
    let sealed = key.seal(Epoch(1), &header(1), b"hello").unwrap();
    assert!(key.open(ROOM, &stored(2, sealed.clone())).is_err());
    assert!(key.open(other, &stored(1, sealed.clone())).is_err());
    assert!(other_key.open(other, &stored(1, sealed.clone())).is_err());
    assert!(other_key.open(ROOM, &stored(1, sealed)).is_err());
}

#[tokio::test]
async fn no_nonce_is_used_twice() {
    let key = fixture().sealer.room_key(ROOM).await.unwrap();
    assert!(key.seal(Epoch(2), &header(5), b"one").is_ok());
    for (epoch, seq) in [(2, 5), (2, 4), (1, 6)] {
        assert_eq!(key.seal(Epoch(epoch), &header(seq), b"two"), Err(StoreError::Fenced));
    }
    assert!(key.seal(Epoch(3), &header(5), b"two").is_ok());
}

#[tokio::test]
async fn keys_survive_a_restart_and_a_race_makes_one_key() {
    let Fixture { engine, wrap, sealer } = fixture();
    let keys = join_all((0..20).map(|_| sealer.room_key(ROOM))).await;
    let keys: Vec<_> = keys.into_iter().map(Result::unwrap).collect();
    assert!(keys.iter().all(|k| Arc::ptr_eq(k, &keys[0])));
    let sealed = keys[0].seal(Epoch(1), &header(1), b"hello").unwrap();

    let sealer = Sealer::new(engine.reopen().unwrap(), wrap);
    let key = sealer.room_key(ROOM).await.unwrap();
    assert_eq!(key.open(ROOM, &stored(1, sealed)).unwrap().clear, "hello");
}

#[tokio::test]
async fn a_wrong_key_file_is_noticed_at_the_start() {
    let Fixture { engine, sealer, .. } = fixture();
    sealer.check().await.unwrap();
    let foreign = Sealer::new(engine, Arc::new(MemoryKeyWrap::new().unwrap()));
    assert!(matches!(foreign.check().await, Err(SealError::Key(KeyWrapError::UnknownKey { .. }))));
    assert!(foreign.room_key(ROOM).await.is_err());
}

#[tokio::test]
async fn a_store_without_its_check_value_is_not_taken_over_by_foreign_keys() {
    let Fixture { engine, wrap, sealer } = fixture();
    sealer.room_key(ROOM).await.unwrap();
    let lost = Mutation::Delete { table: Table::Keys, key: secret_key(CHECK_NAME) };
    engine.write(vec![lost]).await.unwrap();
    let foreign = Sealer::new(engine.clone(), Arc::new(MemoryKeyWrap::new().unwrap()));
    assert!(foreign.check().await.is_err());
    assert!(Sealer::new(engine, wrap).check().await.is_ok());
}

#[tokio::test]
async fn rotation_rewraps_everything_and_loses_nothing() {
    let Fixture { engine, wrap, sealer } = fixture();
    let rooms: Vec<RoomId> =
        (0..600u16).map(|i| RoomId::from_bytes([i.to_be_bytes(); 8].concat().try_into().unwrap())).collect();
    let key = sealer.room_key(ROOM).await.unwrap();
    let sealed = key.seal(Epoch(1), &header(1), b"hello").unwrap();
    join_all(rooms.iter().map(|r| sealer.room_key(*r))).await;
    sealer.put_secret("token keys", b"secret").await.unwrap();

    let mut last = RewrapProgress::default();
    let id = sealer.rotate(|p| last = p).await.unwrap();
    assert_eq!((id, last.rewrapped), (wrap.newest(), 600 + 3));
    assert_eq!(sealer.rewrap(|_| ()).await.unwrap().rewrapped, 0);

    assert_eq!(wrap.retire().await.unwrap().len(), 1);
    let sealer = Sealer::new(engine.reopen().unwrap(), wrap);
    sealer.check().await.unwrap();
    let key = sealer.room_key(ROOM).await.unwrap();
    assert_eq!(key.open(ROOM, &stored(1, sealed)).unwrap().clear, "hello");
    assert_eq!(sealer.secret("token keys").await.unwrap().unwrap().as_slice(), b"secret");
    assert_eq!(sealer.secret("nothing").await.unwrap(), None);
}

#[tokio::test]
async fn a_renewed_key_seals_and_a_shredded_one_is_gone() {
    let Fixture { engine, wrap, sealer } = fixture();
    let key = sealer.room_key(ROOM).await.unwrap();
    let old = key.seal(Epoch(1), &header(1), b"old").unwrap();
    assert_eq!(sealer.renew(ROOM).await.unwrap(), KeyEpoch(2));
    let new = key.seal(Epoch(1), &header(2), b"new").unwrap();
    assert_eq!(key.open(ROOM, &stored(1, old.clone())).unwrap().clear, "old");
    assert_eq!(sealer.shred(ROOM, KeyEpoch(9)).await.unwrap(), 1);

    let fresh = Sealer::new(engine, wrap).room_key(ROOM).await.unwrap();
    for key in [key, fresh] {
        assert!(key.open(ROOM, &stored(1, old.clone())).is_err());
        assert_eq!(key.open(ROOM, &stored(2, new.clone())).unwrap().clear, "new");
    }
}

#[test]
fn keys_that_somebody_holds_stay_and_the_others_are_bounded() {
    let key = |n: usize| RoomKey {
        room: RoomId::from_bytes((n as u128).to_be_bytes()),
        epochs: RwLock::default(),
        last: Mutex::new((Epoch(0), 0)),
    };
    let mut rooms = Rooms { keys: HashMap::new(), prune_at: ROOM_KEYS_MAX };
    let held: Vec<_> = (0..10).map(|n| rooms.keep(key(n))).collect();
    for n in 10..ROOM_KEYS_MAX * 3 {
        drop(rooms.keep(key(n)));
        assert!(rooms.keys.len() <= ROOM_KEYS_MAX);
    }
    for (n, held) in held.iter().enumerate() {
        assert!(Arc::ptr_eq(held, &rooms.keep(key(n))), "there are two keys of a room");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..200), seq: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let key = runtime.block_on(fixture().sealer.room_key(ROOM)).unwrap();
        prop_assert!(key.open(ROOM, &stored(seq, bytes.into())).is_err());
    }
}
