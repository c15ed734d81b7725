//! Whether the disk of a server under test has room.
//!
//! A server whose disk is full refuses every message, as it should; that says nothing about how it fares under load, and whoever
//! reads the figures must be told.

use std::path::Path;

use rustix::fs::statvfs;

/// With less than this the run ends. A server stores nothing any more when 256 MiB are left; this is noticed some seconds of heavy load
/// before.
pub const BYTES_MIN: u64 = 272 << 20;

/// `Err`: fewer bytes than these are free where this folder lies, with what to do.
pub fn check(folder: &Path, bytes_min: u64) -> Result<(), String> {
    // Where nobody can look, the server says so itself when it writes.
    let Ok(disk) = statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= bytes_min {
        return Ok(());
    }
    Err(format!(
        "the disk under {} has {} MiB left, too little for a server to go on: make room, or name a folder elsewhere with --work",
        folder.display(),
        free >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path(), 0), Ok(()));
        let full = check(dir.path(), u64::MAX).unwrap_err();
        assert!(full.contains(dir.path().to_str().unwrap()) && full.contains("--work"), "{full}");
        assert_eq!(check(&dir.path().join("no"), u64::MAX), Ok(()));
    }
}
