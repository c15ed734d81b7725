//! The link of a session manager: its announcements come up, deliveries go down. One task for each, until either side
//! lets go.

use std::sync::Arc;

use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use buslane_shared::wire::from_manager::Kind;
use buslane_shared::wire::to_manager;
use tokio::sync::mpsc;

use crate::core::Core;
use crate::registry::{self, Link};

/// Attaches a session manager.
pub(crate) fn attach(
    core: &Arc<Core>,
    up: mpsc::Receiver<wire::FromManager>,
) -> mpsc::Receiver<wire::ToManager> {
    let (down, rx) = registry::queue();
    core.tasks.spawn(run(core.clone(), up, down));
    rx
}

async fn run(
    core: Arc<Core>,
    mut up: mpsc::Receiver<wire::FromManager>,
    down: mpsc::Sender<wire::ToManager>,
) {
    let first = tokio::select! {
        first = up.recv() => first.and_then(|frame| frame.kind),
        () = down.closed() => None,
        () = core.stop.cancelled() => None,
    };
    let Some(Kind::Announce(node)) = first else {
        tracing::warn!("a link ended that did not begin with an announcement");
        return;
    };
    let name = node.name.clone();
    let gone = down.clone();
    let Some(link) = core.registry.attach(node, down) else {
        tracing::warn!(node = name, "too many links; this one ends");
        return;
    };
    tracing::info!(node = name, "session manager linked");
    core.feed.set_nodes(|| core.registry.nodes());
    loop {
        tokio::select! {
            frame = up.recv() => match frame {
                Some(frame) => {
                    if let Some(no) = take(&core, &link, frame) {
                        // Not droppable like a delivery: requests of new sessions wait for it.
                        let applied = wire::ToManager { kind: Some(to_manager::Kind::Applied(no)) };
                        tokio::select! {
                            _ = gone.send(applied) => {}
                            () = link.over.cancelled() => break,
                            () = core.stop.cancelled() => break,
                        }
                    }
                }
                None => break,
            },
            () = gone.closed() => break,
            () = link.over.cancelled() => break,
            () = core.stop.cancelled() => break,
        }
    }
    core.registry.detach(&link);
    if !core.registry.nodes().iter().any(|node| node.name == name) {
        core.loads.forget(&name);
    }
    core.feed.set_nodes(|| core.registry.nodes());
    tracing::info!(node = name, "session manager gone");
}

/// Takes over what a session manager says; returns the number of the changes whose taking over it wants to know.
fn take(core: &Core, link: &Arc<Link>, frame: wire::FromManager) -> Option<u64> {
    match frame.kind {
        Some(Kind::Announce(node)) => {
            core.registry.announce(link, node);
            core.feed.set_nodes(|| core.registry.nodes());
            None
        }
        Some(Kind::Sessions(changes)) => {
            if changes.reset {
                core.registry.forget_sessions(link);
            }
            for session in &changes.closed {
                if let Ok((user, device, session)) = read(session) {
                    core.registry.closed(link, &user, device, session);
                }
            }
            for session in &changes.opened {
                match read(session) {
                    Ok((user, device, session)) => core.registry.opened(link, user, device, session),
                    Err(refusal) => tracing::warn!(%refusal, "a session manager announced nonsense"),
                }
            }
            Some(changes.no).filter(|no| *no > 0)
        }
        Some(Kind::Load(load)) => {
            core.loads.on_load(&link.name(), load);
            None
        }
        Some(Kind::Orders(orders)) => {
            core.on_orders(orders);
            None
        }
        // A frame of a later release.
        None => None,
    }
}

fn read(session: &wire::SessionRef) -> Result<(UserId, DeviceId, SessionId), Refusal> {
    let malformed = |e: buslane_shared::id::IdError| Refusal::new(Code::Malformed, e.to_string());
    Ok((
        session.user.parse().map_err(malformed)?,
        DeviceId::try_from(&session.device).map_err(malformed)?,
        SessionId::try_from(&session.session).map_err(malformed)?,
    ))
}
