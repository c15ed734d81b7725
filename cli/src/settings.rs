//! The configuration files: of an `up`, and of each role apart.
//!
//! Every key has a default, so an empty file is a valid one; an unknown key is an error. The settings of a role are the
//! same table in both kinds of file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use buslane_chassis::admin::sign_in::Settings as Oidc;
use buslane_chassis::admin::tls::Settings as AdminTls;
use buslane_chassis::config::{self, ConfigError};
use buslane_chassis::telemetry::LogConfig;
use buslane_chassis::trace;
use buslane_store::FREE_BYTES_MIN;
use buslane_store::fjall_engine::Options;
use garde::Validate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::home;

/// Port of the admin surface, on loopback.
const ADMIN_PORT: u16 = 7480;

/// Name of the key file in its folder.
const KEY_FILE: &str = "kek.json";

/// Settings of an `up`: `config.toml` in its data folder.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Up {
    /// TCP address of the admin surface.
    #[garde(skip)]
    pub admin: SocketAddr,
    /// File with the keys that seal the store, where it is not beside the data folder.
    #[garde(skip)]
    pub keys: Option<PathBuf>,
    /// Names and addresses under which clients reach this machine, besides those it listens on.
    #[garde(length(max = 64))]
    pub hosts: Vec<String>,
    /// Open enrolment also where the gate can be reached from other machines.
    #[garde(skip)]
    pub open_beyond_loopback: bool,
    /// Logs.
    #[garde(dive)]
    pub log: LogConfig,
    /// Traces for a collector; none without the table.
    #[garde(custom(trace::is_built_in), dive)]
    pub traces: Option<trace::Config>,
    /// The store.
    #[garde(dive)]
    pub store: Store,
    /// The gateway.
    #[garde(dive)]
    pub gateway: buslane_gateway::Config,
    /// The session manager.
    #[garde(dive)]
    pub session_manager: buslane_session_manager::Config,
    /// The backend.
    #[garde(dive)]
    pub backend: buslane_backend::Config,
    /// The operator's seat: peers, probe, who is told.
    #[garde(dive)]
    pub console: buslane_operator::Config,
    /// TLS on the admin address.
    #[garde(dive)]
    pub admin_tls: Option<AdminTls>,
    /// Operators may sign in with a provider.
    #[garde(custom(is_built_in), dive)]
    pub oidc: Option<Oidc>,
}

impl Default for Up {
    fn default() -> Self {
        Self {
            admin: loopback(ADMIN_PORT),
            keys: None,
            hosts: Vec::new(),
            open_beyond_loopback: false,
            log: LogConfig::default(),
            traces: None,
            store: Store::default(),
            gateway: buslane_gateway::Config::default(),
            session_manager: buslane_session_manager::Config::default(),
            backend: buslane_backend::Config::default(),
            console: buslane_operator::Config::default(),
            admin_tls: None,
            oidc: None,
        }
    }
}

/// Settings of the storage engine.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// MiB of memory for blocks that were read.
    #[garde(range(min = 1, max = 1_048_576))]
    pub cache_mib: u64,
    /// MiB that must be free on the disk before anything more is taken.
    #[garde(range(min = 1, max = 1_048_576))]
    pub free_mib_min: u64,
}

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

impl Default for Store {
    fn default() -> Self {
        Self { cache_mib: Options::default().cache_bytes / MIB, free_mib_min: FREE_BYTES_MIN / MIB }
    }
}

impl From<&Store> for Options {
    fn from(store: &Store) -> Self {
        Self { cache_bytes: store.cache_mib * MIB, free_bytes_min: store.free_mib_min * MIB }
    }
}

/// Where a role's certificate is; paths are relative to the configuration file.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authority that made the certificates of all roles.
    #[garde(skip)]
    pub ca: PathBuf,
    /// This role's certificate.
    #[garde(skip)]
    pub certificate: PathBuf,
    /// Its key.
    #[garde(skip)]
    pub key: PathBuf,
}

/// What every role apart has.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// TCP address of the admin surface.
    #[garde(skip)]
    pub admin: SocketAddr,
    /// File with the admin token; made where there is none.
    #[garde(skip)]
    pub admin_token: PathBuf,
    /// Names under which browsers reach the admin surface, besides addresses and those of loopback.
    #[serde(default)]
    #[garde(length(max = 64))]
    pub hosts: Vec<String>,
}

/// Settings of a gateway apart.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Always `gateway`: a file is for one role.
    #[garde(custom(is_role("gateway")))]
    pub role: String,
    /// Name of this node in logs.
    #[garde(length(min = 1, max = 64))]
    pub node: String,
    /// Address of the backend, `host:port`.
    #[garde(length(min = 3))]
    pub backend: String,
    /// Its folder, for the operators' tokens, orders and incidents, and the audit.
    #[serde(default = "gateway_data")]
    #[garde(skip)]
    pub data: PathBuf,
    /// The process.
    #[garde(dive)]
    pub process: Process,
    /// Certificates.
    #[garde(dive)]
    pub tls: Tls,
    /// Logs.
    #[serde(default)]
    #[garde(dive)]
    pub log: LogConfig,
    /// Traces for a collector; none without the table.
    #[serde(default)]
    #[garde(custom(trace::is_built_in), dive)]
    pub traces: Option<trace::Config>,
    /// The gateway.
    #[serde(default)]
    #[garde(dive)]
    pub gateway: buslane_gateway::Config,
    /// The operator's seat: peers, probe, who is told.
    #[serde(default)]
    #[garde(dive)]
    pub console: buslane_operator::Config,
    /// TLS on the admin address.
    #[serde(default)]
    #[garde(dive)]
    pub admin_tls: Option<AdminTls>,
    /// Operators may sign in with a provider.
    #[serde(default)]
    #[garde(custom(is_built_in), dive)]
    pub oidc: Option<Oidc>,
}

/// Settings of a session manager apart.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct SessionManager {
    /// Always `session-manager`: a file is for one role.
    #[garde(custom(is_role("session-manager")))]
    pub role: String,
    /// Address of the backend, `host:port`.
    #[garde(length(min = 3))]
    pub backend: String,
    /// Its folder, for the operators' orders and the audit.
    #[serde(default = "session_manager_data")]
    #[garde(skip)]
    pub data: PathBuf,
    /// The process.
    #[garde(dive)]
    pub process: Process,
    /// Certificates.
    #[garde(dive)]
    pub tls: Tls,
    /// Logs.
    #[serde(default)]
    #[garde(dive)]
    pub log: LogConfig,
    /// Traces for a collector; none without the table.
    #[serde(default)]
    #[garde(custom(trace::is_built_in), dive)]
    pub traces: Option<trace::Config>,
    /// The session manager.
    #[serde(default)]
    #[garde(dive)]
    pub session_manager: buslane_session_manager::Config,
    /// The operator's seat: peers, probe, who is told.
    #[serde(default)]
    #[garde(dive)]
    pub console: buslane_operator::Config,
    /// TLS on the admin address.
    #[serde(default)]
    #[garde(dive)]
    pub admin_tls: Option<AdminTls>,
    /// Operators may sign in with a provider.
    #[serde(default)]
    #[garde(custom(is_built_in), dive)]
    pub oidc: Option<Oidc>,
}

fn gateway_data() -> PathBuf {
    "gateway.data".into()
}

fn session_manager_data() -> PathBuf {
    "session-manager.data".into()
}

/// Settings of a backend apart.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Always `backend`: a file is for one role.
    #[garde(custom(is_role("backend")))]
    pub role: String,
    /// TCP address on which it serves the other roles.
    #[garde(skip)]
    pub listen: SocketAddr,
    /// Its data folder.
    #[garde(skip)]
    pub data: PathBuf,
    /// File with the keys that seal the store. Not in the data folder.
    #[garde(skip)]
    pub keys: PathBuf,
    /// The process.
    #[garde(dive)]
    pub process: Process,
    /// Certificates.
    #[garde(dive)]
    pub tls: Tls,
    /// Logs.
    #[serde(default)]
    #[garde(dive)]
    pub log: LogConfig,
    /// Traces for a collector; none without the table.
    #[serde(default)]
    #[garde(custom(trace::is_built_in), dive)]
    pub traces: Option<trace::Config>,
    /// The store.
    #[serde(default)]
    #[garde(dive)]
    pub store: Store,
    /// The backend.
    #[serde(default)]
    #[garde(dive)]
    pub backend: buslane_backend::Config,
    /// The operator's seat: peers, probe, who is told.
    #[serde(default)]
    #[garde(dive)]
    pub console: buslane_operator::Config,
    /// TLS on the admin address.
    #[serde(default)]
    #[garde(dive)]
    pub admin_tls: Option<AdminTls>,
    /// Operators may sign in with a provider.
    #[serde(default)]
    #[garde(custom(is_built_in), dive)]
    pub oidc: Option<Oidc>,
}

fn is_role(expected: &'static str) -> impl Fn(&String, &()) -> garde::Result {
    move |role, ()| {
        if role == expected {
            return Ok(());
        }
        Err(garde::Error::new(format!(
            "this file is for `buslane {role}`; write role = \"{expected}\" in one for {expected}"
        )))
    }
}

/// Whether this binary can sign anybody in.
fn is_built_in(oidc: &Option<Oidc>, (): &()) -> garde::Result {
    if oidc.is_none() || cfg!(feature = "oidc") {
        return Ok(());
    }
    Err(garde::Error::new(
        "this binary was built without sign-in: remove [oidc], or build one with `cargo build --release -p buslane-cli --features oidc`",
    ))
}

/// An address on this machine only.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Reads a configuration file.
pub fn load<T>(path: &Path) -> Result<T, Failure>
where
    T: DeserializeOwned + Validate<Context: Default>,
{
    config::load(path).map_err(|e: ConfigError| Failure::usage(e.to_string()))
}

/// The key file of a data folder: beside it, unless it was configured elsewhere. Never in it.
pub fn key_file(data: &Path, configured: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(path) = configured else {
        return Ok(home::keys_beside(data).join(KEY_FILE));
    };
    let path = data.join(path);
    if path.starts_with(data) {
        return Err(Failure::usage(format!(
            "keys = \"{}\" lies in the data folder, and whoever copies that would have both: write a path outside of it",
            path.display()
        )));
    }
    Ok(path)
}

/// A path in a configuration file, which is relative to the file.
pub fn beside(config: &Path, path: &Path) -> PathBuf {
    config.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}
