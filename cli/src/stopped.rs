//! The store of an `up` that does not run: for an operator's command that finds no process to ask.
//!
//! It takes the folder for itself, so that no server can start in the middle, and never makes one.

use std::path::Path;

use crate::failure::{Exit, Failure};
use crate::folder::{CONFIG, Folder, STORE};
use crate::sealed_store::{self, SealedStore};
use crate::settings;

/// A store, opened by this command.
pub struct Stopped {
    /// The store.
    pub store: SealedStore,
    _folder: Folder,
}

impl Stopped {
    /// Opens the store of a data folder.
    pub async fn open(data: &Path) -> Result<Self, Failure> {
        if !sealed_store::exists(&data.join(STORE)) {
            return Err(Failure::new(
                Exit::Data,
                "no_data",
                format!("there is no data in {}: name the folder of the server with --data", data.display()),
            ));
        }
        let folder = Folder::take(data)?;
        let config = data.join(CONFIG);
        let settings: settings::Up =
            if config.exists() { settings::load(&config)? } else { settings::Up::default() };
        let key_file = settings::key_file(folder.path(), settings.keys.as_deref())?;
        let store = SealedStore::open(&folder.store(), &key_file, (&settings.store).into()).await?;
        Ok(Self { store, _folder: folder })
    }
}
