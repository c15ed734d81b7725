//! The sockets of a flood, used in turns, and what each has sent and got.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::pool::Packet;
use crate::storm::raw::answer::Answers;
use crate::storm::raw::source::{self, Sender};

/// Addresses that a flood comes from: more than a server's limit for one address could stop.
const SOURCES: u16 = 256;

/// Answers that are read from a socket before the others have their turn.
const READ_MAX: usize = 1_024;

/// Longer than any answer to a first packet.
const ANSWER_BYTES_MAX: usize = 2_048;

/// All of them.
pub struct Sources {
    all: Vec<Source>,
    /// Whose turn it was.
    last: usize,
}

struct Source {
    socket: UdpSocket,
    bytes_sent: u64,
    answers: Answers,
}

impl Sources {
    /// Binds them.
    pub fn bind(to: SocketAddr) -> anyhow::Result<Self> {
        let sockets = source::bind(Sender::Flood, SOURCES, to);
        let sockets = sockets.context("no UDP sockets for a flood; `ulimit -n` may be too low")?;
        let source = |socket| Source { socket, bytes_sent: 0, answers: Answers::default() };
        Ok(Self { all: sockets.into_iter().map(source).collect(), last: 0 })
    }

    /// Sends from the next socket. Fewer than there are: the system has no room for more at the moment.
    pub fn send(&mut self, packets: &[Packet]) -> std::io::Result<usize> {
        self.turn();
        match self.all.get_mut(self.last) {
            Some(source) => source.send(packets),
            None => Ok(0),
        }
    }

    /// Counts what has come for the socket that has sent last.
    pub fn read_last(&mut self, answers: &mut Answers) {
        if let Some(source) = self.all.get_mut(self.last) {
            source.read(answers);
        }
    }

    /// Counts what has come for the next socket.
    pub fn read_next(&mut self, answers: &mut Answers) {
        self.turn();
        self.read_last(answers);
    }

    /// Counts what has come for all of them.
    pub fn read_all(&mut self, answers: &mut Answers) {
        for source in &mut self.all {
            source.read(answers);
        }
    }

    /// Bytes sent by all of them.
    pub fn bytes_sent(&self) -> u64 {
        self.all.iter().map(|source| source.bytes_sent).sum()
    }

    /// Bytes received of bytes sent, for the address with the most.
    pub fn amplification(&self) -> Option<f64> {
        let sent = self.all.iter().filter(|source| source.bytes_sent > 0);
        sent.map(|source| source.answers.bytes as f64 / source.bytes_sent as f64).reduce(f64::max)
    }

    fn turn(&mut self) {
        self.last = (self.last + 1) % self.all.len().max(1);
    }
}

impl Source {
    fn send(&mut self, packets: &[Packet]) -> std::io::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            packets.iter().map(|packet| [IoSlice::new(&packet.bytes)]).collect();
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            packets.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<MMsgHdr<'_>> = packets
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((packet, slice), control)| MMsgHdr::new_with_addr(&packet.to, slice, control))
            .collect();
        let sent = match sendmmsg(&self.socket, &mut messages, SendFlags::empty()) {
            Ok(sent) => sent,
            // No room, or what an earlier packet has met.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR | Errno::CONNREFUSED) => 0,
            Err(error) => return Err(error.into()),
        };
        let bytes = packets.iter().take(sent).map(|packet| packet.bytes.len() as u64);
        self.bytes_sent += bytes.sum::<u64>();
        Ok(sent)
    }

    fn read(&mut self, all: &mut Answers) {
        let mut buffer = [0; ANSWER_BYTES_MAX];
        for _ in 0..READ_MAX {
            // Nothing there, or a refusal of the system: both end it for now.
            let Ok(length) = self.socket.recv(&mut buffer) else { return };
            let datagram = buffer.get(..length).unwrap_or_default();
            self.answers.on_answer(datagram);
            all.on_answer(datagram);
        }
    }
}
