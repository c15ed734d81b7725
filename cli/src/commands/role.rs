//! `gateway`, `session-manager`, `backend`: one role in a process of its own, reached by the others over mTLS.
//!
//! A role starts without the others and waits for them; it says when it is ready. Which role does what is decided in the
//! roles' own crates: here they only get their settings, certificates and each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buslane_backend::Service;
use buslane_chassis::admin::sign_in::Settings as Oidc;
use buslane_chassis::admin::tls::Settings as AdminTls;
use buslane_chassis::api::Backend;
use buslane_chassis::feed::Feed;
use buslane_chassis::orders::Desk;
use buslane_chassis::rpc::{self, RemoteBackend};
use buslane_chassis::tls::Mtls;
use buslane_chassis::trace::Whose;
use buslane_gateway::Gateway;
use buslane_gateway::config::Enrolment;
use buslane_session_manager::SessionManager;
use buslane_shared::wire::RoleKind;
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::effective::{Effective, Shown};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::operate;
use crate::output::Output;
use crate::process::{Process, cannot_listen, explain_tls};
use crate::reload::{Read, Reload};
use crate::role::{self, explain_gateway, explain_session_manager, explain_start};
use crate::sealed_store::SealedStore;
use crate::seat::{self, Listening, Surface};
use crate::service;
use crate::settings::{self, beside};

/// How long a role stays silent about a part that it waits for.
const PATIENCE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Example:
  buslane config init --dir ./system
  buslane backend --config ./system/backend.toml
  buslane session-manager --config ./system/session-manager.toml
  buslane gateway --config ./system/gateway.toml

SIGTERM ends it in order. SIGHUP reads the certificate files again, and in a session manager the
settings of overload control.";

/// Arguments of a role.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RoleArgs {
    /// Its configuration file; `buslane config init` writes one
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl RoleArgs {
    /// The folder that paths in the file are relative to.
    fn folder(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new(""))
    }
}

/// Runs a gateway.
pub fn gateway(args: &RoleArgs, output: Output) -> Result<(), Failure> {
    let mut settings: settings::Gateway = settings::load(&args.config)?;
    settings.gateway.relative_to(args.folder());
    super::serve(async move {
        let whose = Whose { role: "gateway", node: &settings.node };
        let process =
            Process::begin(&settings.log)?.traced(settings.traces.as_ref(), whose, args.folder())?;
        let mtls = mtls(args, &settings.tls)?;
        let backend = remote(&settings.backend, &mtls)?;
        // Held to the end: no second gateway writes into the same folder.
        let folder = Folder::take(&beside(&args.config, &settings.data))?;
        let book = role::open_book(folder.path())?;
        let feed = Feed::follow(backend.clone(), RoleKind::Gateway, &settings.node, &process.back);
        book.run(&feed, None, &process.front);
        let enrolment = settings.gateway.enrolment;
        let gateway = Gateway::bind(settings.gateway, &mtls.identity, backend, feed.clone(), &process.front)
            .map_err(|e| explain_gateway(&e))?;
        // Where enrolment needs a code, the backend probes: only it can make one.
        let ca = beside(&args.config, &settings.tls.ca);
        let probe_target =
            (enrolment == Enrolment::Open).then(|| seat::target(gateway.local_addr(), &ca, None));
        let common = Common {
            console: settings.console,
            tls: settings.admin_tls,
            oidc: settings.oidc,
            process: settings.process,
        };
        let desk = Desk { book, overseer: None, feed: feed.clone() };
        let surface = Surface {
            refusals: vec![gateway.refusals()],
            probe_target: probe_target.flatten(),
            ..common.surface(args, &folder, desk, &mtls, ("gateway", &settings.node))?
        };
        let listening = surface.listen(&process).await?;
        let line = json!({"ready": true, "gate": gateway.local_addr(), "admin": listening.admin});
        process.follow_feed(&feed);
        process.front.tracker().spawn(gateway.run());
        let ended = run(process, &mtls, &listening, None, line, output).await;
        drop(folder);
        ended
    })
}

/// Runs a session manager.
pub fn session_manager(args: &RoleArgs, output: Output) -> Result<(), Failure> {
    let mut settings: settings::SessionManager = settings::load(&args.config)?;
    role::advertise(
        &mut settings.session_manager,
        buslane_chassis::tls::Role::SessionManager.server_name(),
        None,
    )?;
    super::serve(async move {
        let whose = Whose { role: "session-manager", node: &settings.session_manager.node };
        let process =
            Process::begin(&settings.log)?.traced(settings.traces.as_ref(), whose, args.folder())?;
        let mtls = mtls(args, &settings.tls)?;
        let backend = remote(&settings.backend, &mtls)?;
        // Held to the end: no second session manager writes into the same folder.
        let folder = Folder::take(&beside(&args.config, &settings.data))?;
        let book = role::open_book(folder.path())?;
        let node = settings.session_manager.node.clone();
        let feed = Feed::follow(backend.clone(), RoleKind::SessionManager, &node, &process.back);
        let manager = SessionManager::bind(
            settings.session_manager,
            &mtls.identity,
            backend,
            feed.clone(),
            &process.front,
        )
        .map_err(|e| explain_session_manager(&e))?
        .obeying(book.watch());
        let desk = Desk { book, overseer: Some(manager.overseer()), feed: feed.clone() };
        desk.book.run(&desk.feed, desk.overseer.clone(), &process.front);
        let common = Common {
            console: settings.console,
            tls: settings.admin_tls,
            oidc: settings.oidc,
            process: settings.process,
        };
        let surface = common.surface(args, &folder, desk, &mtls, ("session-manager", &node))?;
        let shown = Arc::clone(&surface.shown);
        let listening = surface.listen(&process).await?;
        let read: Read =
            |path| settings::load::<settings::SessionManager>(path).map(|file| file.session_manager);
        let reload = Reload::new(&args.config, read, manager.tuner(), &listening.seat, &shown, &process.back);
        let line = json!({
            "ready": true, "front": manager.front_addr(), "wake": manager.wake_addr(), "admin": listening.admin,
        });
        process.follow_feed(&feed);
        process.front.tracker().spawn(manager.run());
        let ended = run(process, &mtls, &listening, Some(&reload), line, output).await;
        drop(folder);
        ended
    })
}

/// Runs a backend.
pub fn backend(args: &RoleArgs, output: Output) -> Result<(), Failure> {
    let settings: settings::Backend = settings::load(&args.config)?;
    super::serve(async move {
        let whose = Whose { role: "backend", node: "backend" };
        let process =
            Process::begin(&settings.log)?.traced(settings.traces.as_ref(), whose, args.folder())?;
        let mtls = mtls(args, &settings.tls)?;
        let folder = Folder::take(&beside(&args.config, &settings.data))?;
        let key_file = beside(&args.config, &settings.keys);
        let store = SealedStore::open(&folder.store(), &key_file, (&settings.store).into()).await?;
        let engine = store.engine.clone();
        let service = Service::start(settings.backend, engine, store.sealer.clone(), &process.back)
            .await
            .map_err(|e| explain_start(&e))?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|e| cannot_listen(settings.listen, "TCP", &e, "`listen` in the configuration"))?;
        let listen = listener
            .local_addr()
            .map_err(|e| cannot_listen(settings.listen, "TCP", &e, "`listen` in the configuration"))?;
        let desk = orders_desk(&folder, &service, &process)?;
        let ca = beside(&args.config, &settings.tls.ca);
        let gate = settings.console.probe.gate;
        let probe_target = gate.and_then(|gate| seat::target(gate, &ca, Some(seat::codes(&service))));
        let common = Common {
            console: settings.console,
            tls: settings.admin_tls,
            oidc: settings.oidc,
            process: settings.process,
        };
        let surface = Surface {
            probe_target,
            for_admins: Some(operate::routes(store.clone(), service.clone(), &process.back)),
            ..common.surface(args, &folder, desk, &mtls, ("backend", "backend"))?
        };
        let listening = surface.listen(&process).await?;
        let trouble = Arc::clone(&service);
        process.follow_store(move || trouble.trouble());
        let (served, front, identity) = (service.clone(), process.front.clone(), mtls.clone());
        process.front.tracker().spawn(async move {
            if let Err(error) = rpc::serve(listener, &identity, served, &front).await {
                tracing::error!(%error, "roles are no longer served");
            }
        });
        let line = json!({"ready": true, "listen": listen, "admin": listening.admin, "data": folder.path()});
        let ended = run(process, &mtls, &listening, None, line, output).await;
        // The engine closes here, after everything that might use it.
        drop((service, store));
        ended
    })
}

/// What the surfaces of all roles are made of.
struct Common {
    console: buslane_operator::Config,
    tls: Option<AdminTls>,
    oidc: Option<Oidc>,
    process: settings::Process,
}

impl Common {
    fn surface(
        mut self,
        args: &RoleArgs,
        folder: &Folder,
        desk: Desk,
        mtls: &Mtls,
        (role, node): (&'static str, &str),
    ) -> Result<Surface, Failure> {
        self.console.relative_to(args.folder());
        if let Some(tls) = &mut self.tls {
            tls.relative_to(args.folder());
        }
        if let Some(oidc) = &mut self.oidc {
            oidc.relative_to(args.folder());
        }
        Ok(Surface {
            node: node.to_owned(),
            role,
            folder: folder.path().to_owned(),
            desk,
            refusals: Vec::new(),
            probe_target: None,
            identity: mtls.identity.clone(),
            console: self.console,
            tls: self.tls,
            oidc: self.oidc,
            admin: self.process.admin,
            token: beside(&args.config, &self.process.admin_token),
            hosts: self.process.hosts,
            shown: Shown::new(Effective::read(&args.config)?),
            for_admins: None,
        })
    }
}

/// Orders that are given at the backend's own admin address, on their way to the session managers.
fn orders_desk(folder: &Folder, service: &Arc<Service>, process: &Process) -> Result<Desk, Failure> {
    let book = role::open_book(folder.path())?;
    let near: Backend = service.clone();
    let feed = Feed::follow(near, RoleKind::Unspecified, "backend", &process.front);
    book.run(&feed, None, &process.front);
    let (mut orders, service, token) = (book.watch(), Arc::clone(service), process.front.token().clone());
    process.front.tracker().spawn(async move {
        let telling = async {
            orders.mark_changed();
            while orders.changed().await.is_ok() {
                let now = orders.borrow_and_update().as_ref().into();
                service.take_orders(now);
            }
        };
        token.run_until_cancelled(telling).await;
    });
    Ok(Desk { book, overseer: None, feed })
}

fn mtls(args: &RoleArgs, tls: &settings::Tls) -> Result<Mtls, Failure> {
    let at = |path| beside(&args.config, path);
    Mtls::load(&at(&tls.certificate), &at(&tls.key), &at(&tls.ca)).map_err(|e| explain_tls(&e))
}

fn remote(address: &str, mtls: &Mtls) -> Result<Backend, Failure> {
    let remote = RemoteBackend::new(address, mtls).map_err(|e| Failure::usage(format!("backend: {e}")))?;
    Ok(Arc::new(remote))
}

/// Says when the role is ready, and ends it in order.
async fn run(
    mut process: Process,
    mtls: &Mtls,
    listening: &Listening,
    reload: Option<&Arc<Reload>>,
    line: Value,
    output: Output,
) -> Result<(), Failure> {
    let readiness = process.readiness.clone();
    let waiting = process.back.clone();
    process.back.tracker().spawn(async move {
        let said = async {
            while !readiness.is_ready() {
                if role::until_ready(&readiness, PATIENCE).await.is_err() {
                    tracing::warn!(checks = ?readiness.verdicts(), "still waiting");
                }
            }
            service::ready();
            // A ready line that nobody reads is not a reason to stop.
            let _ = output.result(&line, || format!("ready: {line}"));
        };
        waiting.token().run_until_cancelled(said).await;
    });
    let on_hangup = || {
        if let Some(reload) = reload {
            reload.begin();
        }
        mtls.identity.reload()?;
        listening.reload()
    };
    let stopped = process.until_stopped(on_hangup).await;
    process.end().await;
    stopped
}
