//! Whether the store may acknowledge anything: no after an error of the disk, for ever; no for a while when it is full.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::boundary::StoreError;

/// How often the free space is looked at. At the fastest rate of writing measured (200 MB/s) this is 20 MB, a small part
/// of what is kept free.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is known about the disk.
pub(crate) struct Health {
    stopped: OnceLock<StoreError>,
    folder: PathBuf,
    free_bytes_min: u64,
    is_full: AtomicBool,
    began: Instant,
    looked_ms: AtomicU64,
}

impl Health {
    pub(crate) fn new(folder: &Path, free_bytes_min: u64) -> Self {
        let health = Self {
            stopped: OnceLock::new(),
            folder: folder.to_owned(),
            free_bytes_min,
            is_full: AtomicBool::new(false),
            began: Instant::now(),
            looked_ms: AtomicU64::new(0),
        };
        health.look();
        health
    }

    /// Nothing is acknowledged from now on. The first reason stays.
    pub(crate) fn stop(&self, error: StoreError) -> StoreError {
        if self.stopped.set(error).is_ok() {
            tracing::error!(error = %self.running().err().map(|e| e.to_string()).unwrap_or_default(),
                "the store has stopped: check the disk, then restart");
            metrics::gauge!("buslane_store_stopped").set(1.0);
        }
        self.running().err().unwrap_or(StoreError::Stopped("stopped".into()))
    }

    /// An error once the store has stopped.
    pub(crate) fn running(&self) -> Result<(), StoreError> {
        self.stopped.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// An error when nothing more may be taken: the store has stopped, or its disk is full.
    pub(crate) fn accepts(&self) -> Result<(), StoreError> {
        self.running()?;
        let now_ms = self.began.elapsed().as_millis() as u64;
        let looked_ms = self.looked_ms.load(Relaxed);
        let is_due = now_ms.saturating_sub(looked_ms) >= LOOK_EVERY.as_millis() as u64;
        if is_due && self.looked_ms.compare_exchange(looked_ms, now_ms, Relaxed, Relaxed).is_ok() {
            self.look();
        }
        if self.is_full.load(Relaxed) {
            return Err(StoreError::DiskFull { needed_bytes: self.free_bytes_min });
        }
        Ok(())
    }

    /// A file system that does not answer is not called full: the next write will tell.
    fn look(&self) {
        let Ok(stat) = rustix::fs::statvfs(&self.folder) else { return };
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        metrics::gauge!("buslane_store_free_bytes").set(free_bytes as f64);
        let is_full = free_bytes < self.free_bytes_min;
        if self.is_full.swap(is_full, Relaxed) != is_full {
            if is_full {
                tracing::warn!(
                    free_bytes,
                    needed_bytes = self.free_bytes_min,
                    "the disk of the store is full"
                );
            } else {
                tracing::info!(free_bytes, "the disk of the store has room again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let health = Health::new(Path::new("/"), 0);
        assert_eq!(health.accepts(), Ok(()));
        let first = StoreError::Stopped("first".into());
        assert_eq!(health.stop(first.clone()), first);
        assert_eq!(health.stop(StoreError::Stopped("second".into())), first);
        assert_eq!(health.accepts(), Err(first));
    }

    #[test]
    fn a_disk_with_too_little_room_is_full() {
        let health = Health::new(Path::new("/"), u64::MAX);
        assert_eq!(health.accepts(), Err(StoreError::DiskFull { needed_bytes: u64::MAX }));
        assert_eq!(health.running(), Ok(()));
    }
}
