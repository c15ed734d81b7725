//! What an operator sees of the load of this node.

use std::sync::Arc;

use buslane_chassis::oversee::{
    CauseView, DrainFacts, DrainWish, LaneRow, LanesView, NodeFacts, Overseer, PostureView, ProtocolRow,
    RefusalFacts, SessionFacts, Traffic, WouldRefuse,
};
use buslane_shared::UnixMs;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::mark::Lane;
use buslane_shared::overload::lanes::LaneView;
use buslane_shared::overload::posture;
use buslane_shared::overload::settings::Policy;
use buslane_shared::wire::{AppState, Posture};

use super::census::Row;
use crate::node::Node;
use crate::presence::Presence;
use crate::screen::port_name;

/// Looks at a node.
pub(crate) struct Oversight(pub(crate) Arc<Node>);

impl Overseer for Oversight {
    fn posture(&self) -> PostureView {
        let stance = self.0.load.stances.get();
        PostureView {
            node: self.0.config.node.clone(),
            posture: stance.posture,
            since_ms: stance.since_ms,
            measured: stance.measured,
            cause: stance.cause.map(|cause| CauseView {
                signal: cause.signal.name(),
                value: cause.value,
                limit: cause.limit,
            }),
            order: stance.source.order(),
            level: stance.level,
            background_per_s: stance.background.now,
            ledger_ms: stance.ledger_ms,
        }
    }

    fn lanes(&self) -> LanesView {
        let load = &self.0.load;
        let knobs = load.knobs();
        let caps = knobs.settings.cap_table().unwrap_or([100; Protocol::ALL.len()]);
        let (seats, background_seats, lanes, in_use, costs) = load.seats.with(|lanes, _| {
            let costs = Protocol::ALL.map(|p| lanes.cost(p));
            (lanes.seats(), lanes.background_seats(), lanes.snapshot(), lanes.by_protocol(), costs)
        });
        let rows = load.census.last_second();
        let protocols = Protocol::ALL.into_iter().zip(in_use).zip(costs).zip(caps);
        LanesView {
            policy: knobs.settings.policy.name(),
            seats,
            background_seats,
            lanes: lanes.iter().map(|lane| lane_row(lane, &rows)).collect(),
            protocols: protocols
                .filter(|(((_, in_use), _), cap)| *in_use > 0 || *cap < 100)
                .map(|(((protocol, in_use), cost), cap)| ProtocolRow {
                    protocol: protocol.name(),
                    in_use,
                    cap: (seats.saturating_mul(u32::from(cap)) / 100).max(1),
                    cost_us: cost / 1_000,
                })
                .collect(),
        }
    }

    fn would_refuse(&self, posture: Posture) -> Vec<WouldRefuse> {
        let load = &self.0.load;
        let knobs = load.knobs();
        let asked = load.census.last_second().into_iter().filter(|(_, _, row)| row.offered > 0);
        asked
            .map(|(protocol, class, row)| {
                // Nothing follows from a posture where nothing is measured, or where a class is only tried out.
                let is_obeyed = knobs.settings.policy == Policy::Buslane && !knobs.is_dry_run(class);
                let is_off = is_obeyed && posture::refuses(posture, protocol, class);
                WouldRefuse {
                    protocol: protocol.name(),
                    class: class.name(),
                    offered: row.offered,
                    refused_now: row.refused,
                    refused_then: if is_off { row.offered } else { row.refused },
                }
            })
            .collect()
    }

    fn traffic(&self) -> Traffic {
        self.0.load.tally.traffic()
    }

    fn sessions(&self, user: &str) -> Vec<SessionFacts> {
        let mut sessions = Vec::new();
        self.0.table.visit(user, None, |presence| sessions.push(session(presence, self.0.started_ms)));
        sessions
    }

    fn refusals(&self, user: &str) -> Vec<RefusalFacts> {
        self.0.refusals.of(user)
    }

    fn disconnect(&self, user: &str, device: &str) -> bool {
        match (user.parse(), device.parse()) {
            (Ok(user), Ok(device)) => self.0.table.disconnect(&user, device),
            // Who has no name or device that could be one has no session.
            _ => false,
        }
    }

    fn drain(&self, wish: DrainWish) -> Result<(), String> {
        self.0.drain.wish(&self.0, wish)
    }

    fn drain_state(&self) -> DrainFacts {
        self.0.drain.facts(&self.0)
    }

    fn node(&self) -> NodeFacts {
        NodeFacts {
            name: self.0.config.node.clone(),
            sessions_front: self.0.connected.at(Lane::Front),
            sessions_wake: self.0.connected.at(Lane::Wake),
            started_ms: self.0.started_ms,
        }
    }
}

fn session(presence: &Presence, started_ms: UnixMs) -> SessionFacts {
    SessionFacts {
        device: presence.device.to_string(),
        port: port_name(if presence.is_at_front() { Lane::Front } else { Lane::Wake }),
        app_state: if presence.app_state() == AppState::Foreground { "foreground" } else { "background" },
        connected: presence.is_connected(),
        since_ms: presence.since_ms,
        last: presence.trail.facts(started_ms),
    }
}

fn lane_row(lane: &LaneView, rows: &[(Protocol, Class, Row)]) -> LaneRow {
    let of_class = rows.iter().filter(|(_, class, _)| *class == lane.class);
    let (offered, refused) = of_class
        .fold((0, 0), |(offered, refused), (_, _, row)| (offered + row.offered, refused + row.refused));
    LaneRow {
        class: lane.class.name(),
        title: lane.class.title(),
        guarantee: lane.guarantee,
        ceiling: lane.ceiling,
        in_use: lane.in_use,
        waiting: lane.waiting,
        waiting_bytes: lane.bytes,
        predicted_wait_us: lane.predicted_wait / 1_000,
        admitted_per_s: offered.saturating_sub(refused) as f64,
        refused_per_s: refused as f64,
    }
}
