//! The door: decides on the first packet of a connection whether anything is spent on it.
//!
//! Why it exists: a login storm is paid in handshakes, so the decision must come before the first of them. One task only
//! accepts; each handshake runs in its own. The decision is a value made from a struct of facts, in the order of
//! cheapness. Whoever shows a pass or a slot goes first, strangers get what is left. It must never wait for a permit, and
//! never let one address, real or forged, keep the others out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use buslane_chassis::clock;
use buslane_shared::refusal::Code;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arrival::{Arrival, Holder};
use crate::config;
use crate::connection::{run, shake_hands};
use crate::gate::Gate;
use crate::limits::{AddressKey, Caller};

/// Longest time in which the last close packets are sent.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What is known of a connection when its first packet is there.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// What was shown in the first packet.
    holder: Holder,
    /// The address has been told to hold off, and was told so often enough.
    silenced: bool,
    /// The peer has shown that it receives what is sent to its address.
    validated: bool,
    /// Handshakes in flight.
    handshakes: usize,
    /// Handshakes in flight from this address that are validated alike. The two are counted apart, so that forged packets
    /// cannot use up the share of the address's owner: he passes by a retry.
    from_address: usize,
    /// Connections after their handshake.
    connections: usize,
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The handshake goes on.
    Welcome,
    /// It is asked to show that it receives what is sent to its address.
    Retry(&'static str),
    /// Nothing is answered: an answer costs more than it helps.
    Silence(&'static str),
}

fn decide(facts: Facts, limits: &config::Door) -> Verdict {
    let stranger = facts.holder == Holder::Stranger;
    let reserve_percent = if stranger { limits.reserve_percent } else { 0 };
    let reached = |count: usize, limit: u32| count >= limit as usize;
    let used_up = |count: usize, limit: u32| {
        let kept = u64::from(limit) * u64::from(reserve_percent) / 100;
        count as u64 >= u64::from(limit) - kept
    };
    if facts.silenced {
        Verdict::Silence("held")
    } else if used_up(facts.connections, limits.connections_max) {
        Verdict::Silence("connections")
    } else if used_up(facts.handshakes, limits.handshakes_max) {
        Verdict::Silence("handshakes")
    } else if reached(facts.from_address, limits.handshakes_per_address_max) {
        if facts.validated { Verdict::Silence("address") } else { Verdict::Retry("address") }
    } else if stranger && !facts.validated && reached(facts.handshakes, limits.handshakes_max / 2) {
        Verdict::Retry("handshakes")
    } else {
        Verdict::Welcome
    }
}

/// Counts one thing, here and in a gauge, for as long as it lives.
struct Counted {
    count: Arc<AtomicUsize>,
    gauge: metrics::Gauge,
}

impl Counted {
    fn new(count: &Arc<AtomicUsize>, gauge: metrics::Gauge) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        gauge.increment(1.0);
        Self { count: Arc::clone(count), gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1.0);
    }
}

/// Where a handshake comes from: the address, and whether it was validated.
type Origin = (AddressKey, bool);

/// What is under way. The table has no more keys than there are handshakes.
#[derive(Default)]
struct UnderWay {
    handshakes: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    by_origin: DashMap<Origin, usize>,
}

/// A handshake in flight: the permit of its address, given back when it ends in whatever way.
struct Handshake {
    under_way: Arc<UnderWay>,
    origin: Origin,
    _counted: Counted,
}

impl Handshake {
    fn new(under_way: &Arc<UnderWay>, origin: Origin) -> Self {
        *under_way.by_origin.entry(origin).or_default() += 1;
        let gauge = metrics::gauge!("buslane_gateway_handshakes_in_flight");
        let counted = Counted::new(&under_way.handshakes, gauge);
        Self { under_way: Arc::clone(under_way), origin, _counted: counted }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.under_way.by_origin.entry(self.origin) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A connection after its handshake. A panic in its task ends that connection only, and is counted.
struct Visit {
    _counted: Counted,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            metrics::counter!("buslane_gateway_panics_total").increment(1);
        }
    }
}

/// Accepts connections on one endpoint.
pub struct Door {
    endpoint: Endpoint,
    gate: Arc<Gate>,
    limits: config::Door,
    under_way: Arc<UnderWay>,
    visits: TaskTracker,
}

impl Door {
    /// A door on this endpoint.
    pub fn new(endpoint: Endpoint, gate: Arc<Gate>, limits: config::Door) -> Self {
        Self { endpoint, gate, limits, under_way: Arc::default(), visits: TaskTracker::new() }
    }

    /// Accepts until `stop`, then waits for the requests that are under way. Every connection ends within its limits, so
    /// this ends too.
    pub async fn run(self, stop: &CancellationToken) {
        while let Some(Some(incoming)) = stop.run_until_cancelled(self.endpoint.accept()).await {
            self.on_incoming(incoming, stop);
        }
        self.endpoint.set_server_config(None);
        self.visits.close();
        self.visits.wait().await;
        self.endpoint.close(VarInt::from_u32(Code::Draining as u32), Code::Draining.remedy().as_bytes());
        let _ = timeout(CLOSE_LIMIT, self.endpoint.wait_idle()).await;
    }

    fn on_incoming(&self, incoming: Incoming, stop: &CancellationToken) {
        let now_ms = clock::unix_ms();
        let origin = (AddressKey::from(incoming.remote_address().ip()), incoming.remote_address_validated());
        let mut arrival = Arrival::read(&incoming.orig_dst_cid(), &self.gate.feed.keys(), now_ms);
        let mut verdict = decide(self.facts(origin, arrival.holder), &self.limits);
        if verdict == Verdict::Welcome && arrival != Arrival::STRANGER {
            // Only who is let in has used his mark up: a first packet that is ignored comes again by itself.
            arrival = self.gate.spent.admit(arrival, now_ms);
            verdict = decide(self.facts(origin, arrival.holder), &self.limits);
        }
        match verdict {
            Verdict::Welcome => self.welcome(incoming, origin, arrival, stop),
            Verdict::Retry(why) => {
                metrics::counter!("buslane_gateway_retries_total", "why" => why).increment(1);
                if let Err(error) = incoming.retry() {
                    // Only a validated address cannot be asked again, and none of those comes here.
                    error.into_incoming().ignore();
                }
            }
            Verdict::Silence(why) => {
                metrics::counter!("buslane_gateway_ignored_total", "why" => why).increment(1);
                incoming.ignore();
            }
        }
    }

    fn facts(&self, origin: Origin, holder: Holder) -> Facts {
        let (address, validated) = origin;
        let caller = Caller { address, lane: holder.lane() };
        Facts {
            holder,
            silenced: self.gate.offenders.is_silenced(caller, Instant::now()),
            validated,
            handshakes: self.under_way.handshakes.load(Ordering::Relaxed),
            from_address: self.under_way.by_origin.get(&origin).map_or(0, |count| *count),
            connections: self.under_way.connections.load(Ordering::Relaxed),
        }
    }

    fn welcome(&self, incoming: Incoming, origin: Origin, arrival: Arrival, stop: &CancellationToken) {
        // Only this task counts upwards, so nobody has taken the place since the decision.
        let handshake = Handshake::new(&self.under_way, origin);
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => {
                tracing::debug!(%error, "the first packet is not a valid one");
                return;
            }
        };
        let (gate, under_way, stop) = (Arc::clone(&self.gate), Arc::clone(&self.under_way), stop.clone());
        self.visits.spawn(async move {
            // At closing time nobody waits for those who have not even finished their handshake.
            let shaken = stop.run_until_cancelled(shake_hands(connecting)).await;
            drop(handshake);
            if let Some(Some(connection)) = shaken {
                let gauge = metrics::gauge!("buslane_gateway_connections");
                let _visit = Visit { _counted: Counted::new(&under_way.connections, gauge) };
                run(&gate, connection, arrival, &stop).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: config::Door = config::Door {
        handshakes_max: 8,
        handshakes_per_address_max: 3,
        connections_max: 10,
        reserve_percent: 25,
    };
    const CALM: Facts = Facts {
        holder: Holder::Stranger,
        silenced: false,
        validated: false,
        handshakes: 0,
        from_address: 0,
        connections: 0,
    };

    #[test]
    fn the_decision_table() {
        let validated = Facts { validated: true, ..CALM };
        let holder = Facts { holder: Holder::Background, ..CALM };
        let person = Facts { holder: Holder::Foreground, ..CALM };
        let rows = [
            (CALM, Verdict::Welcome),
            (Facts { silenced: true, ..CALM }, Verdict::Silence("held")),
            (Facts { silenced: true, ..validated }, Verdict::Silence("held")),
            (Facts { silenced: true, ..person }, Verdict::Silence("held")),
            (Facts { connections: 7, ..CALM }, Verdict::Welcome),
            (Facts { connections: 8, ..validated }, Verdict::Silence("connections")),
            (Facts { connections: 9, ..holder }, Verdict::Welcome),
            (Facts { connections: 9, ..person }, Verdict::Welcome),
            (Facts { connections: 10, ..person }, Verdict::Silence("connections")),
            (Facts { handshakes: 3, ..CALM }, Verdict::Welcome),
            (Facts { handshakes: 4, ..CALM }, Verdict::Retry("handshakes")),
            (Facts { handshakes: 4, ..validated }, Verdict::Welcome),
            (Facts { handshakes: 5, ..validated }, Verdict::Welcome),
            (Facts { handshakes: 6, ..validated }, Verdict::Silence("handshakes")),
            (Facts { handshakes: 6, ..CALM }, Verdict::Silence("handshakes")),
            (Facts { handshakes: 7, ..holder }, Verdict::Welcome),
            (Facts { handshakes: 7, ..person }, Verdict::Welcome),
            (Facts { handshakes: 8, ..person }, Verdict::Silence("handshakes")),
            (Facts { from_address: 2, ..CALM }, Verdict::Welcome),
            (Facts { from_address: 3, ..CALM }, Verdict::Retry("address")),
            (Facts { from_address: 3, ..person }, Verdict::Retry("address")),
            (Facts { from_address: 3, ..validated }, Verdict::Silence("address")),
        ];
        for (facts, verdict) in rows {
            assert_eq!(decide(facts, &LIMITS), verdict, "{facts:?}");
        }
    }

    #[test]
    fn permits_out_are_permits_in() {
        let under_way = Arc::<UnderWay>::default();
        let origin = |last| (AddressKey::V4([192, 0, 2, last].into()), true);
        let held: Vec<_> = [1, 1, 2].into_iter().map(|n| Handshake::new(&under_way, origin(n))).collect();
        assert_eq!(under_way.handshakes.load(Ordering::Relaxed), 3);
        assert_eq!(under_way.by_origin.get(&origin(1)).map(|n| *n), Some(2));
        drop(held);
        assert_eq!(under_way.handshakes.load(Ordering::Relaxed), 0);
        assert!(under_way.by_origin.is_empty(), "an address without handshakes takes no memory");
    }
}
