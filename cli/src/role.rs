//! What the start of a role has in common, alone or in an `up`: its failures in words, the addresses it tells to clients,
//! and the moment at which it is ready.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buslane_backend::StartError;
use buslane_chassis::audit::Audit;
use buslane_chassis::orders::Book;
use buslane_chassis::readiness::{Readiness, Verdict};

use crate::failure::{Exit, Failure};
use crate::process::explain_endpoint;

/// How often is looked whether everything is ready.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until every check is ready; a failure that names what is not, at the limit.
pub async fn until_ready(readiness: &Readiness, limit: Duration) -> Result<(), Failure> {
    let ready = async {
        while !readiness.is_ready() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(limit, ready).await.is_ok() {
        return Ok(());
    }
    let missing: Vec<String> = readiness
        .verdicts()
        .into_iter()
        .filter_map(|(name, verdict)| match verdict {
            Verdict::Ready => None,
            Verdict::NotReady(why) => Some(format!("{name}: {why}")),
        })
        .collect();
    let message = format!("not ready after {} s: {}; see the log", limit.as_secs(), missing.join(", "));
    Err(Failure::new(Exit::Refused, "not_ready", message).retryable())
}

/// The operators' orders of a node, with the audit of what they did: both in its own folder, so that an order needs nothing
/// else to work.
pub fn open_book(folder: &Path) -> Result<Arc<Book>, Failure> {
    let opened = Audit::open(folder);
    let (audit, _) = opened.map_err(|e| Failure::new(Exit::Data, "data_unreadable", e.to_string()))?;
    Ok(Book::open(folder, audit))
}

/// A backend that did not start.
pub fn explain_start(error: &StartError) -> Failure {
    match error {
        StartError::Keys(_) => Failure::new(Exit::Keys, "wrong_key_file", error.to_string()),
        _ => Failure::new(Exit::Data, "data_unreadable", error.to_string()),
    }
}

/// A gateway that did not start.
pub fn explain_gateway(error: &buslane_gateway::BindError) -> Failure {
    match error {
        buslane_gateway::BindError::Endpoint(e) => explain_endpoint(e, "--gate"),
        other => Failure::usage(other.to_string()),
    }
}

/// A session manager that did not start.
pub fn explain_session_manager(error: &buslane_session_manager::BindError) -> Failure {
    match error {
        buslane_session_manager::BindError::Endpoint(e) => explain_endpoint(e, "--front and --wake"),
        other => Failure::usage(other.to_string()),
    }
}

/// Decides what a session manager tells clients about itself: under which name it is verified, and where it is reached.
pub fn advertise(
    config: &mut buslane_session_manager::Config,
    server_name: &str,
    host: Option<&String>,
) -> Result<(), Failure> {
    config.server_name = server_name.to_owned();
    if config.advertise.is_none() {
        config.advertise = host.cloned();
    }
    let anywhere = config.front.ip().is_unspecified() || config.wake.ip().is_unspecified();
    if anywhere && config.advertise.is_none() {
        return Err(Failure::usage(
            "front or wake listens on every address, and clients must be told one: write hosts = [\"NAME\"] (or advertise = \
             \"NAME\" under [session_manager]), or listen on the address that clients use",
        ));
    }
    Ok(())
}
