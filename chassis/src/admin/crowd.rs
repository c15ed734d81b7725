//! Who is connected to the admin address, and who leaves when there is no place any more.
//!
//! Why it exists: health checks and scrapers show no right, and whoever keeps a thousand connections open for them would keep the
//! operators out. So when all places are taken, one that has shown no right goes: the oldest of the network that has most of them. It
//! must never end a connection over which somebody has shown who he is.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::failures::network;

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Crowd {
    places: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    /// By when they came.
    all: BTreeMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    network: IpAddr,
    known: Known,
    leave: CancellationToken,
}

/// Whether somebody has shown a right over a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// He has.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The place of a connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    no: u64,
    known: Known,
    leave: CancellationToken,
}

impl Crowd {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, guests: Mutex::default() })
    }

    /// A place for somebody from there; none: everybody who is connected has shown a right.
    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut guests = self.guests.lock();
        if guests.all.len() >= self.places {
            let leaver = guests.leaver()?;
            let gone = guests.all.remove(&leaver);
            gone.inspect(|gone| gone.leave.cancel());
        }
        let no = guests.next;
        guests.next = guests.next.wrapping_add(1);
        let (known, leave) = (Known::default(), CancellationToken::new());
        guests.all.insert(no, Guest { network: network(ip), known: known.clone(), leave: leave.clone() });
        Some(Place { crowd: Arc::clone(self), no, known, leave })
    }
}

impl Guests {
    /// Who goes.
    fn leaver(&self) -> Option<u64> {
        let mut strangers: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for (no, guest) in self.all.iter().filter(|(_, guest)| !guest.known.holds()) {
            // The first that is met is the oldest.
            strangers.entry(guest.network).or_insert((0, *no)).0 += 1;
        }
        let leaver = strangers.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest)));
        leaver.map(|(_, oldest)| oldest)
    }
}

impl Place {
    /// Where it is noted that he has shown a right.
    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    /// He has to go.
    pub(super) async fn lost(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.guests.lock().all.remove(&self.no);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn the_oldest_stranger_of_the_fullest_network_goes_and_nobody_who_is_known() {
        let crowd = Crowd::new(4);
        let known = crowd.enter(ip(1)).unwrap();
        known.known().note();
        let other = crowd.enter(ip(2)).unwrap();
        let (first, second) = (crowd.enter(ip(3)).unwrap(), crowd.enter(ip(3)).unwrap());
        let third = crowd.enter(ip(4)).unwrap();
        let gone = |place: &Place| place.leave.is_cancelled();
        assert_eq!([&known, &other, &first, &second, &third].map(gone), [false, false, true, false, false]);
        for place in [&other, &second, &third] {
            place.known().note();
        }
        assert!(crowd.enter(ip(5)).is_none(), "everybody has shown a right");
        drop(other);
        assert!(crowd.enter(ip(5)).is_some());
        drop(first);
        assert_eq!(crowd.guests.lock().all.len(), 3, "who had to go gives nothing back twice");
    }

    #[test]
    fn many_addresses_of_one_network_are_one_and_of_equals_the_oldest_goes() {
        let crowd = Crowd::new(3);
        let gone = |place: &Place| place.leave.is_cancelled();
        let operator = crowd.enter("2001:db8:f::1".parse().unwrap()).unwrap();
        let many = [1, 2, 3].map(|no| crowd.enter(format!("2001:db8::{no}").parse().unwrap()).unwrap());
        assert_eq!((gone(&operator), many.each_ref().map(gone)), (false, [true, false, false]));
        let crowd = Crowd::new(2);
        let [high, low] = [9, 1].map(|last| crowd.enter(ip(last)).unwrap());
        let _third = crowd.enter(ip(5)).unwrap();
        assert_eq!(
            (gone(&high), gone(&low)),
            (true, false),
            "whoever has just come has time to show a right"
        );
    }
}
