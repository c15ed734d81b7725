//! A session that began on the background port, and whose app a person has opened, moves to the foreground port.
//!
//! The new connection is made while the old one serves; only then does the session move, with its resume token, so nobody waits
//! for a handshake. It must never disturb a session that runs: where there is no way to the other port, it stays where it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::wire;
use tokio::sync::mpsc;

use crate::access::Access;
use crate::core::Core;
use crate::options::AppState;
use crate::way::Port;

/// After a move that failed the next one is tried not before this: the session is up, and passes come with its pings.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Waits until the app is looked at, makes a connection to the foreground port, and hands it to the one who serves the session.
/// Never ends by itself.
pub(crate) async fn promote(
    access: &mut Access,
    core: &Arc<Core>,
    port: Port,
    address: &wire::Address,
    reached: mpsc::Sender<quinn::Connection>,
) -> Infallible {
    while port == Port::Wake && core.passes.lock().is_known() {
        while *core.app_state.lock() != AppState::Foreground {
            core.promote.notified().await;
        }
        match access.reach_front(address).await {
            Ok(Some(connection)) => {
                let _ = reached.send(connection).await;
                break;
            }
            Ok(None) => tracing::debug!("no pass; the session stays on the background port"),
            Err(error) => tracing::debug!(%error, "the session stays on the background port"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    std::future::pending().await
}
