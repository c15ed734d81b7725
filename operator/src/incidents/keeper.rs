//! Brings what was decided to the disk, and knows how far it has come.
//!
//! Why it exists: only the numbers of incidents wait here, never their lines, so a disk that hangs for an hour costs nothing but the
//! wait. What failed is tried again. It must never stop between the disk and the note that it is there.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Incidents;
use super::incident::Incident;

/// How long the answer to a person's word waits for the disk.
pub(super) const KEEP_LIMIT: Duration = Duration::from_secs(3);

/// What the disk does not know yet: numbers only, so it never grows beyond the incidents.
#[derive(Debug, Default)]
pub(super) struct Undone {
    pub(super) changed: BTreeSet<u64>,
    pub(super) forgotten: BTreeSet<u64>,
}

/// Why the last round of writing failed, if it did. Each round is told.
pub(super) type Failure = Option<String>;

impl Incidents {
    /// Writes until the end. It stops between two rounds: what is half done would be done twice.
    pub(super) async fn keep(&self, ending: &CancellationToken) {
        while ending.run_until_cancelled(self.wake.notified()).await.is_some() {
            self.write().await;
        }
    }

    /// Brings the disk up to date, as far as it goes.
    pub(super) async fn write(&self) {
        let undone = std::mem::take(&mut *self.undone.lock());
        if undone.changed.is_empty() && undone.forgotten.is_empty() {
            return;
        }
        let mut error = None;
        for no in undone.changed {
            if let Err(why) = self.append(no).await {
                tracing::error!(no, error = %why, "lines of an incident were not written; it is tried again");
                metrics::counter!("buslane_incident_writes_failed_total").increment(1);
                self.undone.lock().changed.insert(no);
                error = Some(why.to_string());
            }
        }
        for no in undone.forgotten {
            let store = Arc::clone(&self.store);
            if let Err(why) = off_the_runtime(move || store.remove(no)).await {
                tracing::warn!(no, error = %why, "the file of an old incident was not removed");
            }
        }
        self.kept.send_replace(error);
    }

    async fn append(&self, no: u64) -> io::Result<()> {
        let lines =
            self.ledger.lock().warm(no).map(|incident| incident.unkept().to_vec()).unwrap_or_default();
        let count = lines.len();
        if count > 0 {
            let store = Arc::clone(&self.store);
            off_the_runtime(move || store.append(no, &lines)).await?;
            self.ledger.lock().on_kept(no, count);
        }
        Ok(())
    }

    /// Waits a moment for the disk; why an incident's lines are not there, if so.
    pub(super) async fn until_kept(&self, no: u64) -> Option<String> {
        let count = self.ledger.lock().warm(no).map_or(0, Incident::len);
        let mut kept = self.kept.subscribe();
        let has_kept = || self.ledger.lock().warm(no).is_none_or(|incident| incident.has_kept(count));
        let wait = async {
            while !has_kept() {
                if kept.changed().await.is_err() {
                    break;
                }
                if let Some(error) = kept.borrow_and_update().clone() {
                    return Some(error);
                }
            }
            None
        };
        timeout(KEEP_LIMIT, wait).await.unwrap_or_else(|_| Some("the disk has not answered yet".to_owned()))
    }
}

pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failed| Err(io::Error::other(failed)))
}
