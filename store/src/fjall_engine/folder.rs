//! The folder of the store: who may open it, of which form it is, and what is in it.
//!
//! `LOCK` (held while the store is open), `FORMAT` (text: engine and number of the form), `fjall/` (the data). A folder is
//! made so that it is either no store yet or a whole one, at whatever moment the machine stops. Nothing that might hold
//! messages is ever removed here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Number of the form that this version writes. It changes when an older version could no longer read the folder.
pub const FORMAT: u32 = 1;

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const DATA_FOLDER: &str = "fjall";
const UNFINISHED_FOLDER: &str = "fjall.unfinished";

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process; stop that one or choose another folder")]
    InUse(PathBuf),
    /// A newer version has written it.
    #[error(
        "{path} has format {found}, this version knows up to {known}; start the newer version of buslane, or restore a backup into another folder"
    )]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest one known.
        known: u32,
    },
    /// It cannot be read or written.
    #[error("{path} cannot be used: {error}; check the path, its permissions and the disk")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not a store, or parts of it are missing.
    #[error("{path} is not a whole store: {reason}; choose another folder, or restore a backup")]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its files are damaged.
    #[error(
        "{path} is damaged: {reason}; nothing was changed; check the disk, then restore a backup into a new folder"
    )]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something is in the folder into which a backup is to be restored.
    #[error("{0} is not empty; a backup is only restored into a new or empty folder")]
    NotEmpty(PathBuf),
}

pub(crate) fn unreadable(path: &Path) -> impl Fn(io::Error) -> OpenError + '_ {
    |error| OpenError::Unreadable { path: path.to_owned(), error }
}

/// A folder that this process has to itself.
pub(crate) struct Folder {
    path: PathBuf,
    /// Held until it is dropped.
    _lock: File,
}

impl Folder {
    /// Takes the folder, making it if it is not there.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let is_new = !path.try_exists().map_err(unreadable(path))?;
        fs::create_dir_all(path).map_err(unreadable(path))?;
        if is_new {
            crate::sync_parent(path).map_err(unreadable(path))?;
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(unreadable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(unreadable(&lock_path)(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the data lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA_FOLDER)
    }

    /// True when there is a store of a form that this version knows; false when there is none yet.
    pub(crate) fn holds_store(&self) -> Result<bool, OpenError> {
        let has_data = self.data().try_exists().map_err(unreadable(&self.path))?;
        let format_path = self.path.join(FORMAT_FILE);
        let text = match fs::read_to_string(&format_path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !has_data => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let reason = format!("the file {FORMAT_FILE} is missing");
                return Err(OpenError::NotAStore { path: self.path.clone(), reason });
            }
            Err(error) => return Err(unreadable(&format_path)(error)),
        };
        let found = read_format(&text).ok_or_else(|| OpenError::NotAStore {
            path: self.path.clone(),
            reason: format!("the file {FORMAT_FILE} does not read as expected"),
        })?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { path: self.path.clone(), found, known: FORMAT });
        }
        Ok(has_data)
    }

    /// Refuses a folder that holds anything but our lock.
    pub(crate) fn require_empty(&self) -> Result<(), OpenError> {
        for item in fs::read_dir(&self.path).map_err(unreadable(&self.path))? {
            let name = item.map_err(unreadable(&self.path))?.file_name();
            if name != LOCK_FILE && name != UNFINISHED_FOLDER {
                return Err(OpenError::NotEmpty(self.path.clone()));
            }
        }
        Ok(())
    }

    /// Lets `build` make the data in a folder that only becomes the store's when it is whole.
    pub(crate) fn create<E: From<OpenError>>(
        &self,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let unfinished = self.path.join(UNFINISHED_FOLDER);
        // What is in there was never a store: nothing in it was ever acknowledged.
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unreadable(&unfinished)(error).into());
            }
            _ => {}
        }
        build(&unfinished)?;
        self.finish(&unfinished).map_err(unreadable(&self.path))?;
        Ok(())
    }

    fn finish(&self, unfinished: &Path) -> io::Result<()> {
        let partial = self.path.join("FORMAT.partial");
        let mut file = File::create(&partial)?;
        write!(file, "buslane store\nengine fjall\nformat {FORMAT}\n")?;
        file.sync_all()?;
        fs::rename(&partial, self.path.join(FORMAT_FILE))?;
        fs::rename(unfinished, self.data())?;
        File::open(&self.path)?.sync_all()
    }
}

fn read_format(text: &str) -> Option<u32> {
    let mut lines = text.lines();
    let ours = lines.next() == Some("buslane store") && lines.next() == Some("engine fjall");
    let number = lines.next()?.strip_prefix("format ")?.parse().ok()?;
    (ours && number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn create(folder: &Folder) {
        folder.create::<OpenError>(|path| fs::create_dir(path).map_err(unreadable(path))).unwrap();
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let place = tempdir().unwrap();
        let path = place.path().join("store");
        let first = Folder::take(&path).unwrap();
        assert!(matches!(Folder::take(&path), Err(OpenError::InUse(_))));
        drop(first);
        assert!(Folder::take(&path).is_ok());
    }

    #[test]
    fn a_creation_that_was_cut_short_is_begun_again() {
        let place = tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        fs::create_dir(place.path().join(UNFINISHED_FOLDER)).unwrap();
        assert!(!folder.holds_store().unwrap());
        create(&folder);
        assert!(folder.holds_store().unwrap());
        // The machine may also stop between the two renames.
        fs::rename(folder.data(), place.path().join(UNFINISHED_FOLDER)).unwrap();
        assert!(!folder.holds_store().unwrap());
        create(&folder);
        assert!(folder.holds_store().unwrap());
    }

    #[test]
    fn a_newer_or_foreign_folder_is_refused() {
        let place = tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        create(&folder);
        let format = place.path().join(FORMAT_FILE);
        fs::write(&format, "buslane store\nengine fjall\nformat 2\nwhatever\n").unwrap();
        assert!(matches!(folder.holds_store(), Err(OpenError::NewerFormat { found: 2, known: 1, .. })));
        for bad in [
            "",
            "something else",
            "buslane store\nengine other\nformat 1\n",
            "buslane store\nengine fjall\nformat 0\n",
        ] {
            fs::write(&format, bad).unwrap();
            assert!(matches!(folder.holds_store(), Err(OpenError::NotAStore { .. })), "{bad:?}");
        }
        fs::remove_file(&format).unwrap();
        assert!(matches!(folder.holds_store(), Err(OpenError::NotAStore { .. })));
    }

    #[test]
    fn only_an_empty_folder_takes_a_backup() {
        let place = tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        folder.require_empty().unwrap();
        fs::write(place.path().join("letter"), "dear").unwrap();
        assert!(matches!(folder.require_empty(), Err(OpenError::NotEmpty(_))));
    }
}
