//! `up`: every role in one process, on a data folder that it makes itself.
//!
//! The roles are the same code as apart; between them there is no network. Everything is checked and opened before the
//! first port is taken, and every port is taken before anything is answered.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buslane_backend::Service;
use buslane_chassis::api::Backend;
use buslane_chassis::feed::Feed;
use buslane_chassis::orders::Desk;
use buslane_chassis::secret;
use buslane_chassis::tls::{Authority, Identity};
use buslane_chassis::trace::Whose;
use buslane_gateway::Gateway;
use buslane_gateway::config::Enrolment;
use buslane_session_manager::SessionManager;
use buslane_shared::wire::RoleKind;
use clap::Args;
use serde_json::json;

use crate::effective::{Effective, Flag, Shown};
use crate::failure::Failure;
use crate::folder::{self, Folder};
use crate::home;
use crate::operate;
use crate::output::{Output, print_line};
use crate::process::{Process, explain_tls};
use crate::reload::{Read, Reload};
use crate::role::{self, explain_gateway, explain_session_manager, explain_start};
use crate::run_file::RunFile;
use crate::sealed_store::SealedStore;
use crate::seat::{self, Listening, Surface};
use crate::service;
use crate::settings;

/// The first contents of the settings.
const CONFIG: &str = include_str!("up.config.toml");

/// The name under which the session manager is verified: it is in every certificate, wherever the machine is reached.
const SERVER_NAME: &str = "localhost";

/// How long the roles may take to find each other.
const READY_LIMIT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  buslane up                                  on loopback, data in the home folder
  buslane up --data ./data --json             one line when it is ready
  buslane up --gate 127.0.0.1:0 --front 127.0.0.1:0 --wake 127.0.0.1:0 --admin 127.0.0.1:0
  buslane up --gate 192.0.2.7:7400 --front 192.0.2.7:7401 --wake 192.0.2.7:7402

The first run makes certificates, keys and config.toml. The keys lie beside the data folder, in
DIR.keys: keep a copy of them elsewhere, without them nothing can be read.
Ctrl-C (or SIGTERM) ends it in order, a second one at once. SIGHUP reads certificates and the
settings of overload control again.";

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UpArgs {
    /// Data folder [default: `up` in the home folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// UDP address of the gateway [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR")]
    gate: Option<SocketAddr>,
    /// UDP address for sessions in the foreground [default: 127.0.0.1:7401]
    #[arg(long, value_name = "ADDR")]
    front: Option<SocketAddr>,
    /// UDP address for sessions in the background [default: 127.0.0.1:7402]
    #[arg(long, value_name = "ADDR")]
    wake: Option<SocketAddr>,
    /// TCP address of health, metrics and the operator's commands [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

impl UpArgs {
    /// The settings that stand on the command line.
    fn flags(&self) -> Vec<Flag> {
        let flags = [
            (self.gate.is_some(), ("gateway.listen", "--gate")),
            (self.front.is_some(), ("session_manager.front", "--front")),
            (self.wake.is_some(), ("session_manager.wake", "--wake")),
            (self.admin.is_some(), ("admin", "--admin")),
        ];
        flags.into_iter().filter_map(|(given, flag)| given.then_some(flag)).collect()
    }
}

/// Runs `up`.
pub fn run(args: UpArgs, output: Output) -> Result<(), Failure> {
    super::serve(up(args, output))
}

async fn up(args: UpArgs, output: Output) -> Result<(), Failure> {
    let data = args.data.clone().map_or_else(home::up_data, Ok)?;
    let folder = Folder::take(&data)?;
    let plan = Plan::make(&folder, &args)?;
    let whose = Whose { role: "up", node: &plan.settings.session_manager.node };
    let mut process =
        Process::begin(&plan.settings.log)?.traced(plan.settings.traces.as_ref(), whose, folder.path())?;
    let running = match Running::start(&folder, &plan, &process).await {
        Ok(running) => running,
        Err(failure) => {
            process.end().await;
            return Err(failure);
        }
    };
    // A banner that nobody reads (a pipe that was closed) is not a reason to stop.
    let _ = announce(&running, &plan, output);
    service::ready();
    let stopped = process.until_stopped(|| running.renew(&plan)).await;
    output.talk("stopping: clients are told, what was taken is finished (a second Ctrl-C stops at once)");
    RunFile::remove(folder.path());
    process.end().await;
    stopped
}

/// What is to be run, after all files are read and before anything is opened.
struct Plan {
    settings: settings::Up,
    key_file: PathBuf,
    tls: PathBuf,
    names: Vec<String>,
    closed_because_reachable: bool,
    effective: Effective,
}

impl Plan {
    fn make(folder: &Folder, args: &UpArgs) -> Result<Self, Failure> {
        let config = folder.config();
        match secret::create(&config, CONFIG.as_bytes()) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(folder::unreadable(&config, &e));
            }
            _ => {}
        }
        let mut settings: settings::Up = settings::load(&config)?;
        settings.gateway.listen = args.gate.unwrap_or(settings.gateway.listen);
        settings.session_manager.front = args.front.unwrap_or(settings.session_manager.front);
        settings.session_manager.wake = args.wake.unwrap_or(settings.session_manager.wake);
        settings.admin = args.admin.unwrap_or(settings.admin);
        let reachable = !settings.gateway.listen.ip().is_loopback();
        let closed_because_reachable =
            reachable && settings.gateway.enrolment == Enrolment::Open && !settings.open_beyond_loopback;
        if closed_because_reachable {
            settings.gateway.enrolment = Enrolment::Code;
        }
        let key_file = settings::key_file(folder.path(), settings.keys.as_deref())?;
        let names = names(&settings);
        role::advertise(&mut settings.session_manager, SERVER_NAME, settings.hosts.first())?;
        let effective = Effective::in_force(&config, &settings, &args.flags())?;
        settings.gateway.relative_to(folder.path());
        settings.console.relative_to(folder.path());
        if let Some(tls) = &mut settings.admin_tls {
            tls.relative_to(folder.path());
        }
        if let Some(oidc) = &mut settings.oidc {
            oidc.relative_to(folder.path());
        }
        Ok(Self { settings, key_file, tls: folder.tls(), names, closed_because_reachable, effective })
    }

    fn identity(&self) -> Result<Identity, Failure> {
        let authority = Authority::load_or_generate(&self.tls).map_err(|e| explain_tls(&e))?;
        authority.identity(&self.tls, "server", SERVER_NAME, &self.names).map_err(|e| explain_tls(&e))
    }
}

/// Every name and address that the certificate must have.
fn names(settings: &settings::Up) -> Vec<String> {
    let mut names = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(settings.hosts.iter().cloned());
    let listening = [settings.gateway.listen, settings.session_manager.front, settings.session_manager.wake];
    names.extend(
        listening.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
    );
    names
}

/// The roles, started.
struct Running {
    run: RunFile,
    identity: Identity,
    listening: Listening,
    reload: Arc<Reload>,
    // Kept to the end: the engine closes when the last handle is gone, after everything that might use it.
    _service: Arc<Service>,
    _store: SealedStore,
}

impl Running {
    async fn start(folder: &Folder, plan: &Plan, process: &Process) -> Result<Self, Failure> {
        let settings = &plan.settings;
        let identity = plan.identity()?;
        let book = role::open_book(folder.path())?;
        let store = SealedStore::open(&folder.store(), &plan.key_file, (&settings.store).into()).await?;
        let engine = store.engine.clone();
        let service = Service::start(settings.backend.clone(), engine, store.sealer.clone(), &process.back)
            .await
            .map_err(|e| explain_start(&e))?;
        let backend: Backend = service.clone();

        // They end before the backend, which would otherwise seem to have gone away.
        let gate_feed = Feed::follow(backend.clone(), RoleKind::Gateway, "up", &process.front);
        let session_feed = Feed::follow(backend.clone(), RoleKind::SessionManager, "up", &process.front);
        let gateway = Gateway::bind(
            settings.gateway.clone(),
            &identity,
            backend.clone(),
            gate_feed.clone(),
            &process.front,
        )
        .map_err(|e| explain_gateway(&e))?;
        let manager = SessionManager::bind(
            settings.session_manager.clone(),
            &identity,
            backend,
            session_feed.clone(),
            &process.front,
        )
        .map_err(|e| explain_session_manager(&e))?
        .obeying(book.watch());
        let desk = Desk { book, overseer: Some(manager.overseer()), feed: session_feed };
        desk.book.run(&desk.feed, desk.overseer.clone(), &process.front);
        let shown = Shown::new(plan.effective.clone());
        let code = (settings.gateway.enrolment != Enrolment::Open).then(|| seat::codes(&service));
        let ca = plan.tls.join(folder::CA);
        let surface = Surface {
            node: settings.session_manager.node.clone(),
            role: "up",
            folder: folder.path().to_owned(),
            desk,
            refusals: vec![gateway.refusals()],
            probe_target: seat::target(gateway.local_addr(), &ca, code),
            identity: identity.clone(),
            console: settings.console.clone(),
            tls: settings.admin_tls.clone(),
            oidc: settings.oidc.clone(),
            admin: settings.admin,
            token: folder.path().join(folder::ADMIN_TOKEN),
            hosts: settings.hosts.clone(),
            shown: Arc::clone(&shown),
            for_admins: Some(operate::routes(store.clone(), service.clone(), &process.back)),
        };
        let listening = surface.listen(process).await?;
        let read: Read = |path| settings::load::<settings::Up>(path).map(|up| up.session_manager);
        let reload =
            Reload::new(&folder.config(), read, manager.tuner(), &listening.seat, &shown, &process.back);
        let run = RunFile {
            gate: gateway.local_addr(),
            front: manager.front_addr(),
            wake: manager.wake_addr(),
            admin: listening.admin,
            admin_tls: listening.is_secure(),
            ca,
            data: folder.path().to_owned(),
            pid: std::process::id(),
        };

        let trouble = Arc::clone(&service);
        process.follow_store(move || trouble.trouble());
        process.follow_feed(&gate_feed);
        process.front.tracker().spawn(gateway.run());
        process.front.tracker().spawn(manager.run());
        role::until_ready(&process.readiness, READY_LIMIT).await?;
        run.write().map_err(|e| folder::unreadable(folder.path(), &e))?;
        Ok(Self { run, identity, listening, reload, _service: service, _store: store })
    }

    /// Makes the certificate anew where it is nearly over, and uses what is in the files.
    fn renew(&self, plan: &Plan) -> Result<(), buslane_chassis::tls::TlsError> {
        self.reload.begin();
        let authority = Authority::load(&plan.tls)?;
        authority.identity(&plan.tls, "server", SERVER_NAME, &plan.names)?;
        self.identity.reload()?;
        self.listening.reload()
    }
}

fn announce(running: &Running, plan: &Plan, output: Output) -> Result<(), Failure> {
    let run = &running.run;
    if output.json {
        let line = json!({
            "ready": true, "gate": run.gate, "front": run.front, "wake": run.wake, "admin": run.admin,
            "ca": run.ca, "data": run.data, "console": running.listening.url(),
        });
        return print_line(&line.to_string());
    }
    print_line(&format!(
        "buslane {} is up\n\n  console  {}   (token: {})\n  gate     {}\n  front    {}\n  wake     {}\n  admin    {}readyz  \
         {}metrics\n  ca       {}\n  data     {}\n  keys     {}  (keep a copy elsewhere)\n",
        env!("CARGO_PKG_VERSION"),
        running.listening.url(),
        run.data.join(folder::ADMIN_TOKEN).display(),
        run.gate,
        run.front,
        run.wake,
        running.listening.url(),
        running.listening.url(),
        run.ca.display(),
        run.data.display(),
        plan.key_file.display(),
    ))?;
    let here = home::up_data().is_ok_and(|data| data == run.data);
    let how = if here { String::new() } else { format!(" --gate {} --ca {}", run.gate, run.ca.display()) };
    if plan.settings.gateway.enrolment == Enrolment::Open {
        print_line(&format!(
            "Two more terminals make a conversation:\n  buslane chat --as alice --with bob{how}\n  \
             buslane chat --as bob --with alice{how}\n\nCtrl-C stops it.\n"
        ))?;
        if !run.gate.ip().is_loopback() {
            output
                .talk("WARNING: anybody who reaches the gate may take a name (open_beyond_loopback = true)");
        }
    } else {
        let data = if here { String::new() } else { format!(" --data {}", run.data.display()) };
        let why = if plan.closed_because_reachable {
            ", because the gate can be reached from other machines"
        } else {
            ""
        };
        print_line(&format!(
            "A device needs a code{why}:\n  buslane ctl enrol-code alice{data}\n  \
             buslane account enrol --as alice --code CODE{how}\n\nCtrl-C stops it.\n"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use std::path::Path;

    fn plan(dir: &Path, args: &UpArgs) -> Result<Plan, Failure> {
        Plan::make(&Folder::take(dir).unwrap(), args)
    }

    fn args(gate: &str) -> UpArgs {
        UpArgs { data: None, gate: Some(gate.parse().unwrap()), front: None, wake: None, admin: None }
    }

    #[test]
    fn the_first_settings_are_valid_and_open_on_loopback_only() {
        let dir = tempfile::tempdir().unwrap();
        let local = plan(dir.path(), &args("127.0.0.1:0")).unwrap();
        assert_eq!(local.settings.gateway.enrolment, Enrolment::Open);
        assert!(!local.closed_because_reachable);
        let reachable = plan(dir.path(), &args("192.0.2.7:7400")).unwrap();
        assert_eq!(reachable.settings.gateway.enrolment, Enrolment::Code);
        assert!(reachable.closed_because_reachable);
        assert!(reachable.names.iter().any(|n| n == "192.0.2.7"));
    }

    #[test]
    fn enrolment_is_open_to_the_network_only_where_the_operator_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("open_beyond_loopback = true\n{CONFIG}");
        std::fs::write(dir.path().join(folder::CONFIG), config).unwrap();
        assert_eq!(
            plan(dir.path(), &args("192.0.2.7:7400")).unwrap().settings.gateway.enrolment,
            Enrolment::Open
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(folder::CONFIG), "\n[gateway]\nenrolmnt = \"open\"\n").unwrap();
        let failure = plan(dir.path(), &args("127.0.0.1:0")).err().unwrap();
        assert_eq!(failure.exit, Some(Exit::Usage));
        assert!(failure.message.contains("config.toml:3"), "{}", failure.message);
        assert!(failure.message.contains("enrolment"), "{}", failure.message);
    }

    #[test]
    fn keys_never_lie_in_the_data_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(folder::CONFIG), "keys = \"kek.json\"\n").unwrap();
        assert_eq!(plan(dir.path(), &args("127.0.0.1:0")).err().unwrap().exit, Some(Exit::Usage));
        std::fs::write(dir.path().join(folder::CONFIG), "").unwrap();
        let key_file = plan(dir.path(), &args("127.0.0.1:0")).unwrap().key_file;
        assert!(!key_file.starts_with(dir.path()), "{}", key_file.display());
    }
}
