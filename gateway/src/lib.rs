//! The gateway: enrols devices and hands out tickets.
//!
//! The path of a request, in the order of the files: `door` decides on the first packet, `connection` shakes hands and
//! takes streams, `request` reads one frame, `enter` or `enrol` decides, and `request` answers. `gate` is what they decide
//! with: `arrival` for what was shown in the first packet, `limits` and `offenders` for who comes how often, `managers` and `shed`
//! for session managers that are full, `jwt` and `jwks` for identity providers.
//!
//! Why it exists as a role of its own: it is the only part that talks to strangers, and it can be multiplied, because it
//! has no state that matters. It must never be needed for a session that has begun.

mod arrival;
pub mod config;
mod connection;
mod door;
mod enrol;
mod enter;
mod gate;
mod jwks;
mod jwt;
mod limits;
mod managers;
pub mod meters;
mod offenders;
mod request;
mod shed;

#[cfg(test)]
#[path = "../tests/gate/provider.rs"]
mod provider;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_chassis::api::Backend;
use buslane_chassis::clock;
use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Refusals;
use buslane_chassis::quic::{
    EndpointError, FirstPacket, Passage, Porter, Screen, Tuning, Wanted, screened_endpoint,
};
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::threads::Threads;
use buslane_chassis::tls::Identity;
use buslane_shared::limits::ALPN_GATE;
use buslane_shared::mark::MarkError;
use tokio::task::JoinError;

pub use config::Config;
pub use jwks::JwksError;

use door::Door;
use gate::Gate;
use jwt::JwtCheck;

/// How often the memory of limits that are over is given back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How long the threads may take to end, when everything on them has been told to.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Why a gateway did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its port or its certificate cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The settings of the identity provider cannot be used.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// The system gives no threads.
    #[error("cannot start threads: {0}; check the limits of this user")]
    Threads(std::io::Error),
    /// The system does not say which address was bound.
    #[error("the address of the gate's socket is unknown: {0}")]
    Address(std::io::Error),
}

/// A gateway that listens and does not answer yet.
pub struct Gateway {
    gate: Arc<Gate>,
    door: Door,
    refresher: Option<jwks::Refresher>,
    local_addr: SocketAddr,
    threads: Threads,
    shutdown: Shutdown,
}

impl Gateway {
    /// Binds the gate's port and starts its threads.
    pub fn bind(
        config: Config,
        identity: &Identity,
        backend: Backend,
        feed: Arc<Feed>,
        shutdown: &Shutdown,
    ) -> Result<Self, BindError> {
        let (jwt, refresher) = config.jwt.as_ref().map(identity_provider).transpose()?.unzip();
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = Threads::start("buslane-gate", threads, || ()).map_err(BindError::Threads)?;
        let inside = threads.handle().enter();
        let (endpoint, knocks) = screened_endpoint(
            config.listen,
            identity,
            ALPN_GATE,
            Tuning::gate(),
            Arc::new(Genuine(feed.clone())),
        )?;
        drop(inside);
        let local_addr = endpoint.local_addr().map_err(BindError::Address)?;
        let gate = Arc::new(Gate::new(&config, backend, Arc::clone(&feed), jwt));
        threads.spawn(Porter::new(knocks, "gate").run(move || whom(&feed)));
        let door = Door::new(endpoint, Arc::clone(&gate), config.door);
        Ok(Self { gate, door, refresher, local_addr, threads, shutdown: shutdown.clone() })
    }

    /// The address of the gate; with port 0 configured, the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Devices that got no ticket lately, and why.
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.gate.refusals)
    }

    /// Answers until the shutdown begins and what is under way then has ended.
    pub async fn run(self) {
        let stop = self.shutdown.token();
        if let Some(refresher) = self.refresher {
            self.shutdown.tracker().spawn(refresher.run(stop.clone()));
        }
        let (gate, until) = (self.gate, stop.clone());
        self.shutdown.tracker().spawn(async move {
            let mut tick = tokio::time::interval(SWEEP_INTERVAL);
            while until.run_until_cancelled(tick.tick()).await.is_some() {
                gate.sweep(Instant::now());
            }
        });
        tracing::info!(address = %self.local_addr, "the gateway answers");
        // On threads of its own: whatever strangers send here, no message and no session waits for it.
        let (door, stop) = (self.door, stop.clone());
        let ended = self.threads.handle().spawn(async move { door.run(&stop).await }).await;
        on_door_ended(ended, &self.shutdown);
        self.threads.end(END_LIMIT).await;
        tracing::info!("the gateway has stopped");
    }
}

/// Without its door a gateway answers nobody, and looks alive: it ends, so that whoever watches over the process starts it anew.
fn on_door_ended(ended: Result<(), JoinError>, shutdown: &Shutdown) {
    let error = match ended {
        Ok(()) if shutdown.token().is_cancelled() => return,
        Ok(()) => "its socket is lost".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::error!(%error, "the gate's door has failed: the process ends, start it again and report the lines above");
    shutdown.begin();
}

/// Lets everybody through but those who show a mark that somebody has made up; the rest is the door's to decide.
struct Genuine(Arc<Feed>);

impl fmt::Debug for Genuine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Genuine")
    }
}

impl Screen for Genuine {
    fn judge(&self, first: &FirstPacket<'_>) -> Passage {
        match self.0.keys().marks().read(first.id, clock::unix_ms()) {
            Err(MarkError::Forged) => Passage::Drop,
            Ok(_) | Err(_) => Passage::Through,
        }
    }
}

/// A gateway hears strangers and those who hold a mark.
fn whom(feed: &Feed) -> Wanted {
    let (keys, now_ms) = (feed.keys(), clock::unix_ms());
    Wanted { announced: keys.marks().knock(now_ms), knocks: keys.marks().knocks(now_ms), strangers: true }
}

fn identity_provider(settings: &config::Jwt) -> Result<(JwtCheck, jwks::Refresher), BindError> {
    let source = match (&settings.jwks_file, &settings.jwks_url) {
        (Some(file), _) => jwks::Source::File(file.clone()),
        (None, url) => {
            jwks::Source::url(url.as_deref().unwrap_or_default(), settings.jwks_ca.as_deref().map(Path::new))?
        }
    };
    let seconds = Duration::from_secs;
    let (keys, refresher) = jwks::keys(source, seconds(settings.refresh_s), seconds(settings.refetch_s))?;
    Ok((JwtCheck::new(settings, keys), refresher))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    #[tokio::test]
    async fn a_door_that_is_gone_before_the_process_ends_it() {
        let failed: JoinHandle<()> = tokio::spawn(async { panic!("a fault of the program") });
        for ended in [Ok(()), failed.await] {
            let shutdown = Shutdown::new();
            on_door_ended(ended, &shutdown);
            assert!(shutdown.token().is_cancelled());
        }
    }
}
