//! What every server process has besides its roles: signals, an admin surface, checks that follow the facts, and an orderly
//! end in two steps: first those who talk to clients, then those they need.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::feed::Feed;
use buslane_chassis::quic::EndpointError;
use buslane_chassis::readiness::{Check, Readiness};
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::telemetry::{self, LogConfig, PrometheusHandle};
use buslane_chassis::tls::{self, TlsError};
use buslane_chassis::trace::{self, Traces, Whose};
use buslane_store::boundary::StoreError;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Exit, Failure};
use crate::registry;
use crate::service::{self, Watchdog};

/// How long clients and requests under way may take once the end has begun.
const FRONT_LIMIT: Duration = Duration::from_secs(10);

/// How long the backend may take after that: what is queued is written, a running backup ends.
const BACK_LIMIT: Duration = Duration::from_secs(10);

/// How often a check that is ready looks at what it follows.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often one that is not looks: somebody may wait for it.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// The exit code of a process that was told to stop twice.
const STOPPED_AT_ONCE: i32 = 130;

/// A server process.
pub struct Process {
    /// Those who talk to clients and operators: they end first.
    pub front: Shutdown,
    /// Those they need.
    pub back: Shutdown,
    /// Its checks.
    pub readiness: Readiness,
    signals: Signals,
    traces: Option<Traces>,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

fn metrics() -> Result<PrometheusHandle, Failure> {
    telemetry::install_metrics().map_err(|e| Failure::new(Exit::Refused, "internal", e.to_string()))
}

impl Process {
    /// Begins a process: from here on signals are heard, logs are written and metrics counted.
    pub fn begin(log: &LogConfig) -> Result<Self, Failure> {
        telemetry::init(log);
        // Before anything is opened: what is looked up earlier would count nothing.
        metrics()?;
        registry::describe();
        tls::install_provider();
        let heard = |kind| signal(kind).map_err(|e| system("signals cannot be heard", &e));
        let signals = Signals {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
            hangup: heard(SignalKind::hangup())?,
        };
        Ok(Self {
            front: Shutdown::new(),
            back: Shutdown::new(),
            readiness: Readiness::new(),
            signals,
            traces: None,
        })
    }

    /// Exports its traces from here on, where the settings want it; paths in them are relative to `folder`.
    pub fn traced(
        mut self,
        config: Option<&trace::Config>,
        whose: Whose<'_>,
        folder: &Path,
    ) -> Result<Self, Failure> {
        if let Some(config) = config {
            let mut config = config.clone();
            config.relative_to(folder);
            self.traces = Some(Traces::begin(&config, whose).map_err(|e| Failure::usage(e.to_string()))?);
        }
        Ok(self)
    }

    /// What is counted.
    pub fn metrics(&self) -> Result<PrometheusHandle, Failure> {
        metrics()
    }

    /// A check that says what `trouble` says.
    pub fn follow_store(&self, trouble: impl Fn() -> Option<StoreError> + Send + 'static) {
        let check = self.readiness.check("store");
        self.follow(move || trouble().map(|e| e.to_string()), check);
    }

    /// A check that is ready while the feed is connected, has keys and names a session manager.
    pub fn follow_feed(&self, feed: &Arc<Feed>) {
        let check = self.readiness.check("backend");
        let (feed, freshness) = (Arc::clone(feed), feed.freshness());
        self.follow(
            move || {
                let fresh = *freshness.borrow();
                if !fresh.connected {
                    Some("the backend does not answer; going on with what is known".to_owned())
                } else if !fresh.has_keys {
                    Some("the backend has not given any keys yet".to_owned())
                } else if feed.nodes().is_empty() {
                    Some("no session manager has come yet".to_owned())
                } else {
                    None
                }
            },
            check,
        );
    }

    fn follow(&self, trouble: impl Fn() -> Option<String> + Send + 'static, check: Check) {
        let token = self.back.token().clone();
        self.back.tracker().spawn(async move {
            let mut wait = Duration::ZERO;
            while token.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                wait = match trouble() {
                    None => {
                        check.ready();
                        LOOK_EVERY
                    }
                    Some(why) => {
                        check.not_ready(why);
                        LOOK_AGAIN
                    }
                };
            }
        });
    }

    /// Waits for the signal to stop; `on_hangup` runs whenever the process is asked to read its certificates again. An error: a part of
    /// the process has failed, and without it the rest is of no use.
    pub async fn until_stopped(
        &mut self,
        on_hangup: impl Fn() -> Result<(), TlsError>,
    ) -> Result<(), Failure> {
        let mut watchdog = Watchdog::of_this_process();
        loop {
            tokio::select! {
                _ = self.signals.interrupt.recv() => return Ok(()),
                _ = self.signals.terminate.recv() => return Ok(()),
                () = self.front.token().cancelled() => return Err(part_failed()),
                _ = self.signals.hangup.recv() => {
                    service::reloading();
                    match on_hangup() {
                        Ok(()) => tracing::info!("the certificates were read again"),
                        Err(error) => tracing::error!(%error, "certificates were not read again: what cannot be read stays as it was"),
                    }
                    service::reloaded();
                }
                () = watchdog.due() => watchdog.feed().await,
            }
        }
    }

    /// Ends in order, within limits. A second signal ends it at once.
    pub async fn end(self) {
        service::stopping();
        let Signals { mut interrupt, mut terminate, .. } = self.signals;
        let traces = self.traces;
        let in_order = async {
            if !self.front.finish(FRONT_LIMIT).await {
                tracing::warn!("some clients were still served at the limit");
            }
            if !self.back.finish(BACK_LIMIT).await {
                tracing::warn!("some work of the backend was still going on at the limit");
            }
            // Last: what has ended until here is in it.
            if let Some(traces) = traces {
                traces.finish().await;
            }
        };
        tokio::select! {
            () = in_order => {}
            _ = interrupt.recv() => process::exit(STOPPED_AT_ONCE),
            _ = terminate.recv() => process::exit(STOPPED_AT_ONCE),
        }
    }
}

/// Whoever watches over the process starts it anew.
fn part_failed() -> Failure {
    let why = "a part of this process has failed and the process has ended: start it again, and report the lines of its log";
    Failure::new(Exit::Refused, "part_failed", why.to_owned())
}

/// An address that cannot be listened on.
pub fn cannot_listen(addr: SocketAddr, protocol: &str, error: &io::Error, flag: &str) -> Failure {
    let (code, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "port_taken",
            format!("another process has it (another `buslane up`?): stop it, or choose another with {flag}"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            "address_unavailable",
            format!("this machine does not have that address: choose another with {flag}"),
        ),
        io::ErrorKind::PermissionDenied => {
            ("port_forbidden", format!("this user may not take it: choose a port above 1023 with {flag}"))
        }
        _ => ("cannot_listen", format!("choose another address with {flag}")),
    };
    Failure::new(Exit::Port, code, format!("cannot listen on {addr} ({protocol}): {error}; {remedy}"))
}

/// An endpoint that did not come up.
pub fn explain_endpoint(error: &EndpointError, flag: &str) -> Failure {
    match error {
        EndpointError::Bind { addr, error } => cannot_listen(*addr, "UDP", error, flag),
        EndpointError::Tls(error) => explain_tls(error),
    }
}

/// A certificate that cannot be used.
pub fn explain_tls(error: &TlsError) -> Failure {
    Failure::new(Exit::Usage, "certificates", error.to_string())
}

fn system(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Refused, "system", format!("{what}: {error}"))
}
