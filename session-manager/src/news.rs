//! Tells live sessions what the node's posture asks of them.
//!
//! Why it exists: in an emergency the clients' patience is the cheapest resource there is. Those that somebody looks at are told at
//! once, all of them within about a second. The others hear it when they say something next, and they ping at least: to tell one by
//! itself costs about what its patience saves in a minute, and to tell half a million in the moment in which all of them come back
//! would be a storm of our own. It must never end a session, and never leave one with an old word.

use std::sync::Arc;
use std::time::Duration;

use buslane_shared::wire::{self, AppState, Posture, event::Kind};
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::load::Load;
use crate::node::Node;
use crate::presence::{Presence, Told};

/// In this time all whom somebody looks at are told.
const SPREAD: Duration = Duration::from_secs(1);

/// Parts of it.
const STEPS: u32 = 20;

/// Fewer sessions than this are told in one go.
const STEP_MIN: usize = 256;

/// Tells every change; never returns, its owner stops it.
pub(crate) async fn run(node: Arc<Node>) {
    let mut changes = node.load.stances.changes();
    let (mut told, mut in_between) = (Posture::Normal, false);
    loop {
        let posture = *changes.borrow_and_update();
        if asks_the_same(told, posture) && !in_between {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        told = posture;
        tell(&node, &changes, told).await;
        // Who said something in between may know of what is over again.
        in_between = changes.has_changed().unwrap_or(false);
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
    // Who has no connection is told with the welcome of the next one.
    sessions.retain(|presence| presence.app_state() == AppState::Foreground && presence.is_connected());
    let advice = node.load.advice(AppState::Foreground);
    let word = Told::of(advice.posture());
    let event = event(advice);
    let step = sessions.len().div_ceil(STEPS as usize).max(STEP_MIN);
    for part in sessions.chunks(step) {
        for presence in part {
            presence.tell(word, event.clone(), || Told::of(node.load.posture()) == word);
        }
        tokio::time::sleep(SPREAD / STEPS).await;
        if !asks_the_same(told, *changes.borrow()) {
            return;
        }
    }
}

/// A session says something by itself: tells it what holds, if that is news to it.
pub(crate) fn remind(load: &Load, presence: &Presence) {
    if presence.was_told(Told::of(load.posture())) {
        return;
    }
    let advice = load.advice(presence.app_state());
    let word = Told::of(advice.posture());
    presence.tell(word, event(advice), || Told::of(load.posture()) == word);
}

/// A session says only that it has taken over its events: tells it what holds once those that ping have heard it. Many are told nothing
/// but what others write, and all of those at once would be a storm of our own too.
pub(crate) fn remind_late(load: &Load, presence: &Presence) {
    if load.has_held_for_a_ping() {
        remind(load, presence);
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
