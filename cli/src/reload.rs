//! Settings that change while the server runs: those of overload control.
//!
//! Why it exists: in a bad night nobody restarts a node to change a number. SIGHUP reads the file again; what cannot hold is
//! refused with its line and changes nothing; what can is recorded in the audit first. Everything else in the file is used at
//! the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use buslane_chassis::audit::{self, Audit, Entry};
use buslane_chassis::shutdown::Shutdown;
use buslane_operator::Seat;
use buslane_operator::happening::What;
use buslane_session_manager::{Config, Tuner};
use parking_lot::Mutex;
use serde_json::Value;

use crate::commands::ctl::changes;
use crate::effective::Shown;
use crate::failure::{Exit, Failure};

/// The action that the audit shows for it.
pub const CONFIG_RELOAD: &str = "config.reload";

/// The table that is read again.
const TABLE: &str = "session_manager.overload";

/// Reads a whole file, and gives the part of the session manager.
pub type Read = fn(&Path) -> Result<Config, Failure>;

/// What is needed to read the settings again.
pub struct Reload {
    path: PathBuf,
    read: Read,
    tuner: Tuner,
    audit: Arc<Audit>,
    shutdown: Shutdown,
    seat: Arc<Seat>,
    shown: Arc<Shown>,
    /// As they stand in the file that holds now.
    table: Mutex<Value>,
}

/// What came of reading the file again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It says what it said.
    Same,
    /// Other settings hold now.
    Changed,
}

impl Reload {
    /// For a file that was just read. The seat is told what changes, and what is shown changes with it.
    pub fn new(
        path: &Path,
        read: Read,
        tuner: Tuner,
        seat: &Arc<Seat>,
        shown: &Arc<Shown>,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let table = Mutex::new(table(path).unwrap_or_default());
        let audit = Arc::clone(seat.audit());
        let (seat, shown, shutdown) = (Arc::clone(seat), Arc::clone(shown), shutdown.clone());
        Arc::new(Self { path: path.to_owned(), read, tuner, audit, shutdown, seat, shown, table })
    }

    /// Reads the file again in a task of its own; what came of it is in the log.
    pub fn begin(self: &Arc<Self>) {
        let reload = Arc::clone(self);
        // On a thread that may wait for the disk.
        self.shutdown.tracker().spawn_blocking(move || match reload.run() {
            Ok(Outcome::Changed) => tracing::info!("the settings of overload control were read again"),
            Ok(Outcome::Same) => tracing::info!("the settings of overload control are as they were"),
            Err(error) => {
                tracing::error!(%error, "the settings of overload control stay as they were");
            }
        });
    }

    fn run(&self) -> Result<Outcome, Failure> {
        // One at a time, from the file to the node.
        let mut known = self.table.lock();
        let settings = (self.read)(&self.path)?.overload.0;
        if settings == self.tuner.overload() {
            return Ok(Outcome::Same);
        }
        let now = table(&self.path)?;
        let entry = Entry {
            author: audit::SELF.to_owned(),
            action: CONFIG_RELOAD.to_owned(),
            reason: "SIGHUP".to_owned(),
            before: known.clone(),
            after: now.clone(),
        };
        let unwritable = |e: audit::AuditError| Failure::new(Exit::Data, "audit_unwritable", e.to_string());
        self.audit.write(entry).map_err(unwritable)?;
        self.tuner.set_overload(settings).map_err(|e| Failure::usage(e.to_string()))?;
        let keys = changes::keys(&known, &now);
        self.shown.take_table(TABLE);
        self.seat.tell(What::Reloaded { author: audit::SELF.to_owned(), keys });
        *known = now;
        Ok(Outcome::Changed)
    }
}

/// The table of overload control as it stands in the file.
fn table(path: &Path) -> Result<Value, Failure> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let whole: Value = toml::from_str(&text).map_err(|e| failed(e.to_string()))?;
    Ok(whole.pointer("/session_manager/overload").cloned().unwrap_or_default())
}
