//! Clients that send their first packet and nothing more.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::{Counts, Door, HOLD, addresses_for, start};
use crate::simulate::random::Random;
use crate::storm::raw::answer::{self, Kind};
use crate::storm::raw::initial::{Beginner, OWN_ID_BYTES, random_id};
use crate::storm::raw::source::{self, Sender};

/// Longer than any answer to a first packet.
const ANSWER_BYTES_MAX: usize = 2_048;

/// All of them.
pub struct HalfOpen {
    doors: Vec<(Door, Beginner)>,
    sockets: Vec<Rc<UdpSocket>>,
    places: Rc<RefCell<Vec<Place>>>,
    random: RefCell<Random>,
    counts: Rc<Counts>,
}

/// A client after the other has this place.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// How many there were.
    client: u32,
    stands: Stands,
}

/// How the client in a place stands with the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stands {
    /// It has not been answered.
    #[default]
    Unheard,
    /// The server goes on with it.
    Held,
    /// The server has sent it away, or given it up.
    Away,
}

impl HalfOpen {
    /// So many at a time. Must be made on the runtime of its thread.
    pub fn new(doors: &[Door], clients: u32, seed: u64, counts: Rc<Counts>) -> anyhow::Result<Self> {
        let to = doors.first().context("silent clients need a port")?.goal.addr;
        let sockets = source::bind(Sender::Silent, addresses_for(clients) as u16, to)
            .context("no UDP sockets for silent clients; `ulimit -n` may be too low")?;
        let beginner =
            |door: &Door| anyhow::Ok((door.clone(), Beginner::new(door.goal.speaks, &door.server_name)?));
        Ok(Self {
            doors: doors.iter().map(beginner).collect::<anyhow::Result<_>>()?,
            sockets: sockets
                .into_iter()
                .map(|socket| UdpSocket::from_std(socket).map(Rc::new))
                .collect::<Result<_, _>>()?,
            places: Rc::new(RefCell::new(vec![Place::default(); clients as usize])),
            random: RefCell::new(Random::new(seed, 2)),
            counts,
        })
    }

    /// Counts what comes back, in tasks of this set.
    pub fn listen(&self, tasks: &mut JoinSet<()>) {
        for socket in &self.sockets {
            let (socket, places, counts) = (socket.clone(), self.places.clone(), self.counts.clone());
            tasks.spawn_local(async move {
                let mut buffer = [0; ANSWER_BYTES_MAX];
                // What the system reports of earlier packets says nothing of the next ones.
                loop {
                    if let Ok(length) = socket.recv(&mut buffer).await {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        on_answer(&mut places.borrow_mut(), datagram, &counts);
                    }
                }
            });
        }
    }

    /// Lets clients begin, each in its time.
    pub async fn send_until(&self, begin: Instant, end: Instant) -> anyhow::Result<()> {
        let places = self.places.borrow().len() as u32;
        for turn in 0.. {
            let Some((place, after)) = turn_of(turn, places) else { return Ok(()) };
            let due = begin + after;
            if due >= end {
                return Ok(());
            }
            tokio::time::sleep_until(due.into()).await;
            // After a pause of the driver each place begins once, not once for each client that was missed.
            if due + HOLD > Instant::now() {
                self.begin(place)?;
            }
        }
        Ok(())
    }

    fn begin(&self, place: u32) -> anyhow::Result<()> {
        let client = self.next_client(place);
        let at = place as usize;
        let door = self.doors.get(at % self.doors.len().max(1)).context("silent clients need a port")?;
        let socket = self.sockets.get(at % self.sockets.len().max(1)).context("no socket")?;
        let (door, beginner) = door;
        let id = random_id(&mut self.random.borrow_mut());
        let packet = beginner.begin(own_id(place, client))?.packet(&id)?;
        match socket.try_send_to(&packet, door.goal.addr) {
            Ok(_) => self.counts.on_opened(),
            // It is one client less for as long as the next one takes.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(error).context("a first packet cannot be sent"),
        }
        Ok(())
    }

    /// The one before has been given up by now.
    fn next_client(&self, place: u32) -> u32 {
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(place as usize) else { return 0 };
        if place.stands == Stands::Held {
            self.counts.on_given_up();
        }
        *place = Place { client: place.client.wrapping_add(1), stands: Stands::Unheard };
        place.client
    }
}

/// Which place has a turn, and when, from the beginning: each place every [`HOLD`]. `None`: there are no places.
fn turn_of(turn: u32, places: u32) -> Option<(u32, Duration)> {
    let (round, place) = (turn.checked_div(places)?, turn.checked_rem(places)?);
    Some((place, start(place, places) + HOLD * round))
}

/// What a client calls itself, so that an answer finds back to it.
fn own_id(place: u32, client: u32) -> [u8; OWN_ID_BYTES] {
    (u64::from(place) << 32 | u64::from(client)).to_be_bytes()
}

fn on_answer(places: &mut [Place], datagram: &[u8], counts: &Counts) {
    // What is sent when the handshake is over names its client in another form; it brings nothing new.
    let Some(own_id) = answer::recipient(datagram).map(u64::from_be_bytes) else { return };
    let Some(place) = places.get_mut((own_id >> 32) as usize) else { return };
    if place.client != own_id as u32 {
        return;
    }
    place.stands = match (place.stands, answer::kind(datagram)) {
        (Stands::Unheard, Kind::Handshake) => {
            counts.on_held();
            Stands::Held
        }
        (Stands::Unheard, Kind::Close | Kind::Retry) => {
            counts.on_turned_away();
            Stands::Away
        }
        (Stands::Held, Kind::Close) => {
            counts.on_given_up();
            Stands::Away
        }
        (stands, _) => stands,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::silent::SilentOutcome;

    #[test]
    fn each_place_has_its_turn_when_its_client_is_given_up() {
        let ms = |turn, places| turn_of(turn, places).map(|(place, after)| (place, after.as_millis()));
        for (turn, places, expected) in [
            (0, 4, Some((0, 0))),
            (1, 4, Some((1, 250))),
            (3, 4, Some((3, 750))),
            (4, 4, Some((0, 3_000))),
            (11, 4, Some((3, 6_750))),
            (5, 1, Some((0, 15_000))),
            (0, 0, None),
        ] {
            assert_eq!(ms(turn, places), expected, "{turn} of {places}");
        }
    }

    #[test]
    fn what_a_client_is_sent_says_how_it_stands() {
        let counts = Counts::default();
        let mut places = vec![Place { client: 5, stands: Stands::Unheard }; 2];
        let answer = |first: u8, place, client, length| {
            let mut datagram = vec![first, 0, 0, 0, 1, 8];
            datagram.extend(own_id(place, client));
            datagram.resize(length, 0);
            datagram
        };
        let (goes_on, closes) = (
            |place, client| answer(0xc0, place, client, 1_200),
            |place, client| answer(0xc0, place, client, 60),
        );
        // Of another client, of no place, and the first word twice.
        for datagram in [goes_on(0, 4), goes_on(9, 5), goes_on(0, 5), goes_on(0, 5), Vec::new()] {
            on_answer(&mut places, &datagram, &counts);
        }
        assert_eq!((counts.held_now.get(), places[0].stands), (1, Stands::Held));
        for datagram in [closes(1, 5), goes_on(1, 5), closes(0, 5), closes(0, 5)] {
            on_answer(&mut places, &datagram, &counts);
        }
        assert_eq!(counts.held_now.get(), 0);
        let outcome = SilentOutcome { opened: 0, held: 1, turned_away: 1, most_at_a_time: 1 };
        assert_eq!(counts.outcome.get(), outcome);
    }
}
