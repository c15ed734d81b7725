//! The door of a port: decides on the first packet of a connection whether anything is spent on it.
//!
//! Why it exists: a login storm is paid in handshakes, so the decision comes before the first of them. One task only
//! accepts; each handshake runs in its own, within a limit. It must never wait for a permit, and never let one address,
//! real or forged, keep the others out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use quinn::{Endpoint, Incoming};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Bounds;
use crate::login;
use crate::meters::Counted;
use crate::node::Port;

/// What is known of a connection when its first packet is there.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// The node is being stopped.
    draining: bool,
    /// The peer has shown that it receives what is sent to its address.
    validated: bool,
    /// Handshakes under way.
    handshakes: usize,
    /// Of them, those from this address that are validated alike. The two are counted apart, so that forged packets do not
    /// use up the share of the address's owner.
    from_address: usize,
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The handshake goes on.
    Welcome,
    /// It is asked to show that it receives what is sent to its address.
    Retry,
    /// It is told to go elsewhere.
    Refuse,
    /// Nothing is answered: an answer costs more than it helps.
    Silence,
}

fn decide(facts: Facts, bounds: &Bounds) -> Verdict {
    let handshakes_max = bounds.handshakes_max as usize;
    if facts.draining {
        Verdict::Refuse
    } else if facts.handshakes >= handshakes_max {
        Verdict::Silence
    } else if facts.from_address >= bounds.handshakes_per_address_max as usize {
        if facts.validated { Verdict::Silence } else { Verdict::Retry }
    } else if !facts.validated && is_pressed(facts.handshakes, handshakes_max) {
        Verdict::Retry
    } else {
        Verdict::Welcome
    }
}

fn is_pressed(handshakes: usize, handshakes_max: usize) -> bool {
    handshakes >= handshakes_max.div_ceil(2)
}

/// An address and whether it was validated.
type Origin = (IpAddr, bool);

/// Handshakes under way. The table has no more keys than there are handshakes.
pub(crate) struct UnderWay {
    count: AtomicUsize,
    count_max: usize,
    by_origin: DashMap<Origin, usize>,
}

impl UnderWay {
    fn from(&self, origin: &Origin) -> usize {
        self.by_origin.get(origin).map_or(0, |count| *count)
    }
}

/// A handshake under way; its place is free again when this is dropped.
pub(crate) struct Handshake {
    under_way: Arc<UnderWay>,
    origin: Origin,
    _counted: Counted,
}

impl Handshake {
    fn new(under_way: &Arc<UnderWay>, origin: Origin, counted: Counted) -> Self {
        under_way.count.fetch_add(1, Ordering::Relaxed);
        *under_way.by_origin.entry(origin).or_default() += 1;
        Self { under_way: Arc::clone(under_way), origin, _counted: counted }
    }

    /// Whether places are short: whoever is refused then goes without ceremony.
    pub(crate) fn is_pressed(&self) -> bool {
        is_pressed(self.under_way.count.load(Ordering::Relaxed), self.under_way.count_max)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.under_way.count.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut count) = self.under_way.by_origin.entry(self.origin) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The accepting end of a port.
pub(crate) struct Door {
    pub(crate) endpoint: Endpoint,
    pub(crate) port: Arc<Port>,
    /// Owns the tasks of all connections of the port.
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
}

impl Door {
    /// Accepts until the endpoint is closed.
    pub(crate) async fn run(self) {
        let count_max = self.port.node.config.bounds.handshakes_max as usize;
        let under_way =
            Arc::new(UnderWay { count: AtomicUsize::new(0), count_max, by_origin: DashMap::new() });
        while let Some(incoming) = self.endpoint.accept().await {
            self.on_incoming(incoming, &under_way);
        }
    }

    fn on_incoming(&self, incoming: Incoming, under_way: &Arc<UnderWay>) {
        let origin = (network(incoming.remote_address().ip()), incoming.remote_address_validated());
        let facts = Facts {
            draining: self.draining.is_cancelled(),
            validated: origin.1,
            handshakes: under_way.count.load(Ordering::Relaxed),
            from_address: under_way.from(&origin),
        };
        let meters = &self.port.meters;
        match decide(facts, &self.port.node.config.bounds) {
            Verdict::Welcome => {
                let handshake = Handshake::new(under_way, origin, Counted::new(&meters.handshakes));
                self.tasks.spawn(login::run(Arc::clone(&self.port), incoming, handshake));
            }
            Verdict::Retry => {
                meters.on_turned_away("retry");
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            }
            Verdict::Refuse => {
                meters.on_turned_away("refused");
                incoming.refuse();
            }
            Verdict::Silence => {
                meters.on_turned_away("ignored");
                incoming.ignore();
            }
        }
    }
}

/// What counts as one address: a whole one of IPv4, the network of one customer (64 bits) of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((address.to_bits() >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_verdicts() {
        let table = [
            // draining, validated, handshakes, from this address
            ((false, false, 0, 0), Verdict::Welcome),
            ((false, false, 127, 63), Verdict::Welcome),
            ((false, false, 128, 0), Verdict::Retry),
            ((false, true, 128, 0), Verdict::Welcome),
            ((false, true, 255, 0), Verdict::Welcome),
            ((false, true, 256, 0), Verdict::Silence),
            ((false, false, 64, 64), Verdict::Retry),
            ((false, true, 64, 64), Verdict::Silence),
            ((true, true, 0, 0), Verdict::Refuse),
        ];
        for ((draining, validated, handshakes, from_address), verdict) in table {
            let facts = Facts { draining, validated, handshakes, from_address };
            assert_eq!(decide(facts, &Bounds::default()), verdict, "{facts:?}");
        }
    }

    #[test]
    fn one_place_is_enough_for_one() {
        let facts = Facts { draining: false, validated: true, handshakes: 0, from_address: 0 };
        let bounds = Bounds { handshakes_max: 1, handshakes_per_address_max: 1, ..Bounds::default() };
        assert_eq!(decide(facts, &bounds), Verdict::Welcome);
    }

    #[test]
    fn neighbours_of_one_network_are_one_address() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2::"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }

    #[test]
    fn a_place_is_free_again_whatever_becomes_of_the_handshake() {
        let under_way =
            Arc::new(UnderWay { count: AtomicUsize::new(0), count_max: 2, by_origin: DashMap::new() });
        let origin = (network("192.0.2.1".parse().unwrap()), true);
        let place = || Handshake::new(&under_way, origin, Counted::new(&metrics::Gauge::noop()));
        let (first, second) = (place(), place());
        assert!(first.is_pressed());
        assert_eq!(under_way.from(&origin), 2);
        drop((first, second));
        assert_eq!(under_way.count.load(Ordering::Relaxed), 0);
        assert!(under_way.by_origin.is_empty());
    }
}
