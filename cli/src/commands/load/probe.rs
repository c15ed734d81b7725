//! Whether a system that is to be put under load is there at all, before phones are enrolled for minutes.

use std::time::Duration;

use buslane_client::raw::Protocol;
use buslane_loadtest::storm::net::{Net, Turned};
use buslane_loadtest::storm::stage::Target;

use crate::failure::{Exit, Failure};

/// One handshake takes milliseconds; a server that is busy already still answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Fails where nobody answers, or somebody who is not the one that is trusted. To be put off is an answer.
pub async fn gateway(target: &Target) -> Result<(), Failure> {
    let unreachable = |why: String| {
        let message = format!("{why}: is the address right, and does --ca belong to that system?");
        Failure::new(Exit::Unreachable, "unreachable", message)
    };
    let net = Net::new(target, 1).map_err(|e| unreachable(format!("{e:#}")))?;
    let gate = &target.gate;
    let host = gate.rsplit_once(':').map_or(gate.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match net.connect(0, Protocol::Gate, gate, host, None, ANSWER_WITHIN).await {
        Ok(connection) => {
            connection.close(0u32.into(), b"");
            Ok(())
        }
        Err(Turned::PutOff { .. } | Turned::Refused { .. }) => Ok(()),
        Err(Turned::Silence) => {
            Err(unreachable(format!("no answer from {gate} within {} s", ANSWER_WITHIN.as_secs())))
        }
        Err(Turned::Failed(why)) => Err(unreachable(format!("no connection to {gate} ({why})"))),
    }
}
