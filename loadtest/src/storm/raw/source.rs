//! Where raw packets come from: sockets with addresses of their own, so that a server's limits for each address see many
//! clients.
//!
//! It must never use the addresses of phones, whose share would be used up with them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Kernel buffers of a socket: answers wait there until it is their turn to be counted.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Who sends: each kind of traffic has loopback addresses of its own, 127.255.0.0 and up; those of phones end before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A flood.
    Flood,
    /// Clients that fall silent.
    Silent,
}

impl Sender {
    fn base(self) -> Ipv4Addr {
        match self {
            Self::Flood => Ipv4Addr::new(127, 255, 0, 1),
            Self::Silent => Ipv4Addr::new(127, 255, 128, 1),
        }
    }
}

/// Sockets that do not block, each with its own address if the target is on loopback, otherwise with its own port only.
pub fn bind(sender: Sender, count: u16, to: SocketAddr) -> io::Result<Vec<UdpSocket>> {
    (0..count).map(|n| bind_one(sender, n, to)).collect()
}

fn bind_one(sender: Sender, n: u16, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match to.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let own = Ipv4Addr::from(u32::from(sender.base()) + u32::from(n));
            // Linux answers on all of 127/8; elsewhere there is only the one.
            UdpSocket::bind((own, 0)).or_else(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
        }
        IpAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }?;
    socket.set_nonblocking(true)?;
    let sized = socket2::SockRef::from(&socket);
    // Best effort: the system may allow less.
    let _ = sized.set_recv_buffer_size(BUFFER_BYTES);
    let _ = sized.set_send_buffer_size(BUFFER_BYTES);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_socket_has_an_address_of_its_own() {
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, 4433).into();
        let mut seen = HashSet::new();
        for sender in [Sender::Flood, Sender::Silent] {
            for socket in bind(sender, 20, to).unwrap() {
                let IpAddr::V4(ip) = socket.local_addr().unwrap().ip() else { panic!() };
                assert!(ip.is_loopback() && ip.octets()[1] == 255 && seen.insert(ip), "{ip}");
            }
        }
        assert_eq!(seen.len(), 40);
    }
}
