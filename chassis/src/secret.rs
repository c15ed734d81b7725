//! Files that nobody else may read, and that are either the old one or the new one after any crash.
//!
//! Why it exists: keys, certificates' private halves, tokens and device state are written by several parts, and each of
//! them must get the mode, the order of fsync and the rename right. It must never widen the mode of a file, not even for
//! the moment between creating and writing it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never a part. On Unix the file is
/// readable by its owner only (0600), from its first moment.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, temporary) = neighbours(path)?;
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The rename did not happen: nobody knows the temporary name but us.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(&folder)
}

/// As [`write()`], but fails with [`io::ErrorKind::AlreadyExists`] where there is a file already, also if another process
/// makes it at the same moment.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, temporary) = neighbours(path)?;
    let written = write_through(&temporary, bytes).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    written?;
    sync_folder(&folder)
}

/// Makes `path` and what is missing above it; the folders it makes are for their owner only (0700 on Unix).
pub fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Whether others than the owner may read the file. Always false where there are no Unix modes.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        fs::metadata(path).map(|_| false)
    }
}

/// The folder of a file, and a name beside it that no other writer uses.
fn neighbours(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let name =
        path.file_name().ok_or_else(|| io::Error::other(format!("{} names no file", path.display())))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let suffix = hex::encode(crate::clock::random::<8>());
    let temporary = folder.join(format!(".{}.{suffix}.tmp", name.to_string_lossy()));
    Ok((folder, temporary))
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the change of a name durable. Where folders cannot be opened, renames are durable by themselves.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_file_is_private_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!is_exposed(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn create_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_exposed_file_is_noticed_and_folders_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("a/b");
        folder(&keys).unwrap();
        assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o700);
        let path = keys.join("key");
        write(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(is_exposed(&path).unwrap());
    }

    #[test]
    fn a_missing_folder_is_an_error_and_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(&dir.path().join("no/key"), b"").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
