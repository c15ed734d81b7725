//! Tells live sessions what the node's posture asks of them.
//!
//! Why it exists: in an emergency the clients' patience is the cheapest resource there is, so they are asked for it at once.
//! Those that somebody looks at hear it first; all of them within about a second, because half a million answers at once would
//! be a storm of our own. Only what changes what a client is to do is pushed: everything else rides on answers to pings. It
//! must never end a session.

use std::sync::Arc;
use std::time::Duration;

use buslane_shared::wire::{self, AppState, Posture, event::Kind};
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::node::Node;
use crate::presence::Presence;

/// In this time all sessions are told.
const SPREAD: Duration = Duration::from_secs(1);

/// Parts of it.
const STEPS: u32 = 20;

/// Fewer sessions than this are told in one go.
const STEP_MIN: usize = 256;

/// Tells every change; never returns, its owner stops it.
pub(crate) async fn run(node: Arc<Node>) {
    let mut changes = node.load.stances.changes();
    let mut told = Posture::Normal;
    loop {
        let posture = *changes.borrow_and_update();
        if asks_the_same(told, posture) {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        told = posture;
        tell(&node, &changes, told).await;
    }
}

/// Whether clients have nothing to do differently.
fn asks_the_same(a: Posture, b: Posture) -> bool {
    (a == Posture::Emergency) == (b == Posture::Emergency)
}

/// Tells all sessions what this posture asks for. Ends early when they are to be told something else; a newer posture that asks for
/// the same must not leave half of them untold.
async fn tell(node: &Node, changes: &watch::Receiver<Posture>, told: Posture) {
    let (mut sessions, others): (Vec<_>, Vec<_>) =
        node.table.all().into_iter().partition(|presence| presence.app_state() == AppState::Foreground);
    sessions.extend(others);
    let [foreground, background] =
        [AppState::Foreground, AppState::Background].map(|state| event(node.load.advice(state)));
    let step = sessions.len().div_ceil(STEPS as usize).max(STEP_MIN);
    for part in sessions.chunks(step) {
        for presence in part {
            tell_one(
                presence,
                if presence.app_state() == AppState::Foreground { &foreground } else { &background },
            );
        }
        tokio::time::sleep(SPREAD / STEPS).await;
        if !asks_the_same(told, *changes.borrow()) {
            return;
        }
    }
}

fn tell_one(presence: &Presence, event: &Bytes) {
    // One whose mailbox is full is behind anyway, and hears it with its next ping.
    let _ = presence.push(event.clone());
}

fn event(advice: wire::Advice) -> Bytes {
    let changed = wire::PostureChanged {
        posture: advice.posture,
        ping_interval_ms: advice.ping_interval_ms,
        advice: Some(advice),
    };
    wire::Event { no: 0, kind: Some(Kind::Posture(changed)) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_emergency_asks_for_anything() {
        let all = [Posture::Normal, Posture::Guard, Posture::Emergency, Posture::Recovery];
        for a in all {
            for b in all {
                let differs = (a == Posture::Emergency) != (b == Posture::Emergency);
                assert_eq!(asks_the_same(a, b), !differs, "{a:?} {b:?}");
            }
        }
    }
}
