//! The store of a data folder together with the keys that open it.
//!
//! It exists because the two must fit, and every way in which they do not has a remedy of its own. A key file is made only
//! together with a new store: a lost one must never be replaced by another that opens nothing.

use std::path::Path;
use std::sync::Arc;

use buslane_chassis::secret;
use buslane_store::fjall_engine::{FjallEngine, OpenError, Options};
use buslane_store::sealing::{FileKeyWrap, KeyFileError, SealError, Sealer};

use crate::failure::{Exit, Failure};
use crate::folder;

/// A file that every store has.
const FORMAT_FILE: &str = "FORMAT";

/// An open store, its keys, and what seals with them.
#[derive(Clone)]
pub struct SealedStore {
    /// The engine.
    pub engine: Arc<FjallEngine>,
    /// The keys that wrap the rooms' keys.
    pub keys: Arc<FileKeyWrap>,
    /// Seals and opens records.
    pub sealer: Sealer,
}

impl SealedStore {
    /// Opens the store in `path` with the keys in `key_file`. Where there is no store, both are made.
    pub async fn open(path: &Path, key_file: &Path, options: Options) -> Result<Self, Failure> {
        let keys = Arc::new(open_keys(path, key_file)?);
        let path = path.to_owned();
        // Recovery may take seconds.
        let opened = tokio::task::spawn_blocking(move || FjallEngine::open(&path, options)).await;
        let engine = opened
            .map_err(|e| Failure::new(Exit::Data, "data_unreadable", format!("the store did not open: {e}")))?
            .map_err(|e| explain_open(&e))?;
        let sealer = Sealer::new(engine.clone(), keys.clone());
        sealer.check().await.map_err(|e| explain_seal(&e, key_file))?;
        Ok(Self { engine, keys, sealer })
    }
}

/// Whether there is a store in this folder.
pub fn exists(path: &Path) -> bool {
    path.join(FORMAT_FILE).exists()
}

fn open_keys(store: &Path, key_file: &Path) -> Result<FileKeyWrap, Failure> {
    if exists(store) {
        return FileKeyWrap::open(key_file).map_err(|e| explain_keys(&e));
    }
    if let Some(parent) = key_file.parent() {
        secret::folder(parent).map_err(|e| folder::unreadable(parent, &e))?;
    }
    FileKeyWrap::open_or_create(key_file).map_err(|e| explain_keys(&e))
}

/// A key file that cannot be used, as a failure.
pub fn explain_keys(error: &KeyFileError) -> Failure {
    let code = match error {
        KeyFileError::Missing(_) => "key_file_missing",
        KeyFileError::Exposed { .. } => "key_file_exposed",
        _ => "key_file_unusable",
    };
    Failure::new(Exit::Keys, code, error.to_string())
}

/// A store that cannot be opened, as a failure.
pub fn explain_open(error: &OpenError) -> Failure {
    match error {
        OpenError::InUse(path) => folder::in_use(path),
        OpenError::NewerFormat { .. } => Failure::new(Exit::Data, "newer_format", error.to_string()),
        OpenError::Damaged { .. } => Failure::new(Exit::Data, "data_damaged", error.to_string()),
        OpenError::NotEmpty(_) => Failure::new(Exit::Data, "not_empty", error.to_string()),
        _ => Failure::new(Exit::Data, "data_unreadable", error.to_string()),
    }
}

/// Keys that do not fit the store, as a failure.
pub fn explain_seal(error: &SealError, key_file: &Path) -> Failure {
    match error {
        SealError::Key(e) => Failure::new(
            Exit::Keys,
            "wrong_key_file",
            format!("{} does not open this store: {e}", key_file.display()),
        ),
        SealError::Store(e) => Failure::new(Exit::Data, "data_unreadable", e.to_string()),
    }
}
