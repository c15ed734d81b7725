//! The seat of one process: everything that an operator's answers are made of, opened together and run together.
//!
//! Why it exists: the parts below know nothing of each other. They meet here, and only here: the routes ask the seat, the
//! tasks are given it. It must never wait for a peer or a disk while it answers from memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::Router;
use buslane_chassis::audit::{Audit, AuditError, Entry};
use buslane_chassis::clock;
use buslane_chassis::orders::Desk;
use buslane_chassis::readiness::Readiness;
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::UnixMs;
use serde_json::Value;

use crate::config::Config;
use crate::happening::{Happening, News, What};
use crate::incidents::{self, Incidents};
use crate::probe;
use crate::status::Status;
use crate::{api, console};

/// What a process gives its seat.
pub struct Parts {
    /// Its name: that of its node, or of its role.
    pub node: String,
    /// "up", "gateway", "session-manager" or "backend".
    pub role: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The folder that the seat may write to.
    pub folder: PathBuf,
    /// Orders, audit, the node's own control of load, and what the feed says of the others.
    pub desk: Desk,
    /// The checks of the process.
    pub readiness: Readiness,
    /// Where the probe goes to; none: this process does not probe.
    pub probe_target: Option<probe::Target>,
    /// Its settings.
    pub config: Config,
}

/// Why there is no seat.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The incidents cannot be read.
    #[error(transparent)]
    Incidents(#[from] incidents::OpenError),
}

/// The seat.
pub struct Seat {
    /// Name of this process.
    pub node: String,
    /// "up", "gateway", "session-manager" or "backend".
    pub role: &'static str,
    /// Its version.
    pub version: &'static str,
    /// When it started.
    pub started_ms: UnixMs,
    /// The folder that the seat may write to.
    pub folder: PathBuf,
    /// Orders, audit, control of load, feed.
    pub desk: Desk,
    /// The checks of the process.
    pub readiness: Readiness,
    /// Where the probe goes to.
    pub probe_target: Option<probe::Target>,
    /// Its settings.
    pub config: Config,
    /// Where happenings are told and heard.
    pub news: News,
    /// Components and alerts.
    pub status: Arc<Status>,
    /// What went wrong, and its stories.
    pub incidents: Arc<Incidents>,
    admin: OnceLock<SocketAddr>,
}

impl Seat {
    /// Opens the seat. Nothing runs yet.
    pub fn open(parts: Parts) -> Result<Arc<Self>, OpenError> {
        let Parts { node, role, version, folder, desk, readiness, probe_target, config } = parts;
        Ok(Arc::new(Self {
            status: Status::open(&folder),
            incidents: Incidents::open(&folder)?,
            news: News::default(),
            started_ms: clock::unix_ms(),
            admin: OnceLock::new(),
            node,
            role,
            version,
            folder,
            desk,
            readiness,
            probe_target,
            config,
        }))
    }

    /// The routes that are for those who have shown who they are.
    pub fn routes(self: &Arc<Self>) -> Router {
        api::routes(self).merge(console::routes(self))
    }

    /// The routes that are for everybody: how one gets in, and what a page looks like.
    pub fn open_routes() -> Router {
        console::open_routes()
    }

    /// Starts everything that goes on by itself; until the shutdown.
    pub fn run(self: &Arc<Self>, shutdown: &Shutdown) {
        Status::run(self, shutdown);
        Incidents::run(self, shutdown);
        self.tell(What::Process { phase: "started".to_owned(), version: self.version.to_owned() });
    }

    /// Notes where the admin surface listens, once that is known.
    pub fn on_listening(&self, admin: SocketAddr) {
        // It is bound once.
        let _ = self.admin.set(admin);
    }

    /// Where the admin surface of this process listens, once it does.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.get().copied()
    }

    /// Tells everybody that something has happened here and now.
    pub fn tell(&self, what: What) {
        self.news.tell(Happening { at_ms: clock::unix_ms(), node: self.node.clone(), what });
    }

    /// The audit of this process.
    pub fn audit(&self) -> &Arc<Audit> {
        self.desk.book.audit()
    }

    /// Writes into the audit what is about to be done. What cannot be written must not be done.
    pub async fn record(
        &self,
        author: &str,
        action: &str,
        reason: &str,
        after: Value,
    ) -> Result<u64, AuditError> {
        let entry = Entry {
            author: author.to_owned(),
            action: action.to_owned(),
            reason: reason.to_owned(),
            before: Value::Null,
            after,
        };
        self.audit().record(entry).await
    }
}
