//! The filter in the kernel: packets of a handshake that do not knock never reach the process.
//!
//! A classic BPF program on the socket compares the three bytes in which marks and our own connection ids agree
//! (`buslane_shared::mark`). A flood of strangers then costs the process nothing at all. Whoever has seen a mark can knock, and receive
//! offload may show the program only the first of several packets, so the check in the process stays behind it. Other
//! systems than Linux have no such filter and do without.

use std::io;
use std::sync::Arc;

use buslane_shared::mark::Knock;
use socket2::Socket;

use super::ids::CurrentKnock;

/// Which knocks a port hears, and with which its own connection ids begin.
#[derive(Debug)]
pub struct Knocks {
    pub(super) socket: Socket,
    pub(super) current: Arc<CurrentKnock>,
}

impl Knocks {
    /// New connection ids of this port begin with this from now on.
    pub fn announce(&self, knock: Option<Knock>) {
        self.current.set(knock);
    }

    /// From now on only those are heard who knock in one of these ways; nobody but established connections, if there is none.
    /// Ids that were given out with other knocks are no longer heard in a handshake.
    pub fn hear_only(&self, accepted: &[Knock]) -> io::Result<()> {
        attach(&self.socket, accepted)
    }

    /// From now on everybody is heard.
    pub fn hear_all(&self) -> io::Result<()> {
        detach(&self.socket)
    }
}

#[cfg(not(target_os = "linux"))]
fn attach(_: &Socket, _: &[Knock]) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn detach(_: &Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn detach(socket: &Socket) -> io::Result<()> {
    socket.detach_filter()
}

#[cfg(target_os = "linux")]
fn attach(socket: &Socket, accepted: &[Knock]) -> io::Result<()> {
    socket.attach_filter(&program::new(accepted))
}

#[cfg(target_os = "linux")]
mod program {
    //! The instructions, as in `linux/bpf_common.h`. The program sees the datagram from its UDP header on.

    use buslane_shared::mark::{KNOCK_AT, Knock};
    use socket2::SockFilter;

    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;

    const UDP_HEADER: u32 = 8;
    /// First byte, version, length of the id.
    const ID_AT: u32 = UDP_HEADER + 1 + 4 + 1;
    const LONG: u32 = 0x80;
    const WHOLE: u32 = u32::MAX;

    /// At most this many: jumps go 255 instructions far.
    const KNOCKS_MAX: usize = 64;

    pub(super) fn new(accepted: &[Knock]) -> Vec<SockFilter> {
        let step = |code, argument| SockFilter::new(code, 0, 0, argument);
        let accepted = accepted.get(..KNOCKS_MAX).unwrap_or(accepted);
        // Instructions between here and the last one, which takes the packet.
        let mut ahead = accepted.len() as u8 + 1;
        let mut program = vec![
            step(LOAD_BYTE, UDP_HEADER),
            SockFilter::new(JUMP_IF_SET, 0, ahead + 2, LONG),
            step(LOAD_WORD, ID_AT + KNOCK_AT as u32 - 1),
            step(AND, 0x00ff_ffff),
        ];
        for [a, b, c] in accepted {
            ahead -= 1;
            let knock = u32::from_be_bytes([0, *a, *b, *c]);
            program.push(SockFilter::new(JUMP_IF_EQUAL, ahead, 0, knock));
        }
        program.extend([step(RETURN, 0), step(RETURN, WHOLE)]);
        program
    }
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

    /// The first bytes of what comes out, up to the last packet, which is a short one.
    fn heard(accepted: &[Knock], packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let knocks = Knocks { socket: server.try_clone().unwrap().into(), current: Arc::default() };
        knocks.hear_only(&[[0; 3]]).unwrap();
        knocks.hear_only(accepted).unwrap();
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
        assert_eq!(heard(&accepted, &all), [&right[..], &short].concat());
        assert_eq!(heard(&[], &all), short);
    }

    #[test]
    fn a_flood_without_the_knock_stays_outside() {
        let flood: Vec<Vec<u8>> =
            (0u16..2_000).map(|n| long([3, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
        assert_eq!(heard(&[[1, 2, 3]], &flood).len(), 0, "of {}", flood.len());
    }
}
