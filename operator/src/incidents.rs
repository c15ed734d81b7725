//! What went wrong: written down by itself, one thread each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buslane_chassis::shutdown::Shutdown;

use crate::seat::Seat;

/// Why the incidents cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the incidents in {}: {error}; see to the folder's owner and mode", path.display())]
pub struct OpenError {
    path: PathBuf,
    error: io::Error,
}

/// Every incident that is kept.
pub struct Incidents;

impl Incidents {
    /// Reads those of a folder.
    pub fn open(folder: &Path) -> Result<Arc<Self>, OpenError> {
        let path = folder.join("incidents");
        buslane_chassis::secret::folder(&path).map_err(|error| OpenError { path, error })?;
        Ok(Arc::new(Self))
    }

    /// Listens until the shutdown.
    pub fn run(_seat: &Arc<Seat>, _shutdown: &Shutdown) {}
}
