//! A socket that looks at every first packet before the QUIC stack does.
//!
//! Why it exists: what the stack does for a first packet costs some 8 us even when it then ignores it, looking costs a fraction of
//! one. Packets of established connections and those that carry an id of ours go through untouched; who may begin a connection
//! is said by the [`Screen`]. It must never allocate for a packet that it drops, and never let the stack see one half
//! of a datagram.

use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buslane_shared::put_off::PutOff;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Instant;

use super::close;
use super::farewell::is_farewell;
use super::held::Held;
use super::ids::Ids;
use super::knocks::Heard;
use super::packet::{FIRST_BYTES_MIN, Long, Seen, VERSION};

/// A packet that wants to begin a connection.
#[derive(Debug, Clone, Copy)]
pub struct FirstPacket<'a> {
    /// The connection id that the client chose for the server: the place of a mark.
    pub id: &'a [u8],
    /// Where it came from, by its own word.
    pub from: SocketAddr,
    /// Whether there is room to hold it.
    pub can_be_held: bool,
    /// When it came, if it was held since then.
    pub held_since: Option<Instant>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The QUIC stack may have it.
    Through,
    /// It is dropped, without a word.
    Drop,
    /// It is told when to come back.
    PutOff(PutOff),
    /// It is kept until then, and judged again.
    Hold(Instant),
}

/// Who may begin a connection at a port. Asked for every first packet, so it must be quick and must not block. The same
/// packet may come again, and a handshake may begin with two packets that carry one id.
pub trait Screen: Send + Sync + Debug + 'static {
    /// Decides.
    fn judge(&self, first: &FirstPacket<'_>) -> Passage;
}

/// The socket.
#[derive(Debug)]
pub(super) struct Screened {
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    pub(super) ids: Ids,
    pub(super) screen: Arc<dyn Screen>,
    pub(super) heard: Arc<Heard>,
    pub(super) held: Held,
}

impl Screened {
    /// Takes what is to be dropped out of a buffer, which holds datagrams of `stride` bytes, the last one maybe shorter.
    fn sift(&self, buffer: &mut [u8], meta: &mut RecvMeta, held_since: Option<Instant>) {
        let (stride, len) = (meta.stride.max(1), meta.len.min(buffer.len()));
        let (mut at, mut kept) = (0, 0);
        while at < len {
            let end = (at + stride).min(len);
            let goes_through =
                buffer.get(at..end).is_some_and(|datagram| self.admits(datagram, meta, held_since));
            if goes_through {
                if kept != at {
                    buffer.copy_within(at..end, kept);
                }
                kept += end - at;
            }
            at = end;
        }
        meta.len = kept;
    }

    fn admits(&self, datagram: &[u8], meta: &RecvMeta, held_since: Option<Instant>) -> bool {
        let long = match Seen::read(datagram) {
            Seen::Short => return true,
            Seen::Broken => return false,
            Seen::Long(long) => long,
        };
        if self.ids.is_own(long.to) {
            return true;
        }
        if !long.may_be_first() || datagram.len() < FIRST_BYTES_MIN {
            return false;
        }
        if held_since.is_none() {
            self.heard.on_first(long.to);
        }
        let first = FirstPacket {
            id: long.to,
            from: meta.addr,
            can_be_held: self.held.has_room(datagram.len()),
            held_since,
        };
        match self.screen.judge(&first) {
            // A goodbye is not held.
            Passage::Through => held_since.is_some() || !is_farewell(datagram, &long),
            Passage::Drop => false,
            Passage::Hold(until) => {
                if held_since.is_some() || !is_farewell(datagram, &long) {
                    self.held.keep(datagram, meta, held_since.unwrap_or_else(Instant::now), until);
                }
                false
            }
            Passage::PutOff(put_off) => {
                self.answer(&long, &put_off, meta);
                false
            }
        }
    }

    /// An answer that does not leave at once is not worth to be kept: the client asks again.
    fn answer(&self, first: &Long<'_>, put_off: &PutOff, meta: &RecvMeta) {
        let supported = first.version == VERSION;
        let Some(datagram) = supported.then(|| close::put_off(first, put_off)).flatten() else { return };
        let _ = self.socket.try_send(&Transmit {
            destination: meta.addr,
            ecn: None,
            contents: &datagram,
            segment_size: None,
            src_ip: meta.dst_ip,
        });
    }
}

impl AsyncUdpSocket for Screened {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let released = self.held.take(Instant::now(), bufs, meta);
            let received = if !released.is_empty() {
                released.len()
            } else if let Poll::Ready(received) = self.socket.poll_recv(cx, bufs, meta)? {
                received
            } else {
                ready!(self.held.poll_due(cx));
                continue;
            };
            for (n, (buffer, meta)) in bufs.iter_mut().zip(meta.iter_mut()).take(received).enumerate() {
                self.sift(buffer, meta, released.get(n).copied());
            }
            return Poll::Ready(Ok(received));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests;
