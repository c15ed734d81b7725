//! The operator's surface of a process: the seat, the admin address on which it is reached, and who may come in.
//!
//! Every server process has one, made here from its settings and its parts, so that all of them answer the same questions.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use buslane_backend::Service;
use buslane_chassis::admin::sign_in::{Settings as Oidc, SignIn};
use buslane_chassis::admin::tls::{AdminTls, Settings as TlsSettings};
use buslane_chassis::admin::{Admin, Token, Tokens};
use buslane_chassis::audit::{self, Entry};
use buslane_chassis::orders::{self, Desk};
use buslane_chassis::oversee::{DrainFacts, Refusals};
use buslane_chassis::telemetry;
use buslane_chassis::tls::{Identity, TlsError};
use buslane_operator::happening::What;
use buslane_operator::probe::{MakeCode, Target};
use buslane_operator::seat::CertificateEnds;
use buslane_operator::{OpenError, Parts, Seat, api};
use buslane_shared::id::UserId;
#[cfg(feature = "oidc")]
use buslane_sign_in::OpenIdConnect;
use futures_util::FutureExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::effective::Shown;
use crate::failure::{Exit, Failure};
use crate::process::{Process, cannot_listen, explain_tls};

/// The action that the audit shows for certificates that were read again.
const CERTIFICATES_RELOAD: &str = "certificates.reload";

/// What the surface of a process is made of.
pub struct Surface {
    /// Its name.
    pub node: String,
    /// "up", "gateway", "session-manager" or "backend".
    pub role: &'static str,
    /// The folder that it may write to.
    pub folder: PathBuf,
    /// Orders, audit, control of load, feed.
    pub desk: Desk,
    /// Refusals that are remembered beside those of the node.
    pub refusals: Vec<Arc<Refusals>>,
    /// Where the probe goes to.
    pub probe_target: Option<Target>,
    /// The certificate of the process.
    pub identity: Identity,
    /// `[console]`.
    pub console: buslane_operator::Config,
    /// `[admin_tls]`.
    pub tls: Option<TlsSettings>,
    /// `[oidc]`.
    pub oidc: Option<Oidc>,
    /// The admin address.
    pub admin: SocketAddr,
    /// The file of the first token.
    pub token: PathBuf,
    /// Names under which browsers reach it.
    pub hosts: Vec<String>,
    /// The settings as they hold.
    pub shown: Arc<Shown>,
    /// What only an admin may do here besides.
    pub for_admins: Option<Router>,
}

/// The surface, listening.
pub struct Listening {
    /// The seat.
    pub seat: Arc<Seat>,
    /// The admin address.
    pub admin: SocketAddr,
    tls: Option<Arc<AdminTls>>,
    tasks: TaskTracker,
    identity: Identity,
    /// The certificate of the process as it was known last.
    leaf: Mutex<Option<Vec<u8>>>,
}

/// Writes down that the certificates were read again.
fn tell_reloaded(seat: &Seat) {
    let ends_ms = seat.certificate_ends.as_ref().and_then(|ends| ends());
    let entry = Entry {
        author: audit::SELF.to_owned(),
        action: CERTIFICATES_RELOAD.to_owned(),
        reason: "SIGHUP".to_owned(),
        before: Value::Null,
        after: json!({ "ends_ms": ends_ms }),
    };
    // They hold already: a disk that is full must not keep an old certificate alive.
    if let Err(error) = seat.audit().write(entry) {
        tracing::error!(%error, "that the certificates were read again was not recorded");
    }
    let keys = vec!["certificates".to_owned()];
    seat.tell(What::Reloaded { author: audit::SELF.to_owned(), keys });
}

impl Listening {
    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Where the console is.
    pub fn url(&self) -> String {
        let scheme = if self.is_secure() { "https" } else { "http" };
        format!("{scheme}://{}/", self.admin)
    }

    /// Reads the certificates of the admin address and the authority of the peers again; that of the process itself was read
    /// before. Where one of them is another than it was, operators are told.
    pub fn reload(&self) -> Result<(), TlsError> {
        let admin = self.tls.as_ref().map_or(Ok(false), |tls| tls.reload());
        let peers = self.seat.peers.reload();
        let leaf = self.identity.leaf();
        let own = std::mem::replace(&mut *self.leaf.lock(), leaf.clone()) != leaf;
        if own
            || admin.as_ref().is_ok_and(|is_other| *is_other)
            || peers.as_ref().is_ok_and(|is_other| *is_other)
        {
            let seat = Arc::clone(&self.seat);
            // On a thread that may wait for the disk.
            self.tasks.spawn_blocking(move || tell_reloaded(&seat));
        }
        admin.and(peers).map(|_| ())
    }
}

impl Surface {
    /// Opens the seat and answers at the admin address.
    pub async fn listen(self, process: &Process) -> Result<Listening, Failure> {
        let token = Token::load_or_create(&self.token)
            .map_err(|e| Failure::new(Exit::Data, "admin_token", e.to_string()))?;
        let tls = self.tls.map(AdminTls::load).transpose().map_err(|e| explain_tls(&e))?;
        let sign_in = self.oidc.as_ref().map(|oidc| sign_in(oidc, self.admin, tls.is_some())).transpose()?;
        let provider = self.oidc.as_ref().map(Oidc::shown_name);
        let metrics = process.metrics()?;
        telemetry::keep_up(metrics.clone(), &process.back);
        let tokens = Tokens::open(&self.folder, Arc::clone(self.desk.book.audit()));
        let seat = Seat::open(Parts {
            node: self.node,
            role: self.role,
            version: env!("CARGO_PKG_VERSION"),
            folder: self.folder,
            desk: self.desk.clone(),
            readiness: process.readiness.clone(),
            refusals: self.refusals,
            probe_target: self.probe_target,
            certificate_ends: Some(ends(self.identity.clone())),
            config: self.console,
        })
        .map_err(|e| explain(&e))?;
        let identity = self.identity;
        let overseer = self.desk.overseer.clone();
        let orders = api::forwarding(&seat, orders::routes(self.desk));
        let mut surface = Admin::new(token, process.readiness.clone(), metrics)
            .keeping(tokens)
            .known_as(&self.hosts)
            .merge(orders.merge(seat.routes()).merge(self.shown.route()))
            .open(Seat::open_routes(provider.as_deref()));
        if let Some(overseer) = overseer {
            surface = surface.draining(move || drains(&overseer.drain_state()));
        }
        if let Some(routes) = self.for_admins {
            surface = surface.merge_for_admins(routes);
        }
        if let Some(tls) = &tls {
            surface = surface.with_tls(Arc::clone(tls));
        }
        if let Some(sign_in) = sign_in {
            surface = surface.signing_in(sign_in);
        }
        let addr = self.admin;
        let bound = surface.bind(addr).await.map_err(|e| cannot_listen(addr, "TCP", &e, "--admin"))?;
        let admin = bound.local_addr();
        if !admin.ip().is_loopback() && tls.is_none() {
            tracing::warn!(%admin, "the admin surface is plain HTTP: write [admin_tls], put it behind a proxy with TLS, or on loopback");
        }
        seat.on_listening(admin);
        seat.run(&process.front);
        let front = process.front.clone();
        process.front.tracker().spawn(async move { bound.run(&front).await });
        let tasks = process.front.tracker().clone();
        Ok(Listening { seat, admin, tls, tasks, leaf: Mutex::new(identity.leaf()), identity })
    }
}

/// Signing in as the settings say. The provider itself is asked when somebody wants to sign in.
#[cfg(feature = "oidc")]
fn sign_in(settings: &Oidc, admin: SocketAddr, speaks_tls: bool) -> Result<SignIn, Failure> {
    let wrong = |why: String| Failure::usage(format!("[oidc] {why}"));
    let back = settings.back(admin, speaks_tls).map_err(wrong)?;
    let provider = OpenIdConnect::open(settings).map_err(|error| wrong(error.to_string()))?;
    Ok(SignIn { provider: Arc::new(provider), back, session: settings.session() })
}

/// Such settings were refused when they were read.
#[cfg(not(feature = "oidc"))]
fn sign_in(_: &Oidc, _: SocketAddr, _: bool) -> Result<SignIn, Failure> {
    Err(Failure::usage("[oidc]: this binary was built without sign-in"))
}

/// Why nobody is to be sent to a node: it lets its sessions go.
fn drains(drain: &DrainFacts) -> Option<String> {
    let DrainFacts { sessions, from_sessions, .. } = drain;
    drain.draining.then(|| format!("it drains: {sessions} of {from_sessions} sessions are left"))
}

fn explain(error: &OpenError) -> Failure {
    match error {
        OpenError::Incidents(_) => Failure::new(Exit::Data, "data_unreadable", error.to_string()),
        _ => Failure::usage(format!("[console]: {error}")),
    }
}

fn ends(identity: Identity) -> CertificateEnds {
    Arc::new(move || u64::try_from(identity.expires_unix_s()?).ok()?.checked_mul(1_000))
}

/// Where a probe goes to. A gate whose authority cannot be read is not probed; the log says so.
pub fn target(gate: SocketAddr, ca: &Path, code: Option<MakeCode>) -> Option<Target> {
    match std::fs::read(ca) {
        Ok(ca_pem) => Some(Target { gate, ca_pem, code }),
        Err(error) => {
            tracing::warn!(path = %ca.display(), %error, "nothing is probed from outside: the authority cannot be read");
            None
        }
    }
}

/// Makes codes for the probe where enrolment needs one.
pub fn codes(service: &Arc<Service>) -> MakeCode {
    let service = Arc::clone(service);
    Arc::new(move |user: &str| {
        let (service, user) = (Arc::clone(&service), user.parse::<UserId>());
        async move {
            let user = user.map_err(|e| e.to_string())?;
            service.make_code(&user).await.map(|made| made.code).map_err(|refusal| refusal.to_string())
        }
        .boxed()
    })
}
