//! Backup and restore: what comes back is what was there, and nothing else is ever taken for a backup.

use super::*;
use crate::boundary::{Epoch, Kv, Leases, Mutation, RoomLog, SealedRecord};
use crate::fjall_engine::Options;
use crate::memory::MemoryEngine;
use crate::sealing::{MemoryKeyWrap, RecordHeader, Sealer};
use std::sync::Arc;
use tempfile::{TempDir, tempdir};

const ROOM: RoomId = RoomId::from_bytes([5; 16]);

fn options() -> Options {
    Options { free_bytes_min: 0, ..Options::default() }
}

fn quiet(_: Progress) {}

fn client_id(seq: u64) -> ClientId {
    ClientId::from_bytes([seq as u8; 16])
}

async fn send<E: RoomLog>(engine: &E, sealer: &Sealer, fence: Epoch, seqs: std::ops::RangeInclusive<u64>) {
    let key = sealer.room_key(ROOM).await.unwrap();
    for seq in seqs {
        let sender: buslane_shared::id::UserId = "alice".parse().unwrap();
        let header = RecordHeader {
            room: ROOM,
            seq,
            sender: sender.clone(),
            client_id: client_id(seq),
            sent_at_ms: seq,
        };
        let bytes = key.seal(fence, &header, b"a marker to look for").unwrap();
        let record = SealedRecord { room: ROOM, seq, sender, client_id: client_id(seq), bytes };
        engine.append(engine.reserve().await.unwrap(), fence, record).await.unwrap();
    }
}

struct Fixture {
    engine: Arc<MemoryEngine>,
    wrap: Arc<MemoryKeyWrap>,
    fence: Epoch,
    folder: TempDir,
}

async fn fixture() -> Fixture {
    let engine = MemoryEngine::new();
    let wrap = Arc::new(MemoryKeyWrap::new().unwrap());
    let sealer = Sealer::new(engine.clone(), wrap.clone());
    let fence = engine.acquire(vec![ROOM.shard()], "test").await.unwrap()[0];
    send(&*engine, &sealer, fence, 1..=20).await;
    engine.trim(ROOM, 6).await.unwrap();
    let put = |i: u32| Mutation::Put {
        table: Table::Users,
        key: i.to_be_bytes().to_vec().into(),
        value: vec![7; 2000].into(),
    };
    engine.write((0..300).map(put).collect()).await.unwrap();
    Fixture { engine, wrap, fence, folder: tempdir().unwrap() }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn backup(&self) -> (PathBuf, Summary) {
        let path = self.path("backup");
        let summary = backup(&*self.engine, &path, 77, &mut quiet).unwrap();
        (path, summary)
    }
}

fn entries(engine: &dyn Export) -> Vec<Entry> {
    let mut all = Vec::new();
    engine
        .export(&mut |entry| {
            // Epochs are raised on purpose.
            all.push(match entry {
                Entry::Lease { shard, owner, .. } => Entry::Lease { shard, owner, epoch: 0 },
                entry => entry,
            });
            Ok(())
        })
        .unwrap();
    all
}

#[tokio::test]
async fn a_restored_store_holds_what_was_there_and_goes_on() {
    let f = fixture().await;
    let (path, summary) = f.backup();
    assert_eq!((summary.records, summary.taken_at_ms), (15, 77));
    assert_eq!(summary.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(summary.key_ids, BTreeSet::from([crate::keywrap::KeyWrap::newest(&*f.wrap)]));
    assert_eq!(verify(&path, &mut quiet).unwrap(), summary);

    let mut last = Progress::default();
    assert_eq!(restore(&path, &f.path("store"), &mut |p| last = p).unwrap(), summary);
    assert_eq!(last.entries, summary.entries);
    let engine = FjallEngine::open(&f.path("store"), options()).unwrap();
    assert_eq!(entries(&*engine), entries(&*f.engine));
    assert_eq!(engine.head(ROOM).await, Ok(20));
    let alice = "alice".parse().unwrap();
    assert_eq!(engine.find(ROOM, &alice, client_id(20)), Ok(Some(20)));
    assert_eq!(engine.find(ROOM, &alice, client_id(3)), Ok(None));

    let sealer = Sealer::new(engine.clone(), f.wrap.clone());
    sealer.check().await.unwrap();
    let fence = engine.acquire(vec![ROOM.shard()], "test").await.unwrap()[0];
    assert!(fence.0 > f.fence.0 + EPOCH_JUMP, "a nonce could be used twice");
    send(&*engine, &sealer, fence, 21..=22).await;
    let key = sealer.room_key(ROOM).await.unwrap();
    for stored in engine.read(ROOM, 0, 100, usize::MAX).await.unwrap() {
        assert_eq!(key.open(ROOM, &stored).unwrap().clear, "a marker to look for");
    }
}

#[tokio::test]
async fn the_content_is_not_in_the_backup() {
    let f = fixture().await;
    let bytes = fs::read(f.backup().0).unwrap();
    assert!(!bytes.windows(6).any(|w| w == b"marker"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_store_is_of_one_moment() {
    let f = fixture().await;
    let engine = FjallEngine::open(&f.path("live"), options()).unwrap();
    let sealer = Sealer::new(engine.clone(), f.wrap.clone());
    let fence = engine.acquire(vec![ROOM.shard()], "test").await.unwrap()[0];
    send(&*engine, &sealer, fence, 1..=50).await;
    let (written, mut progress) = tokio::sync::watch::channel(50u64);
    let writer = {
        let (engine, sealer) = (engine.clone(), sealer.clone());
        tokio::spawn(async move {
            // Until the last backup was taken: then nobody follows the progress any more.
            for seq in 51.. {
                send(&*engine, &sealer, fence, seq..=seq).await;
                // Two tables that are always written together.
                let put = |table| Mutation::Put { table, key: "n".into(), value: seq.to_string().into() };
                engine.write(vec![put(Table::Rooms), put(Table::System)]).await.unwrap();
                if written.send(seq).is_err() {
                    break;
                }
            }
        })
    };
    for number in 0..24 {
        // Something was written since the one before, and the writer goes on.
        progress.changed().await.unwrap();
        let path = f.path(&format!("live{number}"));
        let taken = {
            let (engine, path) = (engine.clone(), path.clone());
            tokio::task::spawn_blocking(move || backup(&*engine, &path, 0, &mut quiet).unwrap())
                .await
                .unwrap()
        };
        if number % 8 == 0 {
            let folder = f.path(&format!("restored{number}"));
            restore(&path, &folder, &mut quiet).unwrap();
            let copy = FjallEngine::open(&folder, options()).unwrap();
            assert_eq!(copy.head(ROOM).await, Ok(taken.records));
            let of = |table| copy.get(table, b"n").unwrap().map(|v| v.value);
            assert_eq!(of(Table::Rooms), of(Table::System));
        }
    }
    drop(progress);
    writer.await.unwrap();
}

#[tokio::test]
async fn every_cut_and_every_flip_is_noticed_and_leaves_no_store() {
    let f = fixture().await;
    let (path, _) = f.backup();
    let whole = fs::read(&path).unwrap();
    let bad = f.path("bad");
    let step = whole.len() / 150;
    for at in (0..whole.len()).step_by(step).chain(whole.len() - 40..whole.len()) {
        fs::write(&bad, &whole[..at]).unwrap();
        assert!(verify(&bad, &mut quiet).is_err(), "cut at {at}");
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&bad, &flipped).unwrap();
        assert!(verify(&bad, &mut quiet).is_err(), "flip at {at}");
    }
    fs::write(&bad, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(restore(&bad, &f.path("store"), &mut quiet), Err(BackupError::Damaged { .. })));
    assert!(!f.path("store").exists());
}

#[tokio::test]
async fn what_is_not_a_backup_of_ours_is_said_so() {
    let f = fixture().await;
    let (path, _) = f.backup();
    let mut newer = fs::read(&path).unwrap();
    newer[15] = 2;
    fs::write(f.path("newer"), newer).unwrap();
    assert!(matches!(
        verify(&f.path("newer"), &mut quiet),
        Err(BackupError::NewerForm { found: 2, known: 1, .. })
    ));
    for other in [&b""[..], b"PK", &[0; 500]] {
        fs::write(f.path("other"), other).unwrap();
        assert!(matches!(verify(&f.path("other"), &mut quiet), Err(BackupError::NotABackup(_))));
    }
    assert!(matches!(verify(&f.path("missing"), &mut quiet), Err(BackupError::Io { .. })));
}

#[tokio::test]
async fn nothing_is_ever_overwritten() {
    let f = fixture().await;
    let (path, _) = f.backup();
    assert!(matches!(backup(&*f.engine, &path, 0, &mut quiet), Err(BackupError::Exists(_))));
    fs::create_dir(f.path("full")).unwrap();
    fs::write(f.path("full").join("letter"), "dear").unwrap();
    let refused = restore(&path, &f.path("full"), &mut quiet);
    assert!(matches!(refused, Err(BackupError::Folder(OpenError::NotEmpty(_)))));
    restore(&path, &f.path("store"), &mut quiet).unwrap();
    assert!(restore(&path, &f.path("store"), &mut quiet).is_err());
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let f = fixture().await;
    f.engine.damage(ROOM, 10); // its seal, which a backup does not look into
    assert!(backup(&*f.engine, &f.path("fine"), 0, &mut quiet).is_ok());
    let nowhere = f.path("no such folder").join("backup");
    assert!(matches!(backup(&*f.engine, &nowhere, 0, &mut quiet), Err(BackupError::Io { .. })));

    struct Broken;
    impl Export for Broken {
        fn export(&self, each: &mut dyn FnMut(Entry) -> io::Result<()>) -> Result<(), ExportError> {
            each(Entry::Revisions { reserved: 1 })?;
            Err(StoreError::Damaged("a block".into()).into())
        }
    }
    assert!(matches!(backup(&Broken, &f.path("broken"), 0, &mut quiet), Err(BackupError::Store(_))));
    let names: Vec<_> = fs::read_dir(f.folder.path()).unwrap().map(|n| n.unwrap().file_name()).collect();
    assert_eq!(names, ["fine"]);
}
