//! A process that appends until it dies, and the check of what it leaves behind.
//!
//! The test starts its own binary again as the writer: real processes, real kills, real files.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use buslane_shared::id::{ClientId, RoomId, UserId};
use buslane_store::fjall_engine::{FjallEngine, Options};
use buslane_store::{Leases, RoomLog, SealedRecord};
use futures_util::future::join_all;

const ROOMS: u8 = 4;
const FOLDER: &str = "BUSLANE_TEST_FOLDER";

fn room(number: u8) -> RoomId {
    RoomId::from_bytes([number; 16])
}

fn sender() -> UserId {
    "alice".parse().unwrap()
}

fn client_id(seq: u64) -> ClientId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    ClientId::from_bytes(id)
}

fn content(room: u8, seq: u64) -> Vec<u8> {
    // Of different lengths, so that a commit ends anywhere.
    (0..100 + seq % 400).map(|i| (i as u8) ^ (seq as u8) ^ room).collect()
}

fn open(folder: &Path) -> Arc<FjallEngine> {
    FjallEngine::open(folder, Options { free_bytes_min: 0, ..Options::default() }).unwrap()
}

/// In the writer's process: appends to all rooms and prints a line for each receipt, until it dies. Does nothing in the
/// process of the test.
pub fn write_if_asked() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let engine = open(Path::new(&folder));
        let fences = engine.acquire((0..ROOMS).collect(), "writer").await.unwrap();
        let writers = (0..ROOMS).map(|number| {
            let (engine, fence) = (Arc::clone(&engine), fences[usize::from(number)]);
            tokio::spawn(async move {
                let head = engine.head(room(number)).await.unwrap();
                let mut pending = Vec::new();
                for seq in head + 1.. {
                    let record = SealedRecord {
                        room: room(number),
                        seq,
                        sender: sender(),
                        client_id: client_id(seq),
                        bytes: content(number, seq).into(),
                    };
                    let place = engine.reserve().await.unwrap();
                    pending.push((seq, engine.append(place, fence, record)));
                    if pending.len() == 16 {
                        for (seq, receipt) in pending.drain(..) {
                            receipt.await.unwrap();
                            let mut out = std::io::stdout().lock();
                            writeln!(out, "ack {number} {seq}").and_then(|()| out.flush()).unwrap();
                        }
                    }
                }
            })
        });
        join_all(writers).await;
    });
}

/// Starts the writer over this folder. `test` is the name of the test that calls [`write_if_asked`].
pub fn start_writer(test: &str, folder: &Path, crash_at: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(name) = crash_at {
        command.env("BUSLANE_CRASH_AT", name);
    }
    command.spawn().unwrap()
}

/// Receipts of a writer: the highest of each room, all below it included.
pub struct Receipts([u64; ROOMS as usize]);

impl Receipts {
    pub fn none() -> Self {
        Self([0; ROOMS as usize])
    }

    /// Reads until the writer dies, or until `enough` receipts have come.
    pub fn read(&mut self, writer: &mut Child, enough: u64) -> u64 {
        let mut seen = 0;
        for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((number, seq)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            // The last line may be cut short by the kill: a shorter number is a lower one, and claims less.
            let (number, Ok(seq)) = (number.parse::<usize>().unwrap(), seq.parse::<u64>()) else { continue };
            self.0[number] = self.0[number].max(seq);
            seen += 1;
            if seen == enough {
                writer.kill().unwrap();
            }
        }
        writer.wait().unwrap();
        seen
    }

    /// Every receipt is kept: in order, without a hole, unaltered, and found by its client id.
    pub fn check(&self, folder: &Path) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let engine = open(folder);
        for (number, acknowledged) in (0u8..).zip(self.0) {
            let records = runtime.block_on(engine.read(room(number), 0, usize::MAX, usize::MAX)).unwrap();
            let head = runtime.block_on(engine.head(room(number))).unwrap();
            assert!(
                head >= acknowledged,
                "room {number}: {acknowledged} was acknowledged, {head} is the head"
            );
            assert_eq!(records.len() as u64, head, "room {number} has a hole");
            for (seq, stored) in (1..).zip(&records) {
                assert_eq!(stored.seq, seq);
                assert_eq!(stored.bytes, content(number, seq), "room {number}, sequence {seq}");
                assert_eq!(engine.find(room(number), &sender(), client_id(seq)).unwrap(), Some(seq));
            }
            let beyond = engine.find(room(number), &sender(), client_id(head + 1)).unwrap();
            assert_eq!(beyond, None);
        }
    }
}
