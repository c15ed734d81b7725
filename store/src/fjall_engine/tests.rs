//! The engine on a disk: the suite, and what only a disk can do.

use super::*;
use crate::conformance::{self, Factory};
use tempfile::{TempDir, tempdir};

fn options() -> Options {
    Options { free_bytes_min: 0, ..Options::default() }
}

/// Each engine of the suite in a folder of its own.
struct OnDisk(parking_lot::Mutex<Vec<TempDir>>);

impl Factory for OnDisk {
    type Engine = FjallEngine;

    async fn open(&self) -> Arc<FjallEngine> {
        let folder = tempdir().unwrap();
        let engine = FjallEngine::open(folder.path(), options()).unwrap();
        self.0.lock().push(folder);
        engine
    }

    async fn reopen(&self, engine: Arc<FjallEngine>) -> Arc<FjallEngine> {
        assert_eq!(Arc::strong_count(&engine), 1);
        let path = engine._folder.path().to_owned();
        drop(engine);
        FjallEngine::open(&path, options()).unwrap()
    }

    fn fail_next_sync(&self, engine: &FjallEngine) {
        engine.fails_next.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_conforms() {
    conformance::run(&OnDisk(parking_lot::Mutex::default())).await;
}
