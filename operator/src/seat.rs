//! The seat of one process: everything that an operator's answers are made of, opened together and run together.
//!
//! Why it exists: the parts below know nothing of each other. They meet here, and only here: the routes ask the seat, the
//! tasks are given it. It must never wait for a peer or a disk while it answers from memory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use buslane_chassis::audit::{Audit, AuditError, Entry};
use buslane_chassis::clock;
use buslane_chassis::orders::Desk;
use buslane_chassis::oversee::Refusals;
use buslane_chassis::readiness::Readiness;
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::UnixMs;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use crate::config::Config;
use crate::drills::Drills;
use crate::happening::{Happening, News, What};
use crate::history::History;
use crate::incidents::{self, Incidents};
use crate::live::{KEEP_ALIVE, Live};
use crate::notify::{self, Messenger};
use crate::peers::{self, Peers};
use crate::status::Status;
use crate::trend::Trends;
use crate::turned_away::TurnedAway;
use crate::{api, console};
use crate::{probe, sampler};

/// Says when a certificate ends; none: it cannot be read. Asked each second: a reload may have brought another.
pub type CertificateEnds = Arc<dyn Fn() -> Option<UnixMs> + Send + Sync>;

/// Between two events about the same incident on a page.
const INCIDENTS_APART: Duration = Duration::from_millis(250);

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
    /// Refusals that are remembered beside those of the node: a gateway's.
    pub refusals: Vec<Arc<Refusals>>,
    /// Where the probe goes to; none: this process does not probe.
    pub probe_target: Option<probe::Target>,
    /// Says when the certificate of this process ends.
    pub certificate_ends: Option<CertificateEnds>,
    /// Its settings.
    pub config: Config,
}

/// Why there is no seat.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The incidents cannot be read.
    #[error(transparent)]
    Incidents(#[from] incidents::OpenError),
    /// The peers cannot be asked as the settings say.
    #[error(transparent)]
    Peers(#[from] peers::call::OpenError),
    /// Nobody can be told as the settings say.
    #[error(transparent)]
    Notify(#[from] notify::OpenError),
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
    /// Says when the certificate of this process ends.
    pub certificate_ends: Option<CertificateEnds>,
    /// Its settings.
    pub config: Config,
    /// Where happenings are told and heard.
    pub news: News,
    /// The last day.
    pub history: History,
    /// Logins that were turned away lately.
    pub turned_away: TurnedAway,
    /// What is usual.
    pub trends: Trends,
    /// Whoever keeps a page open.
    pub live: Live,
    /// The other processes.
    pub peers: Peers,
    /// Storms on purpose.
    pub drills: Drills,
    /// Refusals that are remembered beside those of the node.
    pub refusals: Vec<Arc<Refusals>>,
    /// Components and alerts.
    pub status: Arc<Status>,
    /// What went wrong, and its stories.
    pub incidents: Arc<Incidents>,
    /// Who is told about it.
    pub messenger: Arc<Messenger>,
    admin: OnceLock<SocketAddr>,
}

impl Seat {
    /// Opens the seat. Nothing runs yet.
    pub fn open(parts: Parts) -> Result<Arc<Self>, OpenError> {
        let Parts {
            node,
            role,
            version,
            folder,
            desk,
            readiness,
            refusals,
            probe_target,
            certificate_ends,
            config,
        } = parts;
        let started_ms = clock::unix_ms();
        let messenger = Messenger::open(&config.notify, &node)?;
        Ok(Arc::new(Self {
            status: Status::open(&node, &folder, probe_target, &config.probe),
            incidents: Incidents::open(&folder, &config, Arc::clone(&messenger))?,
            messenger,
            news: News::default(),
            history: History::default(),
            turned_away: TurnedAway::default(),
            trends: Trends::open(&folder),
            live: Live::new(started_ms),
            peers: Peers::open(&config)?,
            drills: Drills::open(&folder),
            refusals,
            started_ms,
            admin: OnceLock::new(),
            node,
            role,
            version,
            folder,
            desk,
            readiness,
            certificate_ends,
            config,
        }))
    }

    /// The routes that are for those who have shown who they are.
    pub fn routes(self: &Arc<Self>) -> Router {
        api::routes(self).merge(console::routes(self))
    }

    /// The routes that are for everybody: how one gets in, and what a page looks like. `provider` is the name of whoever else knows people.
    pub fn open_routes(provider: Option<&str>) -> Router {
        console::open_routes(provider)
    }

    /// Starts everything that goes on by itself; until the shutdown.
    pub fn run(self: &Arc<Self>, shutdown: &Shutdown) {
        // Those who listen, before those who tell.
        self.messenger.run(&self.news, shutdown);
        self.incidents.run(&self.news, shutdown);
        self.remember(shutdown);
        self.show_incidents(shutdown);
        self.keep_alive(shutdown);
        sampler::run(self, shutdown);
        Peers::run(self, shutdown);
        Status::run(self, shutdown);
        self.tell(What::Process { phase: "started".to_owned(), version: self.version.to_owned() });
    }

    /// Keeps what happens, and tells it to whoever keeps a page open.
    fn remember(self: &Arc<Self>, shutdown: &Shutdown) {
        let (seat, token, mut heard) = (Arc::clone(self), shutdown.token().clone(), self.news.listen());
        shutdown.tracker().spawn(async move {
            let remembering = async {
                loop {
                    match heard.recv().await {
                        Ok(happening) => {
                            seat.live.tell("happening", &happening);
                            seat.history.on_happening(happening);
                        }
                        Err(RecvError::Lagged(missed)) => {
                            tracing::warn!(missed, "more happened at once than is kept");
                        }
                        Err(RecvError::Closed) => return,
                    }
                }
            };
            token.run_until_cancelled(remembering).await;
        });
    }

    /// Tells whoever keeps a page open what becomes of incidents.
    fn show_incidents(self: &Arc<Self>, shutdown: &Shutdown) {
        let (seat, token, mut changes) =
            (Arc::clone(self), shutdown.token().clone(), self.incidents.changes());
        shutdown.tracker().spawn(async move {
            let showing = async {
                while let Some(changed) = incidents::gather(&mut changes).await {
                    changed.values().for_each(|incident| seat.live.tell("incident", incident.as_ref()));
                    // One happening is written into every open incident: once for all of a burst is enough.
                    tokio::time::sleep(INCIDENTS_APART).await;
                }
            };
            token.run_until_cancelled(showing).await;
        });
    }

    fn keep_alive(self: &Arc<Self>, shutdown: &Shutdown) {
        let (seat, token) = (Arc::clone(self), shutdown.token().clone());
        shutdown.tracker().spawn(async move {
            while token.run_until_cancelled(tokio::time::sleep(KEEP_ALIVE)).await.is_some() {
                seat.live.keep_alive();
            }
            seat.live.end();
        });
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
