//! The filter in the kernel: first packets that a port does not want to hear never reach the process.
//!
//! A classic BPF program on the socket compares the three bytes in which marks and our own connection ids agree
//! (`buslane_shared::mark`), and drops a random share of first packets while there are more than the port may look at. A flood of
//! strangers then costs the process next to nothing. Whoever has seen a mark can knock, and receive offload may show the program only
//! the first of several packets, so the check in the process stays behind it. Established connections always pass. Other systems than
//! Linux have no such filter and do without.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use buslane_shared::mark::{KNOCK_AT, Knock};
use socket2::Socket;

use super::ids::CurrentKnock;

#[cfg(target_os = "linux")]
mod program;

/// Who is heard at a port.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hearing {
    /// How those knock who were here before. At most 64.
    pub knocks: Vec<Knock>,
    /// The share of the first packets of those who knock that is heard; 1: all.
    pub known: f64,
    /// The same of all others; 0: none of them.
    pub strangers: f64,
}

impl Hearing {
    /// Whether nothing is to be dropped.
    fn is_everybody(&self) -> bool {
        self.known >= 1.0 && self.strangers >= 1.0
    }
}

/// Which first packets have come as far as the process.
#[derive(Debug, Default)]
pub(super) struct Heard {
    knocks: ArcSwap<Vec<Knock>>,
    known: AtomicU64,
    strangers: AtomicU64,
}

impl Heard {
    /// A first packet with this id has come.
    pub(super) fn on_first(&self, id: &[u8]) {
        let knock = id.get(KNOCK_AT..).and_then(|rest| rest.first_chunk());
        let is_known = knock.is_some_and(|knock: &Knock| self.knocks.load().contains(knock));
        let count = if is_known { &self.known } else { &self.strangers };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Which knocks a port hears, and with which its own connection ids begin.
#[derive(Debug)]
pub struct Knocks {
    pub(super) socket: Socket,
    pub(super) current: Arc<CurrentKnock>,
    pub(super) heard: Arc<Heard>,
}

impl Knocks {
    /// New connection ids of this port begin with this from now on.
    pub fn announce(&self, knock: Option<Knock>) {
        self.current.set(knock);
    }

    /// From now on only those are heard, and established connections. Ids that were given out with other knocks count as strangers'
    /// in a handshake.
    pub fn hear(&self, hearing: &Hearing) -> io::Result<()> {
        self.heard.knocks.store(Arc::new(hearing.knocks.clone()));
        if hearing.is_everybody() { detach(&self.socket) } else { attach(&self.socket, hearing) }
    }

    /// First packets that have come since this was asked last: of those who knock, and of others.
    pub fn take_heard(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.heard.known), take(&self.heard.strangers))
    }
}

#[cfg(not(target_os = "linux"))]
fn attach(_: &Socket, _: &Hearing) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn detach(_: &Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn detach(socket: &Socket) -> io::Result<()> {
    match socket.detach_filter() {
        // There was none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(target_os = "linux")]
fn attach(socket: &Socket, hearing: &Hearing) -> io::Result<()> {
    socket.attach_filter(&program::new(hearing))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use buslane_shared::mark::MARK_BYTES;

    use super::*;

    fn long(knock: Knock) -> Vec<u8> {
        let id = [&[9][..], &knock, &[0; MARK_BYTES - 4]].concat();
        [&[0xc0, 0, 0, 0, 1, MARK_BYTES as u8][..], &id, &[0; 100]].concat()
    }

    fn knocks(socket: &UdpSocket) -> Knocks {
        Knocks { socket: socket.try_clone().unwrap().into(), current: Arc::default(), heard: Arc::default() }
    }

    fn only(knocks: &[Knock]) -> Hearing {
        Hearing { knocks: knocks.into(), known: 1.0, strangers: 0.0 }
    }

    /// The first bytes of what comes out, up to the last packet, which is a short one.
    fn heard(hearing: &Hearing, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let knocks = knocks(&server);
        knocks.hear(&only(&[[0; 3]])).unwrap();
        knocks.hear(hearing).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let last = vec![0x40, 1];
        for packet in packets.iter().chain([&last]) {
            client.send_to(packet, server.local_addr().unwrap()).unwrap();
        }
        let mut buffer = [0; 2_000];
        let mut heard = Vec::new();
        loop {
            let len = server.recv(&mut buffer).unwrap();
            if buffer[..len] == last {
                return heard;
            }
            heard.push(buffer[..len].to_vec());
        }
    }

    #[test]
    fn who_does_not_knock_is_not_heard() {
        let accepted: [Knock; 4] = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 1]];
        let right: Vec<Vec<u8>> = accepted.into_iter().map(long).collect();
        let wrong: Vec<Vec<u8>> = [[1, 2, 4], [0, 0, 0], [255, 255, 255], [2, 2, 3]].map(long).into();
        let short = [vec![0x7f; 40], vec![0x41]];
        let tiny = [vec![0xc0, 0, 0, 0, 1], vec![0xc0]];
        let all = [&right[..], &wrong, &short, &tiny].concat();
        assert_eq!(heard(&only(&accepted), &all), [&right[..], &short].concat());
        assert_eq!(heard(&only(&[]), &all), short);
    }

    #[test]
    fn a_flood_without_the_knock_stays_outside() {
        let flood: Vec<Vec<u8>> =
            (0u16..2_000).map(|n| long([3, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
        assert_eq!(heard(&only(&[[1, 2, 3]]), &flood).len(), 0, "of {}", flood.len());
    }

    #[test]
    fn a_share_of_first_packets_is_heard_and_every_other_packet() {
        let known: Knock = [1, 2, 3];
        let firsts: Vec<Vec<u8>> = (0..2_000).map(|_| long(known)).collect();
        let strangers: Vec<Vec<u8>> = (0..2_000).map(|_| long([9, 9, 9])).collect();
        // Of kind Handshake: goes on with what was let in.
        let going_on: Vec<Vec<u8>> = (0..100)
            .map(|_| {
                let mut packet = long(known);
                packet[0] = 0xe0;
                packet
            })
            .collect();
        let hearing = Hearing { knocks: vec![known], known: 0.5, strangers: 0.1 };
        // In two parts: 4,000 packets are more than a usual receive buffer holds.
        let half = |packets: &[Vec<u8>]| heard(&hearing, packets).len();
        let known_heard: usize = firsts.chunks(200).map(half).sum();
        assert!((850..1_150).contains(&known_heard), "{known_heard} of 2,000 with a share of a half");
        let strangers_heard: usize = strangers.chunks(200).map(half).sum();
        assert!((120..290).contains(&strangers_heard), "{strangers_heard} of 2,000 with a share of a tenth");
        assert_eq!(heard(&hearing, &going_on).len(), 100);
    }

    #[test]
    fn everybody_is_heard_where_nothing_is_to_be_dropped() {
        let everybody = Hearing { knocks: vec![[1, 2, 3]], known: 1.0, strangers: 1.0 };
        let all = [long([1, 2, 3]), long([4, 5, 6]), vec![0x41]];
        assert_eq!(heard(&everybody, &all), all);
    }

    #[test]
    fn what_came_is_counted_by_who_it_is() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let knocks = knocks(&server);
        knocks.hear(&only(&[[1, 2, 3]])).unwrap();
        for id in [&[0, 1, 2, 3, 5][..], &[0, 1, 2, 4], &[], &[0, 1, 2, 3]] {
            knocks.heard.on_first(id);
        }
        assert_eq!((knocks.take_heard(), knocks.take_heard()), ((2, 2), (0, 0)));
    }
}
