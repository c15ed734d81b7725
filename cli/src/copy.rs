//! Backup and restore as an operator sees them: one file, verified, never over anything that exists.
//!
//! The work is the store's; here it gets a thread of its own, its failures get words, and a restored folder gets its place.

use std::path::Path;

use buslane_chassis::clock;
use buslane_store::backup::{self, BackupError, Summary};
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::folder::Folder;
use crate::sealed_store::{SealedStore, explain_open};

/// Copies an open store into a new file; `on_progress` hears how many entries are done.
pub async fn back_up(
    store: &SealedStore,
    to: &Path,
    mut on_progress: impl FnMut(u64) + Send + 'static,
) -> Result<Value, Failure> {
    let (engine, path) = (store.engine.clone(), to.to_owned());
    let work = move || backup::backup(&*engine, &path, clock::unix_ms(), &mut |p| on_progress(p.entries));
    let summary = blocking(work).await?;
    Ok(described(&summary, "file", to))
}

/// Makes the store of a new data folder out of a backup.
pub async fn restore(
    from: &Path,
    data: &Path,
    mut on_progress: impl FnMut(u64) + Send + 'static,
) -> Result<Value, Failure> {
    // A wrong file must not leave an empty data folder behind.
    let path = from.to_owned();
    blocking(move || backup::verify(&path, &mut |_| ())).await?;
    let folder = Folder::take(data)?;
    let (path, store) = (from.to_owned(), folder.store());
    let summary = blocking(move || backup::restore(&path, &store, &mut |p| on_progress(p.entries))).await?;
    Ok(described(&summary, "data", folder.path()))
}

async fn blocking(
    work: impl FnOnce() -> Result<Summary, BackupError> + Send + 'static,
) -> Result<Summary, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| explain(&e)),
        Err(e) => {
            Err(Failure::new(Exit::Data, "backup_failed", format!("the work has failed: {e}; see the log")))
        }
    }
}

fn described(summary: &Summary, name: &str, path: &Path) -> Value {
    json!({
        name: path, "entries": summary.entries, "messages": summary.records, "bytes": summary.bytes,
        "keys": summary.key_ids,
    })
}

fn explain(error: &BackupError) -> Failure {
    let code = match error {
        BackupError::Exists(_) => "exists",
        BackupError::NotABackup(_) => "not_a_backup",
        BackupError::Folder(e) => return explain_open(e),
        BackupError::Io { .. } => "backup_unusable",
        _ => "backup_damaged",
    };
    Failure::new(Exit::Data, code, error.to_string())
}
