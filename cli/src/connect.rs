//! How a command for people becomes a client: where the server is, whom to trust, who one is, and where state is kept.
//!
//! It exists so that every command finds a local `up` by itself and explains every way in which that fails. A name that is
//! used for the first time is enrolled on the way, where the server lets anybody in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buslane_client::{CaSource, Client, EnrolRight, Error, FirstLogin, Options, State, Storage};
use buslane_shared::backoff::Policy;
use buslane_shared::id::UserId;
use buslane_shared::refusal::Code;
use clap::Args;

use crate::failure::{Exit, Failure};
use crate::folder;
use crate::home;
use crate::output::Output;
use crate::run_file::RunFile;

/// Where a local `up` listens when its folder does not say so.
const GATE_DEFAULT: &str = "127.0.0.1:7400";

/// How long a command that has nothing else to do waits for a session.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Waits between tries, for somebody who sits in front of it: short ones.
const RECONNECT: Policy = Policy {
    base: Duration::from_millis(250),
    cap: Duration::from_secs(5),
    quick: Duration::from_millis(100),
    settle: Duration::from_secs(5),
};

/// Which server, and as whom.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Who you are; a new name is enrolled at first use
    #[arg(id = "as", long = "as", value_name = "NAME", env = "BUSLANE_AS")]
    pub user: UserId,
    /// Gateway, as HOST:PORT [default: the local `up`]
    #[arg(long, value_name = "ADDR", env = "BUSLANE_GATE")]
    pub gate: Option<String>,
    /// Certificate authority of the server [default: that of the local `up`]
    #[arg(long, value_name = "PATH", env = "BUSLANE_CA")]
    pub ca: Option<PathBuf>,
    /// Where this device keeps its key, outbox and cursors [default: a folder of the name]
    #[arg(long, value_name = "DIR", env = "BUSLANE_STATE")]
    pub state: Option<PathBuf>,
}

/// A client and what is needed to explain its failures.
pub struct Connection {
    /// The SDK's client.
    pub client: Client,
    whereabouts: Whereabouts,
}

/// Where things are, for messages.
#[derive(Debug, Clone)]
struct Whereabouts {
    user: UserId,
    gate: String,
    ca: PathBuf,
    state: PathBuf,
}

impl ClientArgs {
    /// For somebody who converses: outbox and cursors are kept, and what was missed is fetched.
    pub fn conversing(&self) -> Result<Options, Failure> {
        let at = self.whereabouts()?;
        let mut options = Options::new(at.user, at.gate, CaSource::File(at.ca), Storage::Directory(at.state));
        options.reconnect = RECONNECT;
        options.device_name = device_name();
        Ok(options)
    }

    /// For a command that asks and ends: only the device itself is kept, and nothing is fetched that was not asked for.
    pub fn asking(&self) -> Result<Options, Failure> {
        let options = self.conversing()?;
        Ok(Options {
            storage: Storage::IdentityOnly(self.state()?),
            first_login: FirstLogin::FromNow,
            ..options
        })
    }

    /// Starts a client; it connects on its own from now on.
    pub async fn start(&self, options: Options) -> Result<Connection, Failure> {
        let whereabouts = self.whereabouts()?;
        // The SDK would say so as well, but not what to do about it here.
        if let CaSource::File(ca) = &options.ca
            && !ca.exists()
        {
            return Err(no_ca(ca));
        }
        match Client::open(options).await {
            Ok(client) => Ok(Connection { client, whereabouts }),
            Err(e) => Err(whereabouts.explain(&e)),
        }
    }

    /// Starts a client and waits until it has a session.
    pub async fn connect(&self) -> Result<Connection, Failure> {
        let connection = self.start(self.asking()?).await?;
        connection.up(CONNECT_LIMIT).await?;
        Ok(connection)
    }

    /// As [`ClientArgs::connect`], for a device that a code brings in.
    pub async fn connect_with_code(&self, code: String) -> Result<Connection, Failure> {
        let options = Options { enrol: EnrolRight::Code(code), ..self.asking()? };
        let connection = self.start(options).await?;
        connection.up(CONNECT_LIMIT).await?;
        Ok(connection)
    }

    /// The folder of this device.
    pub fn state(&self) -> Result<PathBuf, Failure> {
        self.state.clone().map_or_else(|| home::client_state(&self.user), Ok)
    }

    fn whereabouts(&self) -> Result<Whereabouts, Failure> {
        let (gate, ca) = match (&self.gate, &self.ca) {
            (Some(gate), Some(ca)) => (gate.clone(), ca.clone()),
            (gate, ca) => {
                let data = home::up_data()?;
                let local = RunFile::read(&data);
                let local_gate = local.map(|run| run.gate.to_string());
                (
                    gate.clone().or(local_gate).unwrap_or_else(|| GATE_DEFAULT.to_owned()),
                    ca.clone().unwrap_or_else(|| data.join(folder::TLS).join(folder::CA)),
                )
            }
        };
        Ok(Whereabouts { user: self.user.clone(), gate, ca, state: self.state()? })
    }
}

impl Connection {
    /// Waits until there is a session, or explains why there is none.
    pub async fn up(&self, limit: Duration) -> Result<(), Failure> {
        self.client.connected(limit).await.map_err(|e| self.explain(&e))
    }

    /// An error of the SDK as a failure of the command.
    pub fn explain(&self, error: &Error) -> Failure {
        self.whereabouts.explain(error)
    }

    /// Says goodbye, so that the server need not wait for this device.
    pub async fn close(self) {
        // A server that does not listen any more finds out by itself.
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.client.close()).await;
    }
}

impl Whereabouts {
    fn explain(&self, error: &Error) -> Failure {
        let refused = |message: String| Failure {
            retryable: error.retryable(),
            ..Failure::new(Exit::Refused, error.name(), message)
        };
        let Self { user, state, .. } = self;
        match error {
            Error::Refused(r) => match r.code {
                Code::NameTaken => refused(format!(
                    "the name {user} belongs to somebody else's device: choose another name, or name that device's folder \
                     with --state, or add this device: `buslane account code --as {user}` on the other device, then \
                     `buslane account enrol --as {user} --code CODE` here"
                )),
                Code::EnrolmentClosed => refused(format!(
                    "{user} is not enrolled, and this server enrols by code only: ask its operator for one \
                     (`buslane ctl enrol-code {user}`), then `buslane account enrol --as {user} --code CODE`"
                )),
                Code::BadCredential | Code::CredentialExpired => Failure {
                    exit: Some(Exit::State),
                    ..refused(format!(
                        "{}; the device in {} was enrolled at another server, or too long ago: move that folder away, or \
                         name another one with --state, and enrol anew",
                        r.detail,
                        state.display()
                    ))
                },
                code => Failure {
                    code: error.name().to_owned(),
                    retryable: r.retryable,
                    ..Failure::from(buslane_shared::refusal::Refusal::new(code, r.detail.clone()))
                },
            },
            Error::Unreachable { detail } if detail.contains("certificate") => Failure::new(
                Exit::Unreachable,
                "untrusted_server",
                format!(
                    "the server at {} shows a certificate that {} does not vouch for ({detail}): pass its own CA with --ca",
                    self.gate,
                    self.ca.display()
                ),
            ),
            Error::Unreachable { detail } => self.no_answer(detail),
            Error::Timeout { .. } => self.no_answer(&error.to_string()),
            Error::Authority { detail } => Failure::new(Exit::Unreachable, error.name(), detail.clone()),
            Error::StateInUse { .. }
            | Error::StateDamaged { .. }
            | Error::StateUnusable { .. }
            | Error::StateOfAnother { .. } => Failure {
                retryable: error.retryable(),
                ..Failure::new(Exit::State, error.name(), error.to_string())
            },
            Error::Invalid { .. } => Failure::new(Exit::Usage, error.name(), error.to_string()),
            other => refused(other.to_string()),
        }
    }

    fn no_answer(&self, detail: &str) -> Failure {
        let message = format!(
            "no session with the server at {} ({detail}): is it running? `buslane up` starts one on this machine",
            self.gate
        );
        Failure::new(Exit::Unreachable, "unreachable", message).retryable()
    }
}

fn no_ca(path: &Path) -> Failure {
    Failure::new(
        Exit::Unreachable,
        "no_ca",
        format!(
            "there is no certificate authority at {}: start `buslane up` on this machine first, or pass the server's CA \
             file with --ca (its `up` prints the path)",
            path.display()
        ),
    )
}

/// What others see in the list of devices.
fn device_name() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| !c.is_control()).take(40).collect();
    if host.is_empty() { "buslane".to_owned() } else { format!("buslane on {host}") }
}

/// What a person sees of a state.
pub fn state_sentence(state: &State) -> String {
    match state {
        State::Connecting { cause: None, .. } => "connecting ...".to_owned(),
        State::Connecting { attempt, cause: Some(cause), .. } => {
            format!("connecting, try {attempt} ({cause})")
        }
        State::Connected { resumed: true, .. } => "connected again, nothing was lost".to_owned(),
        State::Connected { .. } => "connected".to_owned(),
        State::Reconnecting { attempt, cause, .. } => {
            format!("connection lost, trying again ({attempt}): {cause}; what you write is kept")
        }
        State::Suspended { resyncing: Some(_), .. } => {
            "connected again, fetching what was missed ...".to_owned()
        }
        State::Suspended { cause: Some(cause), .. } => {
            format!("offline: {cause}; what you write is kept and what you miss is fetched later")
        }
        State::Suspended { .. } => {
            "offline; what you write is kept and what you miss is fetched later".to_owned()
        }
        State::Closed { reason } => format!("closed: {}", reason.error()),
        _ => "starting".to_owned(),
    }
}

/// The stable name of a state.
pub fn state_name(state: &State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Connecting { .. } => "connecting",
        State::Connected { .. } => "connected",
        State::Reconnecting { .. } => "reconnecting",
        State::Suspended { .. } => "suspended",
        State::Closed { .. } => "closed",
        _ => "unknown",
    }
}

/// Runs `command` with a connected client and says goodbye afterwards, whatever came of it.
pub async fn with_client<T>(
    args: &ClientArgs,
    command: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connection = args.connect().await?;
    let outcome = command(&connection).await;
    connection.close().await;
    outcome
}

/// Warns of what a person should know about this device before the command runs.
pub fn announce_first_use(args: &ClientArgs, output: &Output) -> Result<(), Failure> {
    let state = args.state()?;
    if !state.exists() {
        output.talk(&format!(
            "{} is new on this machine: its device is kept in {}",
            args.user,
            state.display()
        ));
    }
    Ok(())
}
