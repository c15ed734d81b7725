//! Random histories against a model: whatever is done, in whatever order, with restarts in between, both engines hold
//! exactly what the model holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use buslane_shared::id::{ClientId, RoomId, UserId};
use buslane_store::fjall_engine::{FjallEngine, Options};
use buslane_store::memory::MemoryEngine;
use buslane_store::{Engine, Epoch, Mutation, SealedRecord, StoreError, Table};
use bytes::Bytes;
use proptest::prelude::*;

const ROOMS: u8 = 3;
const KEYS: u8 = 5;
const TABLES: [Table; 2] = [Table::Rooms, Table::System];

#[derive(Debug, Clone)]
enum Step {
    /// That many records at once.
    Append {
        room: u8,
        records: u8,
        bytes: u16,
    },
    /// A sequence that is `off` from the right one.
    AppendWrong {
        room: u8,
        off: u8,
    },
    /// With the epoch before the present one.
    AppendFenced {
        room: u8,
    },
    /// Everything but the last `keep`.
    Trim {
        room: u8,
        keep: u8,
    },
    Write {
        puts: Vec<(u8, u8, Option<u8>)>,
    },
    /// With the revision that the key had when it was last seen by the model, or with another.
    CompareAndSet {
        table: u8,
        key: u8,
        value: u8,
        is_right: bool,
    },
    Acquire {
        room: u8,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..ROOMS;
    let place = (0..TABLES.len() as u8, 0..KEYS);
    prop_oneof![
        6 => (room.clone(), 1u8..40, 0u16..600).prop_map(|(room, records, bytes)| Step::Append { room, records, bytes }),
        1 => (room.clone(), 1u8..5).prop_map(|(room, off)| Step::AppendWrong { room, off }),
        1 => room.clone().prop_map(|room| Step::AppendFenced { room }),
        2 => (room.clone(), 0u8..30).prop_map(|(room, keep)| Step::Trim { room, keep }),
        4 => proptest::collection::vec((place.clone(), any::<Option<u8>>()), 0..6).prop_map(|puts| Step::Write {
            puts: puts.into_iter().map(|((table, key), value)| (table, key, value)).collect(),
        }),
        2 => (place, any::<u8>(), any::<bool>()).prop_map(|((table, key), value, is_right)| {
            Step::CompareAndSet { table, key, value, is_right }
        }),
        1 => room.prop_map(|room| Step::Acquire { room }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct RoomModel {
    head: u64,
    records: BTreeMap<u64, Bytes>,
}

/// What must be true of an engine after the steps so far.
struct Model {
    rooms: Vec<RoomModel>,
    values: HashMap<(u8, u8), (u64, Bytes)>,
    fences: Vec<Epoch>,
    revision: u64,
}

fn room(number: u8) -> RoomId {
    RoomId::from_bytes([number; 16])
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn client_id(seq: u64) -> ClientId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    ClientId::from_bytes(id)
}

fn record(number: u8, seq: u64, bytes: u16) -> SealedRecord {
    let bytes = vec![seq as u8 ^ number; usize::from(bytes)].into();
    SealedRecord { room: room(number), seq, sender: alice(), client_id: client_id(seq), bytes }
}

impl Model {
    async fn new(engine: &impl Engine) -> Self {
        let fences = engine.acquire((0..ROOMS).collect(), "model").await.unwrap();
        let rooms = (0..ROOMS).map(|_| RoomModel::default()).collect();
        Self { rooms, values: HashMap::new(), fences, revision: 0 }
    }

    async fn step(&mut self, engine: &impl Engine, step: Step) {
        match step {
            Step::Append { room, records, bytes } => {
                let mut receipts = Vec::new();
                for _ in 0..records {
                    let model = &mut self.rooms[usize::from(room)];
                    model.head += 1;
                    let record = record(room, model.head, bytes);
                    model.records.insert(record.seq, record.bytes.clone());
                    let place = engine.reserve().await.unwrap();
                    receipts.push(engine.append(place, self.fences[usize::from(room)], record));
                }
                for receipt in receipts {
                    receipt.await.unwrap();
                }
            }
            Step::AppendWrong { room, off } => {
                let head = self.rooms[usize::from(room)].head;
                let got = head + 1 + u64::from(off);
                let place = engine.reserve().await.unwrap();
                let refused =
                    engine.append(place, self.fences[usize::from(room)], record(room, got, 9)).await;
                assert_eq!(refused, Err(StoreError::OutOfSequence { head, got }));
            }
            Step::AppendFenced { room } => {
                let older = Epoch(self.fences[usize::from(room)].0 - 1);
                let next = record(room, self.rooms[usize::from(room)].head + 1, 9);
                let place = engine.reserve().await.unwrap();
                assert_eq!(engine.append(place, older, next).await, Err(StoreError::Fenced));
            }
            Step::Trim { room: number, keep } => {
                let model = &mut self.rooms[usize::from(number)];
                let before = (model.head + 1).saturating_sub(keep.into());
                let kept = model.records.split_off(&before);
                let removed = std::mem::replace(&mut model.records, kept).len() as u64;
                assert_eq!(engine.trim(room(number), before).await, Ok(removed));
            }
            Step::Write { puts } => self.write(engine, puts).await,
            Step::CompareAndSet { table, key, value, is_right } => {
                let found = self.values.get(&(table, key)).map(|(revision, _)| *revision);
                let expected = if is_right { found } else { Some(found.unwrap_or(0) + 1) };
                let value = Bytes::from(vec![value]);
                let (into, name) = (TABLES[usize::from(table)], Bytes::from(vec![key]));
                let set = engine.compare_and_set(into, name, expected, value.clone()).await;
                if is_right {
                    let revision = set.unwrap();
                    assert!(revision > self.revision);
                    self.revision = revision;
                    self.values.insert((table, key), (revision, value));
                } else {
                    assert_eq!(set, Err(StoreError::Conflict));
                }
            }
            Step::Acquire { room } => {
                let epochs = engine.acquire(vec![room], "model").await.unwrap();
                assert!(epochs[0] > self.fences[usize::from(room)]);
                self.fences[usize::from(room)] = epochs[0];
            }
            Step::Reopen => unreachable!("done by the one who holds the engine"),
        }
    }

    async fn write(&mut self, engine: &impl Engine, puts: Vec<(u8, u8, Option<u8>)>) {
        let mutation = |(table, key, value): &(u8, u8, Option<u8>)| {
            let (table, key) = (TABLES[usize::from(*table)], Bytes::from(vec![*key]));
            match value {
                Some(value) => Mutation::Put { table, key, value: vec![*value].into() },
                None => Mutation::Delete { table, key },
            }
        };
        engine.write(puts.iter().map(mutation).collect()).await.unwrap();
        for (table, key, value) in puts {
            match value {
                None => _ = self.values.remove(&(table, key)),
                Some(value) => _ = self.values.insert((table, key), (0, vec![value].into())),
            }
        }
        // The revisions that were given are taken from the engine.
        for ((table, key), slot) in &mut self.values {
            let found = engine.get(TABLES[usize::from(*table)], &[*key]).unwrap().unwrap();
            assert_eq!(found.value, slot.1);
            if slot.0 == 0 {
                assert!(found.revision > self.revision, "revisions grow");
                slot.0 = found.revision;
            }
        }
        let newest = self.values.values().map(|(revision, _)| *revision).max().unwrap_or(0);
        self.revision = self.revision.max(newest);
    }

    async fn check(&self, engine: &impl Engine) {
        assert_eq!(engine.trouble(), None);
        for (number, model) in (0u8..).zip(&self.rooms) {
            let room = room(number);
            assert_eq!(engine.head(room).await, Ok(model.head));
            let mut found = engine.read(room, 0, usize::MAX, usize::MAX).await.unwrap();
            let expected: Vec<_> = model.records.iter().map(|(seq, bytes)| (*seq, bytes.clone())).collect();
            assert_eq!(found.iter().map(|r| (r.seq, r.bytes.clone())).collect::<Vec<_>>(), expected);
            found.reverse();
            assert_eq!(engine.read_back(room, u64::MAX, usize::MAX, usize::MAX).await.unwrap(), found);
            for seq in [1, model.head / 2, model.head, model.head + 1] {
                let known = model.records.contains_key(&seq).then_some(seq);
                assert_eq!(engine.find(room, &alice(), client_id(seq)), Ok(known));
            }
        }
        for (number, table) in (0u8..).zip(TABLES) {
            let found = engine.scan(table, b"", None, 100).unwrap();
            let found: Vec<_> = found.into_iter().map(|(key, v)| (key[0], (v.revision, v.value))).collect();
            let mut expected: Vec<_> = self
                .values
                .iter()
                .filter(|((t, _), _)| *t == number)
                .map(|((_, k), v)| (*k, v.clone()))
                .collect();
            expected.sort();
            assert_eq!(found, expected);
        }
    }
}

async fn run<E: Engine>(mut engine: Arc<E>, steps: Vec<Step>, reopen: impl Fn(Arc<E>) -> Arc<E>) {
    let mut model = Model::new(&*engine).await;
    for step in steps {
        if matches!(step, Step::Reopen) {
            engine = reopen(engine);
            model.check(&*engine).await;
        } else {
            model.step(&*engine, step).await;
        }
    }
    model.check(&*engine).await;
    let engine = reopen(engine);
    model.check(&*engine).await;
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_engine_in_memory_is_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        block_on(run(MemoryEngine::new(), steps, |engine| engine.reopen().unwrap()));
    }
}

proptest! {
    // Each case makes and opens folders: fewer, and longer.
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn the_engine_on_disk_is_the_model(steps in proptest::collection::vec(step(), 20..80)) {
        let folder = tempfile::tempdir().unwrap();
        let open = || FjallEngine::open(folder.path(), Options { free_bytes_min: 0, ..Options::default() }).unwrap();
        block_on(run(open(), steps, |engine| {
            drop(engine);
            open()
        }));
    }
}
