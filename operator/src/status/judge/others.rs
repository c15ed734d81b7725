//! Store, backend and gateways: looked at in this process where they are in it, and otherwise by what they are heard of.

use super::silence;
use crate::status::facts::Facts;
use crate::status::graph::{Fault, Judged, Need, Weight};
use crate::view::{NodeView, State};

/// The check of a process that holds the store.
const STORE_CHECK: &str = "store";

/// The check of a process that needs the backend.
const BACKEND_CHECK: &str = "backend";

fn holds_backend(facts: &Facts) -> bool {
    matches!(facts.role, "up" | "backend")
}

/// The process of this role that was heard of last.
fn newest<'a>(facts: &'a Facts, role: &str) -> Option<&'a NodeView> {
    let others = facts.nodes.iter().filter(|node| !node.here && node.role == role);
    others.min_by_key(|node| node.age_ms.unwrap_or(u64::MAX))
}

/// How silent a process is; whoever was never heard of is as silent as its state says.
pub fn silence_of(node: &NodeView) -> Option<(State, String)> {
    match node.age_ms {
        Some(age_ms) => silence(age_ms),
        None if node.state == State::Down => Some((State::Down, "it never answered".to_owned())),
        None => Some((State::Unknown, "it was not heard of yet".to_owned())),
    }
}

/// The store.
pub fn store(facts: &Facts) -> Judged {
    let store = Judged::up("store", "Store");
    if holds_backend(facts) {
        return match facts.checks.get(STORE_CHECK) {
            None => store.being(State::Unknown, "it was not looked at yet"),
            Some(None) => store,
            Some(Some(why)) => store.failing(State::Down, Fault::Own, why.clone()),
        };
    }
    let Some(backend) = newest(facts, "backend") else {
        let why = "it is seen by the backend, which is not among the peers of [console]";
        return store.being(State::Unknown, why).weighing(Weight::Nothing);
    };
    let store = Judged { age_ms: backend.age_ms, ..store };
    if let Some((state, why)) = silence_of(backend) {
        // What cannot be seen is not to blame.
        let why = format!("it is seen by the backend only: {why}");
        let store = store.failing(state, Fault::Perhaps, why).weighing(Weight::Nothing);
        return Judged { seen_through: Some("backend".to_owned()), ..store };
    }
    match backend.lacks.get(STORE_CHECK) {
        None => store,
        Some(why) => store.failing(State::Down, Fault::Own, why.clone()),
    }
}

/// The backend.
pub fn backend(facts: &Facts) -> Judged {
    let backend = Judged::up("backend", "Backend").needing(Need::One("store".to_owned()));
    if holds_backend(facts) {
        return Judged { node: Some(facts.here.clone()), ..backend };
    }
    let peer = newest(facts, "backend");
    let backend = Judged {
        node: peer.map(|peer| peer.node.clone()),
        age_ms: peer.and_then(|peer| peer.age_ms),
        ..backend
    };
    let silent = peer.and_then(silence_of);
    match (facts.feed_connected, silent) {
        (true, None) => backend,
        (true, Some((_, why))) => {
            backend.being(State::Warning, format!("it serves, but at its admin address {why}"))
        }
        (false, None) if peer.is_some() => {
            let why = "its process runs, but its feed is not connected to this one";
            backend.failing(State::Down, Fault::Own, why)
        }
        (false, _) => backend.failing(State::Down, Fault::Own, "its feed has ended: it does not answer"),
    }
}

/// The gateways.
pub fn gateways(facts: &Facts) -> Vec<Judged> {
    let needs_backend = |gateway: Judged| gateway.needing(Need::One("backend".to_owned()));
    let mut all = Vec::new();
    if matches!(facts.role, "up" | "gateway") {
        all.push(needs_backend(own_gateway(facts)));
    }
    let others = facts.nodes.iter().filter(|node| !node.here && node.role == "gateway");
    all.extend(others.map(|node| needs_backend(gateway(node))));
    if all.is_empty() {
        all.push(needs_backend(unseen_gateways(facts)));
    }
    if all.len() > 1 {
        all.iter_mut().for_each(|gateway| gateway.weight = Weight::OneOfMany);
    }
    all
}

fn own_gateway(facts: &Facts) -> Judged {
    let named = match facts.role {
        // The only one.
        "up" => Judged::up("gateway", "Gateway"),
        _ => Judged::up(format!("gateway:{}", facts.here), format!("Gateway {}", facts.here)),
    };
    let gateway =
        Judged { node: Some(facts.here.clone()), ..named }.needing(Need::One("certificates".to_owned()));
    match facts.checks.get(BACKEND_CHECK) {
        // It goes on with what it knows: that is a warning, and the fault of somebody else.
        Some(Some(why)) => gateway.being(State::Warning, why.clone()),
        _ => gateway,
    }
}

fn gateway(node: &NodeView) -> Judged {
    let gateway = Judged {
        node: Some(node.node.clone()),
        age_ms: node.age_ms,
        ..Judged::up(format!("gateway:{}", node.node), format!("Gateway {}", node.node))
    };
    if let Some((state, why)) = silence_of(node) {
        return gateway.failing(state, Fault::Own, why);
    }
    match node.lacks.values().next() {
        Some(why) => gateway.being(State::Warning, why.clone()),
        None => gateway,
    }
}

fn unseen_gateways(facts: &Facts) -> Judged {
    let gateway = Judged::up("gateway", "Gateways").weighing(Weight::Nothing);
    if facts.gateways_attached > 0 && facts.feed_connected {
        return gateway;
    }
    let why = "none is among the peers of [console], and the backend has not said how many it serves";
    gateway.being(State::Unknown, why)
}

/// Processes that have never answered: nobody knows what they are.
pub fn strangers(facts: &Facts) -> Vec<Judged> {
    let strange = facts.nodes.iter().filter(|node| !node.here && node.age_ms.is_none());
    strange
        .map(|node| {
            let stranger = Judged::up(format!("peer:{}", node.node), format!("Peer {}", node.node));
            let (state, why) = silence_of(node).unwrap_or((State::Unknown, String::new()));
            stranger.failing(state, Fault::Own, why).weighing(Weight::Warning)
        })
        .collect()
}
