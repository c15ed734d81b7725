//! The data folder of an `up`: what lies where in it, and that one process at a time uses it.
//!
//! `config.toml` settings | `tls/` certificates | `store/` everything durable | `admin.token` the operator's right |
//! `orders.json` what operators have ordered | `audit.*` what they did | `run.json` where it listens now | `lock`. The keys that open the records lie outside of it, so that a stolen folder
//! or a copy of it opens nothing. This file never creates anything before it holds the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use buslane_chassis::secret;

use crate::failure::{Exit, Failure};

/// Name of the file with the operator's token.
pub const ADMIN_TOKEN: &str = "admin.token";

/// Name of the file with the settings.
pub const CONFIG: &str = "config.toml";

/// Name of the folder of the storage engine.
pub const STORE: &str = "store";

/// Name of the folder of the certificates.
pub const TLS: &str = "tls";

/// Name of the certificate authority in [`TLS`].
pub const CA: &str = "ca.pem";

/// A data folder that this process has for itself.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Held until the process ends, however it ends: the system gives it back.
    _lock: File,
}

impl Folder {
    /// Takes the folder, making it where there is none.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|e| unreadable(path, &e))?;
        let path: PathBuf = path.components().collect();
        secret::folder(&path).map_err(|e| unreadable(&path, &e))?;
        let lock = path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(|e| unreadable(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _lock: file }),
            Err(TryLockError::WouldBlock) => Err(in_use(&path)),
            Err(TryLockError::Error(e)) => Err(unreadable(&path, &e)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// The storage engine's folder.
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// The certificates.
    pub fn tls(&self) -> PathBuf {
        self.path.join(TLS)
    }
}

/// Another process has the folder.
pub fn in_use(path: &Path) -> Failure {
    Failure::new(
        Exit::Data,
        "data_in_use",
        format!(
            "the data folder {} is in use by another process: stop that one, or choose another folder with --data",
            path.display()
        ),
    )
    .retryable()
}

/// A file or folder cannot be used.
pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as its owner, or choose another folder with --data",
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::StorageFull => "make room on the disk, or choose another folder with --data",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is where a folder should be: choose another folder with --data"
        }
        _ => "check the disk and the path",
    };
    Failure::new(Exit::Data, "data_unreadable", format!("cannot use {}: {error}; {remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/up");
        let first = Folder::take(&data).unwrap();
        let second = Folder::take(&data).unwrap_err();
        assert_eq!((second.code.as_str(), second.exit_code()), ("data_in_use", 4));
        drop(first);
        assert!(Folder::take(&data).is_ok());
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("up");
        std::fs::write(&file, b"").unwrap();
        let failure = Folder::take(&file).unwrap_err();
        assert_eq!(failure.exit, Some(Exit::Data));
        assert!(failure.message.contains("--data"), "{}", failure.message);
    }
}
