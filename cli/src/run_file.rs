//! `run.json`: where a running `up` listens, for the clients and the operator's commands of this machine.
//!
//! It exists so that no address has to be typed. It is a hint: after a crash it may name a process that is gone, so
//! nobody concludes from it that a server runs, and it never holds a secret.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Its name in the data folder.
const NAME: &str = "run.json";

/// Where a running `up` listens and where its files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The gateway.
    pub gate: SocketAddr,
    /// The session manager's foreground port.
    pub front: SocketAddr,
    /// The session manager's background port.
    pub wake: SocketAddr,
    /// The admin surface.
    pub admin: SocketAddr,
    /// Whether TLS is spoken there.
    #[serde(default)]
    pub admin_tls: bool,
    /// The certificate authority that clients trust.
    pub ca: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// The process.
    pub pid: u32,
}

impl RunFile {
    /// Reads the file of a data folder; `None`: there is none, or it is not one of ours.
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(data.join(NAME)).ok()?).ok()
    }

    /// Writes it so that a reader sees the old one or the new one, never a half.
    pub fn write(&self) -> io::Result<()> {
        let path = self.data.join(NAME);
        let partial = path.with_extension("json.partial");
        fs::write(&partial, serde_json::to_vec(self)?)?;
        fs::rename(partial, path)
    }

    /// Removes the file of a data folder, if there is one.
    pub fn remove(data: &Path) {
        // A file that stays is a stale hint, which every reader must expect anyway.
        let _ = fs::remove_file(data.join(NAME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nonsense_is_no_hint() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunFile::read(dir.path()), None);
        let run = RunFile {
            gate: "127.0.0.1:1".parse().unwrap(),
            front: "127.0.0.1:2".parse().unwrap(),
            wake: "127.0.0.1:3".parse().unwrap(),
            admin: "127.0.0.1:4".parse().unwrap(),
            admin_tls: true,
            ca: "/ca.pem".into(),
            data: dir.path().into(),
            pid: 7,
        };
        run.write().unwrap();
        assert_eq!(RunFile::read(dir.path()), Some(run));
        fs::write(dir.path().join(NAME), b"{").unwrap();
        assert_eq!(RunFile::read(dir.path()), None);
        RunFile::remove(dir.path());
        assert!(!dir.path().join(NAME).exists());
    }
}
