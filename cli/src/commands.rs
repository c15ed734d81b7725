//! One file for each command, and the runtimes on which they run.

pub mod account;
pub mod backup;
pub mod chat;
pub mod completions;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod docs;
pub mod drill;
pub mod keys;
pub mod load;
pub mod man;
pub mod restore;
pub mod role;
pub mod room;
pub mod send;
pub mod simulate;
pub mod tail;
pub mod top;
pub mod up;

use buslane_chassis::telemetry::{self, LogConfig};
use tokio::runtime::Builder;

use crate::failure::{Exit, Failure};

/// Set to a filter, it makes a command for people log to stderr.
const LOG_VARIABLE: &str = "BUSLANE_LOG";

/// Runs a command for people to its end: one thread is enough for one connection. Its log is silent unless somebody
/// asks for it.
pub fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    if std::env::var_os(LOG_VARIABLE).is_some() {
        telemetry::init(&LogConfig::default());
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| no_runtime(&e))?;
    runtime.block_on(command)
}

/// Runs a server to its end, on as many threads as there are cores.
pub fn serve<T>(server: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_multi_thread()
        .thread_name("buslane-main")
        .enable_all()
        .build()
        .map_err(|e| no_runtime(&e))?;
    runtime.block_on(server)
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Refused,
        "system",
        format!("cannot start threads: {error}; check the limits of this user"),
    )
}
