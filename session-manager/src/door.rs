//! The door of a port: decides on the first packet of a connection whether a handshake is spent on it.
//!
//! Why it exists: a login storm is paid in handshakes, so the decision comes before the first of them. The screen has let
//! the packet through; here a mark is used up, and places are given. One task only accepts; each handshake runs in its own, within a limit. It must
//! never wait for a permit, and never let one address, real or forged, keep the others out.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buslane_chassis::clock;
use buslane_shared::mark::{Kind, Lane, MARK_BYTES, Mark, Use, Used, identity};
use buslane_shared::overload::logins::Places;
use buslane_shared::refusal::Code;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use quinn::{Endpoint, Incoming};
use tokio_util::task::TaskTracker;

use crate::config::Bounds;
use crate::load::outcome::{Outcome, Reason};
use crate::login;
use crate::meters::Counted;
use crate::node::Port;
use crate::screen::{Shown, Watch};

/// Share of the time for a hello that is left when no place is free: 300 ms of 3 s, a round trip around the world.
const PATIENCE_MIN: f64 = 0.1;

/// Marks remembered as used, at one port, for each eleven minutes: 1,600 logins a second for all of them.
const USED_MAX: usize = 1 << 20;

/// The part of the wake port's places that is kept for slots: who was told to come now must find one. The front port gives
/// no slots.
const PLACES_FOR_SLOTS: usize = 4;

/// With what somebody comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// A slot whose time is now.
    Slot,
    /// A pass.
    Pass,
    /// Nothing, where nothing is needed.
    Stranger,
    /// Nothing that counts at this port, or not any more.
    None,
}

impl Right {
    fn of(mark: Option<&Mark>) -> Self {
        match mark.map(|m| m.kind) {
            Some(Kind::Slot) => Self::Slot,
            Some(Kind::Pass) => Self::Pass,
            None => Self::Stranger,
        }
    }
}

/// What is known of a connection when its first packet is there.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// The node takes nobody in.
    draining: bool,
    /// With what it comes.
    right: Right,
    /// The peer has shown that it receives what is sent to its address.
    validated: bool,
    /// Places of this port that are kept for slots.
    kept_for_slots: usize,
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

/// A mark shows that its holder is no attacker with invented addresses, so only strangers are asked to prove theirs when places get
/// short.
fn decide(facts: Facts, bounds: &Bounds) -> Verdict {
    let handshakes_max = bounds.handshakes_max as usize;
    if facts.right == Right::None {
        Verdict::Silence
    } else if facts.draining {
        Verdict::Refuse
    } else if facts.handshakes >= places(facts, handshakes_max) {
        Verdict::Silence
    } else if facts.from_address >= bounds.handshakes_per_address_max as usize {
        if facts.validated { Verdict::Silence } else { Verdict::Retry }
    } else if facts.right == Right::Stranger
        && !facts.validated
        && is_pressed(facts.handshakes, handshakes_max)
    {
        Verdict::Retry
    } else {
        Verdict::Welcome
    }
}

/// The places that one with this right may take.
fn places(facts: Facts, handshakes_max: usize) -> usize {
    match facts.right {
        Right::Slot => handshakes_max,
        Right::Pass | Right::Stranger | Right::None => handshakes_max.saturating_sub(facts.kept_for_slots),
    }
}

fn is_pressed(handshakes: usize, handshakes_max: usize) -> bool {
    handshakes >= handshakes_max.div_ceil(2)
}

/// The more of the places are taken, the less time has somebody who says nothing: all of the limit while half of them are free, a
/// tenth of it when none is. Clients say hello together with the end of their handshake, so this meets those who are silent.
fn patience(limit: Duration, handshakes: usize, handshakes_max: usize) -> Duration {
    let free = 1.0 - handshakes.min(handshakes_max) as f64 / handshakes_max.max(1) as f64;
    limit.mul_f64((2.0 * free).powi(2).clamp(PATIENCE_MIN, 1.0))
}

/// Whoever was let through by the screen and is not at the door after this time does not come.
const EXPECTED_FOR: Duration = Duration::from_millis(100);

/// An address and whether it was validated.
type Origin = (IpAddr, bool);

/// Handshakes under way. The table has no more keys than there are handshakes.
pub(crate) struct UnderWay {
    count: AtomicUsize,
    /// Those whom the screen has let through and the door has not seen: about, because some never get there.
    expected: AtomicUsize,
    count_max: usize,
    /// Places that are kept for slots.
    kept_for_slots: usize,
    by_origin: DashMap<Origin, usize>,
}

impl UnderWay {
    /// None yet, at the port of this lane.
    pub(crate) fn new(bounds: &Bounds, lane: Lane) -> Self {
        let count_max = bounds.handshakes_max as usize;
        let kept_for_slots = match lane {
            Lane::Front => 0,
            Lane::Wake => count_max / PLACES_FOR_SLOTS,
        };
        Self {
            count: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            count_max,
            kept_for_slots,
            by_origin: DashMap::new(),
        }
    }

    /// Somebody was let through to the door. A burst is looked at as a whole before the first of it gets there.
    pub(crate) fn expect(&self) {
        self.expected.fetch_add(1, Ordering::Relaxed);
    }

    /// One is at the door.
    fn arrived(&self) {
        let _ =
            self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }

    /// Nobody waits at the door: whoever is still expected does not come.
    fn nobody_waits(&self) {
        self.expected.store(0, Ordering::Relaxed);
    }

    /// Which places are free.
    pub(crate) fn places(&self) -> Places {
        match self.count.load(Ordering::Relaxed) + self.expected.load(Ordering::Relaxed) {
            count if count < self.count_max.saturating_sub(self.kept_for_slots) => Places::Free,
            count if count < self.count_max => Places::ForSlots,
            _ => Places::None,
        }
    }

    fn from(&self, origin: &Origin) -> usize {
        self.by_origin.get(origin).map_or(0, |count| *count)
    }
}

/// A handshake under way; its place is free again when this is dropped.
pub(crate) struct Handshake {
    /// The mark with which it came, used up now.
    pub(crate) mark: Option<Mark>,
    under_way: Arc<UnderWay>,
    origin: Origin,
    _counted: Counted,
}

impl Handshake {
    fn new(mark: Option<Mark>, under_way: &Arc<UnderWay>, origin: Origin, counted: Counted) -> Self {
        under_way.count.fetch_add(1, Ordering::Relaxed);
        *under_way.by_origin.entry(origin).or_default() += 1;
        Self { mark, under_way: Arc::clone(under_way), origin, _counted: counted }
    }

    /// How long somebody may stay who has shaken hands and not said hello. Whoever came with a mark was here before, and his hello may have
    /// been lost on the way.
    pub(crate) fn patience(&self, limit: Duration) -> Duration {
        if self.mark.is_some() {
            return limit;
        }
        patience(limit, self.under_way.count.load(Ordering::Relaxed), self.under_way.count_max)
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

/// Tells marks that were used from fresh ones.
struct Marks {
    watch: Watch,
    used: Used,
}

impl Marks {
    /// The right that the first connection id of this attempt gives, and the mark, which the right depends on.
    fn look_at(&self, id: &[u8]) -> (Right, Option<Mark>) {
        let Watch { lane, reader, gate, .. } = &self.watch;
        let mark = match reader.read(id) {
            Shown::Mark(mark) => Some(mark),
            Shown::Nothing | Shown::Bad(_) => None,
        };
        let is_for_here = mark.is_some_and(|m| m.lane() == *lane);
        if *lane == Lane::Front && gate.needs_passes() && !is_for_here {
            return (Right::None, None);
        }
        (Right::of(mark.as_ref()), mark)
    }

    /// Uses a mark up, with a slot all those for the same promise. What right is left, if it was used before or cannot be remembered.
    fn take(&mut self, id: &[u8], mark: &Mark) -> Option<Right> {
        let Some(bytes) = id.first_chunk::<MARK_BYTES>() else { return Some(Right::None) };
        let what = match mark.kind {
            Kind::Slot => mark.promise(),
            Kind::Pass => identity(bytes),
        };
        let outcome = self.used.take(what, clock::unix_ms());
        if outcome != Use::First {
            self.watch.counters.on_mark(outcome.name());
        }
        left(outcome, self.watch.lane)
    }
}

/// What right is left to a mark that was used, if it is less. Whoever needs none where he comes must not fare worse for having shown
/// one that there is no room to remember.
fn left(outcome: Use, lane: Lane) -> Option<Right> {
    match (outcome, lane) {
        (Use::First, _) => None,
        (Use::Full, Lane::Wake) => Some(Right::Stranger),
        (Use::Full | Use::Again, _) => Some(Right::None),
    }
}

/// The accepting end of a port.
pub(crate) struct Door {
    pub(crate) endpoint: Endpoint,
    pub(crate) watch: Watch,
    pub(crate) port: Arc<Port>,
    /// Owns the tasks of all connections of the port.
    pub(crate) tasks: TaskTracker,
}

impl Door {
    /// Accepts until the endpoint is closed.
    pub(crate) async fn run(self) {
        let mut marks = Marks { watch: self.watch.clone(), used: Used::new(USED_MAX) };
        loop {
            let incoming = tokio::select! {
                biased;
                incoming = self.endpoint.accept() => incoming,
                () = std::future::ready(()) => {
                    self.watch.under_way.nobody_waits();
                    // What the stack throws away wakes nobody here.
                    match tokio::time::timeout(EXPECTED_FOR, self.endpoint.accept()).await {
                        Ok(incoming) => incoming,
                        Err(_) => continue,
                    }
                }
            };
            let Some(incoming) = incoming else { return };
            self.watch.under_way.arrived();
            self.on_incoming(incoming, &mut marks);
        }
    }

    fn on_turned_away(&self, reason: Reason) {
        self.port.node.load.tally.on_turned_away(self.watch.lane, Outcome::Refused(reason));
    }

    fn on_incoming(&self, incoming: Incoming, marks: &mut Marks) {
        let under_way = &self.watch.under_way;
        let origin = (network(incoming.remote_address().ip()), incoming.remote_address_validated());
        // After a retry it is still the id of the very first packet.
        let id = incoming.orig_dst_cid();
        let (right, mut mark) = marks.look_at(&id);
        let mut facts = Facts {
            draining: self.port.node.drain.is_on(),
            right,
            kept_for_slots: under_way.kept_for_slots,
            validated: origin.1,
            handshakes: under_way.count.load(Ordering::Relaxed),
            from_address: under_way.from(&origin),
        };
        let mut verdict = decide(facts, &self.port.node.config.bounds);
        if verdict == Verdict::Welcome
            && let Some(shown) = &mark
            && let Some(left) = marks.take(&id, shown)
        {
            mark = None;
            facts.right = left;
            verdict = decide(facts, &self.port.node.config.bounds);
        }
        let meters = &self.port.meters;
        match verdict {
            Verdict::Welcome => {
                let handshake = Handshake::new(mark, under_way, origin, Counted::new(&meters.handshakes));
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
                self.on_turned_away(Reason::Code(Code::Draining));
                incoming.refuse();
            }
            Verdict::Silence => {
                meters.on_turned_away("ignored");
                // What counts for nothing here is not somebody who wants a session.
                if facts.right != Right::None {
                    self.on_turned_away(Reason::Door);
                    self.watch.on_ignored(&id);
                }
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

    const CALM: Facts = Facts {
        draining: false,
        right: Right::Stranger,
        kept_for_slots: 64,
        validated: false,
        handshakes: 0,
        from_address: 0,
    };

    /// Of 256 places, 64 of them for each address.
    #[test]
    fn the_table_of_verdicts() {
        use Right::{Pass, Slot, Stranger};
        let table = [
            // right, validated, handshakes, from this address
            ((Stranger, false, 0, 0), Verdict::Welcome),
            ((Stranger, false, 127, 63), Verdict::Welcome),
            ((Stranger, false, 128, 0), Verdict::Retry),
            ((Stranger, true, 128, 0), Verdict::Welcome),
            ((Stranger, true, 191, 0), Verdict::Welcome),
            ((Stranger, true, 192, 0), Verdict::Silence),
            ((Stranger, false, 192, 0), Verdict::Silence),
            ((Stranger, false, 64, 64), Verdict::Retry),
            ((Stranger, true, 64, 64), Verdict::Silence),
            ((Pass, false, 191, 0), Verdict::Welcome),
            ((Pass, true, 192, 0), Verdict::Silence),
            ((Pass, false, 64, 64), Verdict::Retry),
            ((Slot, false, 192, 0), Verdict::Welcome),
            ((Slot, false, 255, 63), Verdict::Welcome),
            ((Slot, false, 256, 0), Verdict::Silence),
            ((Slot, false, 64, 64), Verdict::Retry),
            ((Right::None, true, 0, 0), Verdict::Silence),
        ];
        for ((right, validated, handshakes, from_address), verdict) in table {
            let facts = Facts { right, validated, handshakes, from_address, ..CALM };
            assert_eq!(decide(facts, &Bounds::default()), verdict, "{facts:?}");
        }
        for right in [Slot, Pass, Stranger] {
            let facts = Facts { draining: true, right, ..CALM };
            assert_eq!(decide(facts, &Bounds::default()), Verdict::Refuse, "{facts:?}");
        }
    }

    #[test]
    fn a_port_without_slots_keeps_no_places_for_them() {
        let facts = Facts { right: Right::Pass, kept_for_slots: 0, handshakes: 255, ..CALM };
        assert_eq!(decide(facts, &Bounds::default()), Verdict::Welcome);
        let full = Facts { handshakes: 256, ..facts };
        assert_eq!(decide(full, &Bounds::default()), Verdict::Silence);
    }

    #[test]
    fn a_mark_that_cannot_be_remembered_is_none_and_no_offence() {
        for (outcome, lane, right) in [
            (Use::First, Lane::Wake, None),
            (Use::Again, Lane::Wake, Some(Right::None)),
            (Use::Full, Lane::Wake, Some(Right::Stranger)),
            (Use::Full, Lane::Front, Some(Right::None)),
        ] {
            assert_eq!(left(outcome, lane), right, "{outcome:?} {lane:?}");
        }
    }

    #[test]
    fn who_says_nothing_has_less_time_when_places_are_short() {
        let limit = Duration::from_secs(3);
        let ms = |taken| patience(limit, taken, 256).as_millis();
        assert_eq!([0, 128, 192, 224, 256, 300].map(ms), [3_000, 3_000, 750, 300, 300, 300]);
        assert_eq!(patience(limit, 0, 0), limit);
    }

    #[test]
    fn one_place_is_enough_for_one() {
        let facts = Facts { validated: true, kept_for_slots: 1 / PLACES_FOR_SLOTS, ..CALM };
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

    /// A burst is looked at as a whole before the first of it is at the door.
    #[test]
    fn whoever_is_on_the_way_from_the_screen_has_a_place() {
        let under_way = UnderWay::new(&Bounds { handshakes_max: 4, ..Bounds::default() }, Lane::Wake);
        under_way.arrived();
        let seen = [(); 5].map(|()| {
            let places = under_way.places();
            under_way.expect();
            places
        });
        assert_eq!(seen, [Places::Free, Places::Free, Places::Free, Places::ForSlots, Places::None]);
        under_way.arrived();
        under_way.arrived();
        assert_eq!(under_way.places(), Places::ForSlots);
        under_way.nobody_waits();
        assert_eq!(under_way.places(), Places::Free, "the stack has thrown them away");
    }

    #[test]
    fn a_place_is_free_again_whatever_becomes_of_the_handshake() {
        let bounds = Bounds { handshakes_max: 4, ..Bounds::default() };
        let under_way = Arc::new(UnderWay::new(&bounds, Lane::Wake));
        let origin = (network("192.0.2.1".parse().unwrap()), true);
        let place = || Handshake::new(None, &under_way, origin, Counted::new(&metrics::Gauge::noop()));
        let (first, second) = (place(), place());
        assert!(first.is_pressed());
        assert_eq!(under_way.places(), Places::Free);
        assert_eq!(under_way.from(&origin), 2);
        let third = place();
        assert_eq!(under_way.places(), Places::ForSlots);
        let fourth = place();
        assert_eq!(under_way.places(), Places::None);
        drop((third, fourth));
        assert_eq!(under_way.places(), Places::Free);
        drop((first, second));
        assert_eq!(under_way.count.load(Ordering::Relaxed), 0);
        assert!(under_way.by_origin.is_empty());
    }
}
