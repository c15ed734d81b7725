//! What went wrong: opened by itself or by hand, one thread each, with a story that writes itself.
//!
//! `rules` says what an alert means, `machine` where an incident may go, `ledger` decides what becomes of all of them, `timeline`
//! puts happenings into words, `store` keeps them, `export` makes a report. This file is the shell: it listens, asks the ledger,
//! tells people and writes to the disk, in this order, since a disk that hangs must not keep anybody from being called.
//!
//! Why it exists: at three in the morning nobody writes minutes, and a week later everybody needs them. It must never hold up
//! who tells it something, and never lose what a person has said without saying so.

mod export;
mod incident;
mod keeper;
mod ledger;
mod machine;
mod notice;
mod rules;
mod store;
mod timeline;
mod voice;
mod words;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::happening::{Happening, News, Said};
use crate::notify::Messenger;
use crate::view::{IncidentState, IncidentView, Severity};

use incident::Incident;
use keeper::{Failure, Undone, off_the_runtime};
use ledger::{Effects, Ledger};
use store::Store;
use voice::Me;

pub use ledger::{Word, WordError};
pub use notice::{Audience, Notice, Occasion};
pub(crate) use rules::severity_name;
pub(crate) use timeline::SELF;
pub use voice::Claims;
pub(crate) use words::{rfc3339, span, tidy, utc};

/// How far a page may be behind before it misses some.
const SHOWN_MAX: usize = 256;

/// Why the incidents cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the incidents in {}: {error}; see to the folder's owner and mode", path.display())]
pub struct OpenError {
    path: PathBuf,
    error: io::Error,
}

/// Why nothing can be said about an incident.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// It makes no sense.
    #[error(transparent)]
    Word(#[from] WordError),
    /// Its file cannot be read.
    #[error("the file of incident {no} cannot be read: {error}; see to the disk")]
    Unreadable {
        /// Which.
        no: u64,
        /// What the system said.
        error: io::Error,
    },
}

/// Every incident that is kept.
#[derive(Debug)]
pub struct Incidents {
    ledger: Mutex<Ledger>,
    store: Arc<Store>,
    messenger: Arc<Messenger>,
    undone: Mutex<Undone>,
    wake: Notify,
    kept: watch::Sender<Failure>,
    shown: broadcast::Sender<Arc<IncidentView>>,
}

impl Incidents {
    /// Reads those of a folder. Blocks.
    pub fn open(folder: &Path, config: &Config, messenger: Arc<Messenger>) -> Result<Arc<Self>, OpenError> {
        let path = folder.join("incidents");
        let failed = |error| OpenError { path: path.clone(), error };
        let store = Store::open(&path).map_err(failed)?;
        let read = store.read_all().map_err(failed)?;
        let me = Me {
            node: messenger.node().to_owned(),
            channels: messenger.channels(),
            has_peers: !config.peers.is_empty(),
            begun_ms: clock::unix_ms(),
        };
        let ledger = Ledger::new(me, config.expected_recovery_s, read);
        Ok(Arc::new(Self {
            ledger: Mutex::new(ledger),
            store: Arc::new(store),
            messenger,
            undone: Mutex::default(),
            wake: Notify::new(),
            kept: watch::Sender::default(),
            shown: broadcast::Sender::new(SHOWN_MAX),
        }))
    }

    /// Listens until the shutdown; then what is not on the disk is written.
    pub fn run(self: &Arc<Self>, news: &News, shutdown: &Shutdown) {
        // From now on, not from when the task runs first.
        let heard = news.listen();
        let (incidents, token) = (Arc::clone(self), shutdown.token().clone());
        shutdown.tracker().spawn(async move {
            let listening = async {
                token.run_until_cancelled(incidents.listen(heard)).await;
                incidents.tell_what_waits();
            };
            tokio::join!(listening, incidents.keep(&token));
            incidents.write().await;
        });
    }

    /// What the other processes are told of them.
    pub fn claims(&self) -> Claims {
        self.ledger.lock().claims()
    }

    /// Another process has said this of its own.
    pub fn on_claims(&self, node: &str, claims: Claims) {
        self.ledger.lock().on_said(node, claims, clock::unix_ms());
    }

    /// What the other processes are to hear of a person's word; none: they do not see this incident.
    pub fn for_others(incident: &IncidentView, author: &str, word: &Word) -> Option<Said> {
        ledger::for_others(incident, author, word)
    }

    /// All, newest first, without timelines.
    pub fn list(&self) -> Vec<IncidentView> {
        self.ledger.lock().list()
    }

    /// Those that are not over, newest first, without timelines.
    pub fn open_ones(&self) -> Vec<IncidentView> {
        let mut list = self.list();
        list.retain(|incident| machine::is_open(incident.state));
        list
    }

    /// Every change from now on, without timelines.
    pub fn changes(&self) -> broadcast::Receiver<Arc<IncidentView>> {
        self.shown.subscribe()
    }

    /// One with its timeline.
    pub async fn show(&self, no: u64) -> Result<IncidentView, ActError> {
        let read = self.read_cold(no).await?;
        let ledger = self.ledger.lock();
        let whole = ledger.warm(no).map(Incident::whole).or_else(|| read.map(|incident| incident.whole()));
        whole.ok_or(ActError::Word(WordError::Absent(no)))
    }

    /// One as a post-mortem in Markdown.
    pub async fn export(&self, no: u64, node: &str) -> Result<String, ActError> {
        Ok(export::markdown(&self.show(no).await?, node, clock::unix_ms()))
    }

    /// Whether a person may open another one now.
    pub fn check_room(&self) -> Result<(), WordError> {
        self.ledger.lock().check_room()
    }

    /// A person opens one. The second part of the answer: why it would not survive a restart, if so.
    pub async fn open_by_hand(
        &self,
        author: &str,
        title: &str,
        severity: Severity,
        reason: &str,
    ) -> Result<(IncidentView, Option<String>), ActError> {
        let now_ms = clock::unix_ms();
        let (no, effects) = self.ledger.lock().open_by_hand(author, title, severity, reason, now_ms)?;
        self.act(effects);
        self.after_word(no).await
    }

    /// Whether this could be said now.
    pub async fn check(&self, no: u64, word: &Word) -> Result<(), ActError> {
        let read = self.read_cold(no).await?;
        let mut ledger = self.ledger.lock();
        read.into_iter().for_each(|incident| ledger.warm_up(incident));
        Ok(ledger.check(no, word)?)
    }

    /// Does what a person says. The second part of the answer: why it would not survive a restart, if so.
    pub async fn say(
        &self,
        no: u64,
        author: &str,
        word: Word,
    ) -> Result<(IncidentView, Option<String>), ActError> {
        let read = self.read_cold(no).await?;
        let effects = {
            let mut ledger = self.ledger.lock();
            read.into_iter().for_each(|incident| ledger.warm_up(incident));
            ledger.say(no, author, word, clock::unix_ms())?
        };
        self.act(effects);
        self.after_word(no).await
    }

    async fn after_word(&self, no: u64) -> Result<(IncidentView, Option<String>), ActError> {
        let not_kept = self.until_kept(no).await;
        Ok((self.show(no).await?, not_kept))
    }

    async fn listen(&self, mut heard: broadcast::Receiver<Happening>) {
        for notice in self.ledger.lock().known(clock::unix_ms()) {
            self.messenger.offer(notice);
        }
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                happening = heard.recv() => match happening {
                    Ok(happening) => self.on_happening(&happening),
                    Err(RecvError::Lagged(count)) => self.on_missed(count),
                    Err(RecvError::Closed) => return,
                },
                _ = seconds.tick() => self.on_tick(),
            }
        }
    }

    /// At the end: people are told what has waited for another process, and the messenger brings what it has.
    fn tell_what_waits(&self) {
        let effects = self.ledger.lock().on_end(clock::unix_ms());
        self.act(effects);
        self.messenger.end();
    }

    fn on_happening(&self, happening: &Happening) {
        let effects = self.ledger.lock().on_happening(happening, clock::unix_ms());
        self.act(effects);
    }

    fn on_missed(&self, count: u64) {
        tracing::warn!(count, "happenings were missed by the incidents");
        let effects = self.ledger.lock().on_missed(count, clock::unix_ms());
        self.act(effects);
    }

    fn on_tick(&self) {
        let effects = self.ledger.lock().on_tick(clock::unix_ms());
        self.act(effects);
        self.count();
        // What could not be written is tried again.
        self.wake.notify_one();
    }

    /// Does what the ledger has decided: people first, then pages, then the disk.
    fn act(&self, effects: Effects) {
        for notice in effects.notices {
            self.messenger.offer(notice);
        }
        // While the lock is held: what is shown last is what holds.
        let ledger = self.ledger.lock();
        for view in effects.changed.iter().filter_map(|no| ledger.view(*no).cloned()) {
            // That nobody looks is no error.
            let _ = self.shown.send(Arc::new(view));
        }
        drop(ledger);
        let mut undone = self.undone.lock();
        undone.changed.extend(effects.changed);
        undone.forgotten.extend(effects.forgotten);
        drop(undone);
        self.wake.notify_one();
    }

    fn count(&self) {
        let counts = self.ledger.lock().open_counts();
        for severity in [Severity::Low, Severity::Medium, Severity::High, Severity::Critical] {
            let open = counts.get(&severity).copied().unwrap_or_default();
            metrics::gauge!("buslane_incidents_open", "severity" => severity_name(severity)).set(open);
        }
    }

    /// An incident whose lines are on the disk only; none: they are in memory, or there is no such incident.
    async fn read_cold(&self, no: u64) -> Result<Option<Incident>, ActError> {
        if !self.ledger.lock().is_cold(no) {
            return Ok(None);
        }
        let store = Arc::clone(&self.store);
        let read = off_the_runtime(move || store.read(no)).await;
        read.map(Some).map_err(|error| ActError::Unreadable { no, error })
    }
}

/// The newest state of each incident that has changed since the last time; waits for the first. None: there are no more.
pub(crate) async fn gather(
    changes: &mut broadcast::Receiver<Arc<IncidentView>>,
) -> Option<BTreeMap<u64, Arc<IncidentView>>> {
    let mut gathered = BTreeMap::new();
    loop {
        let next = if gathered.is_empty() {
            changes.recv().await
        } else {
            match changes.try_recv() {
                Ok(changed) => Ok(changed),
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(gathered),
            }
        };
        match next {
            Ok(changed) => drop(gathered.insert(changed.no, changed)),
            // Whatever was missed has changed again since, or is seen when it is asked for.
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "changes of incidents were not shown"),
            Err(RecvError::Closed) => return None,
        }
    }
}

/// The state of this name.
pub(crate) fn state_named(name: &str) -> Option<IncidentState> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}
