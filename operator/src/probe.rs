//! A client of our own that goes through the whole system from outside: it enters, opens a session, sends a message and receives it.
//!
//! Why it exists: every part can say that it is well while nobody gets through. The probe uses the ports, certificates and
//! the SDK that everybody uses, as two users of its own with one room between them, in the foreground. It costs two logins and
//! one message each time; messages go with the retention of the others. At the default of ten seconds that is 8,640 short messages a
//! day: where messages are kept for ever they stay, so `probe.every_s` may be set higher there, or to 0 for none.
//!
//! It must never run twice at a time, take longer than its limit, or stop trying: after an outage it finds its way by itself.

mod phone;
mod walk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::readiness::Readiness;
use buslane_chassis::shutdown::Shutdown;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, Notify, watch};

use crate::config;
use crate::view::{ProbeStep, ProbeView};
use walk::Walk;

/// A probe that failed is repeated after this, or sooner: two in a row are no accident.
const AGAIN: Duration = Duration::from_secs(5);

/// The first probe waits for the process to be ready, but not longer than this.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How often is looked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes an enrolment code for a user, or says why there is none.
pub type MakeCode = Arc<dyn Fn(&str) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Where the probe goes to.
#[derive(Clone)]
pub struct Target {
    /// The gateway. One that listens everywhere is reached on loopback.
    pub gate: SocketAddr,
    /// The certificate that it is verified with.
    pub ca_pem: Vec<u8>,
    /// Where enrolment needs a code.
    pub code: Option<MakeCode>,
}

impl Target {
    fn address(&self) -> SocketAddr {
        let ip = match self.gate.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.gate.port())
    }
}

/// The probe of a process.
pub struct Probe {
    walk: Option<Mutex<Walk>>,
    every: Duration,
    limit: Duration,
    last: watch::Sender<Option<ProbeView>>,
    hurry: Notify,
}

impl Probe {
    /// The probe of the process of this name, which keeps its two devices in `folder`/probe. Nothing runs yet.
    pub fn new(node: &str, folder: &Path, target: Option<Target>, config: &config::Probe) -> Arc<Self> {
        let is_wanted = config.every_s > 0;
        let walk = target.filter(|_| is_wanted).and_then(|target| {
            let made = Walk::new(node, &folder.join("probe"), target);
            made.inspect_err(|error| tracing::error!(%error, "no probe: its users cannot be named")).ok()
        });
        Arc::new(Self {
            walk: walk.map(Mutex::new),
            every: Duration::from_secs(config.every_s.into()),
            limit: Duration::from_secs(config.limit_s.into()),
            last: watch::Sender::default(),
            hurry: Notify::new(),
        })
    }

    /// Why this process does not probe, if so.
    pub fn off(&self) -> Option<&'static str> {
        match (&self.walk, self.every.is_zero()) {
            (Some(_), _) => None,
            (None, true) => Some("probes are switched off: [console] probe.every_s = 0"),
            (None, false) => Some("this process knows no gateway to probe; one that has a gateway does it"),
        }
    }

    /// The last probe.
    pub fn last(&self) -> Option<ProbeView> {
        self.last.borrow().clone()
    }

    /// How old an answer may be before it says nothing any more.
    pub fn fresh(&self) -> Duration {
        self.every + 2 * self.limit + AGAIN
    }

    /// The next probe is made at once: something has changed.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Probes now, or waits for the one that is under way. `None`: this process does not probe.
    pub async fn now(&self) -> Option<ProbeView> {
        let walk = self.walk.as_ref()?;
        let mut last = self.last.subscribe();
        match walk.try_lock() {
            Ok(mut walk) => Some(self.go(&mut walk).await),
            Err(_) => {
                let ended = tokio::time::timeout(2 * self.limit, last.changed()).await;
                ended.ok().and_then(|_| self.last())
            }
        }
    }

    async fn go(&self, walk: &mut Walk) -> ProbeView {
        let at_ms = clock::unix_ms();
        let steps = walk.go(self.limit).await;
        let ok = steps.iter().all(|step| step.error.is_none());
        let outcome = if ok { "ok" } else { "failed" };
        metrics::counter!("buslane_probe_runs_total", "outcome" => outcome).increment(1);
        for step in &steps {
            count(step);
        }
        let view = ProbeView { at_ms, ok, steps };
        self.last.send_replace(Some(view.clone()));
        view
    }

    /// Probes again and again until the shutdown.
    pub fn run(self: &Arc<Self>, readiness: Readiness, shutdown: &Shutdown) {
        if self.walk.is_none() {
            return;
        }
        let (probe, token) = (Arc::clone(self), shutdown.token().clone());
        shutdown.tracker().spawn(async move {
            // A whole way of two clients lies in it.
            token.run_until_cancelled(Box::pin(probe.again_and_again(readiness))).await;
        });
    }

    async fn again_and_again(&self, readiness: Readiness) {
        let ready = async {
            while !readiness.is_ready() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // One that does not get ready is probed all the same: that it fails is the answer.
        let _ = tokio::time::timeout(READY_LIMIT, ready).await;
        loop {
            // None: one that somebody asked for was under way, and was given up.
            let went_well = self.now().await.is_some_and(|view| view.ok);
            let wait = if went_well { self.every } else { self.every.min(AGAIN) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.hurry.notified() => {}
            }
        }
    }
}

fn count(step: &ProbeStep) {
    if step.error.is_none() {
        let took = Duration::from_micros(step.took_us).as_secs_f64();
        metrics::histogram!("buslane_probe_step_seconds", "step" => step.step.clone()).record(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_listens_everywhere_is_reached_on_loopback() {
        let rows = [
            ("0.0.0.0:7400", "127.0.0.1:7400"),
            ("[::]:7400", "[::1]:7400"),
            ("192.0.2.7:7400", "192.0.2.7:7400"),
        ];
        for (gate, reached) in rows {
            let target = Target { gate: gate.parse().unwrap(), ca_pem: Vec::new(), code: None };
            assert_eq!(target.address().to_string(), reached);
        }
    }

    #[tokio::test]
    async fn a_process_that_does_not_probe_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let none = Probe::new("m1", folder.path(), None, &config::Probe::default());
        assert!(none.off().unwrap().contains("no gateway"));
        assert_eq!(none.now().await, None);
        let target = Target { gate: "127.0.0.1:1".parse().unwrap(), ca_pem: Vec::new(), code: None };
        let off = config::Probe { every_s: 0, ..Default::default() };
        let off = Probe::new("m1", folder.path(), Some(target), &off);
        assert!(off.off().unwrap().contains("every_s"));
        assert!(!folder.path().join("probe").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_when_one_that_somebody_asked_for_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target { gate: "127.0.0.1:1".parse().unwrap(), ca_pem: Vec::new(), code: None };
        let probe = Probe::new("m1", folder.path(), Some(target), &config::Probe::default());
        let (mut last, shutdown) = (probe.last.subscribe(), Shutdown::new());
        let asked = probe.walk.as_ref().unwrap().lock().await;
        probe.run(Readiness::new(), &shutdown);
        // Longer than anybody waits for the one that is under way.
        let waited = READY_LIMIT + 3 * probe.limit;
        assert!(tokio::time::timeout(waited, last.changed()).await.is_err());
        drop(asked);
        tokio::time::timeout(6 * probe.limit, last.changed()).await.unwrap().unwrap();
        assert!(!probe.last().unwrap().ok);
        assert!(shutdown.finish(Duration::from_secs(10)).await);
    }
}
