//! Who watches which keys, and telling them after a commit.
//!
//! A watcher that does not read holds nobody up and costs a bounded queue: what no longer fits is dropped and it is told
//! once, by [`Change::Lagged`], that it must scan again.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::boundary::{Change, Table};

/// Changes that wait for one watcher. Watchers invalidate caches and react to rare events; one that is this far behind is
/// better off with a scan.
pub(crate) const WATCH_QUEUE: usize = 1024;

struct Watcher {
    table: Table,
    prefix: Vec<u8>,
    queue: mpsc::Sender<Change>,
    lagged: bool,
}

impl Watcher {
    fn concerns(&self, table: Table, change: &Change) -> bool {
        let key = match change {
            Change::Put { key, .. } | Change::Deleted { key } => key,
            Change::Lagged => return false,
        };
        self.table == table && key.starts_with(&self.prefix)
    }

    /// The last place of the queue is kept for [`Change::Lagged`]. It is the last thing in the queue until the watcher
    /// has taken it, so an empty queue says that the watcher knows; what it scans afterwards holds all that was dropped.
    fn tell(&mut self, change: &Change) {
        if self.lagged && self.queue.capacity() < self.queue.max_capacity() {
            return;
        }
        self.lagged = self.queue.capacity() <= 1;
        let news = if self.lagged { Change::Lagged } else { change.clone() };
        // A watcher that went away is removed by `Watchers::tell`.
        let _ = self.queue.try_send(news);
    }
}

/// All watchers of an engine.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<Vec<Watcher>>);

impl Watchers {
    /// Adds a watcher.
    pub(crate) fn add(&self, table: Table, prefix: &[u8]) -> mpsc::Receiver<Change> {
        let (queue, receiver) = mpsc::channel(WATCH_QUEUE);
        let mut watchers = self.0.lock();
        watchers.retain(|w| !w.queue.is_closed());
        watchers.push(Watcher { table, prefix: prefix.to_vec(), queue, lagged: false });
        receiver
    }

    /// Tells everybody concerned. Called after the commit, in the order of commits, and never waits.
    pub(crate) fn tell(&self, changes: &[(Table, Change)]) {
        if changes.is_empty() {
            return;
        }
        let mut watchers = self.0.lock();
        watchers.retain(|w| !w.queue.is_closed());
        for (table, change) in changes {
            watchers.iter_mut().filter(|w| w.concerns(*table, change)).for_each(|w| w.tell(change));
        }
    }
}
