//! Tells live sessions what the node's posture asks of them.
//!
//! Why it exists: in an emergency the clients' patience is the cheapest resource there is. Those that somebody looks at are told at
//! once, all of them within about a second. The others hear it when they show next that they live: to tell one costs
//! about what its patience saves in a minute, and to tell half a million in the moment in which all of them come back would be a storm of our own. It must never
//! end a session.

use std::sync::Arc;
use std::time::Duration;

use buslane_shared::wire::{self, AppState, Posture, event::Kind};
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::load::Load;
use crate::node::Node;
use crate::presence::Presence;

/// In this time all whom somebody looks at are told.
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

/// Tells the sessions that somebody looks at what this posture asks for. Ends early when they are to be told something else; a newer
/// posture that asks for the same must not leave half of them untold.
async fn tell(node: &Node, changes: &watch::Receiver<Posture>, told: Posture) {
    let mut sessions = node.table.all();
    sessions.retain(|presence| presence.app_state() == AppState::Foreground);
    let event = event(node.load.advice(AppState::Foreground));
    let step = sessions.len().div_ceil(STEPS as usize).max(STEP_MIN);
    for part in sessions.chunks(step) {
        for presence in part {
            if presence.on_told(told == Posture::Emergency) {
                // One whose mailbox is full is behind anyway, and hears what holds in the answer to its next ping.
                let _ = presence.push(event.clone());
            }
        }
        tokio::time::sleep(SPREAD / STEPS).await;
        if !asks_the_same(told, *changes.borrow()) {
            return;
        }
    }
}

/// A session says something by itself: tells it what holds, if that is news to it.
pub(crate) fn remind(load: &Load, presence: &Presence) {
    let advice = load.advice(presence.app_state());
    if presence.on_told(advice.posture() == Posture::Emergency) {
        let _ = presence.push(event(advice));
    }
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
