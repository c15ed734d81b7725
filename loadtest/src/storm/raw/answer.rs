//! What a server answers to a first packet, as far as it shows without a key.

use super::initial::{OWN_ID_BYTES, PACKET_BYTES};

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
const KIND: u8 = 0x30;
const INITIAL: u8 = 0x00;
const HANDSHAKE: u8 = 0x20;
const RETRY: u8 = 0x30;

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server goes on with the handshake, or has ended its own part and speaks already: it has paid for this client.
    Handshake,
    /// The client is to show that its address is its own.
    Retry,
    /// It is sent away. An Initial that asks for an acknowledgement fills its datagram (RFC 9000, 14.1), so what is smaller
    /// can only close.
    Close,
    /// The server speaks other versions.
    Versions,
    /// None of these.
    Other,
}

/// The kind of a datagram.
pub fn kind(datagram: &[u8]) -> Kind {
    match datagram {
        [first, 0, 0, 0, 0, ..] if first & LONG != 0 => Kind::Versions,
        [first, 0, 0, 0, 1, ..] if first & LONG != 0 => match first & KIND {
            INITIAL if datagram.len() < PACKET_BYTES => Kind::Close,
            INITIAL | HANDSHAKE => Kind::Handshake,
            RETRY => Kind::Retry,
            _ => Kind::Other,
        },
        [first, ..] if first & (LONG | FIXED) == FIXED => Kind::Handshake,
        _ => Kind::Other,
    }
}

/// The id of the client that a datagram is for, where it is one of ours.
pub fn recipient(datagram: &[u8]) -> Option<[u8; OWN_ID_BYTES]> {
    let (&[first, _, _, _, _, length], behind) = datagram.split_first_chunk()?;
    let is_ours = first & LONG != 0 && usize::from(length) == OWN_ID_BYTES;
    is_ours.then(|| behind.first_chunk().copied())?
}

/// Answers in datagrams, by kind, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Of handshakes that the server goes on with.
    pub handshake: u64,
    /// Of which the client is to show that its address is its own.
    pub retry: u64,
    /// That send the client away.
    pub close: u64,
    /// That name other versions.
    pub versions: u64,
    /// Anything else.
    pub other: u64,
    /// All of them together.
    pub bytes: u64,
}

impl Answers {
    /// Counts one.
    pub fn on_answer(&mut self, datagram: &[u8]) {
        let counter = match kind(datagram) {
            Kind::Handshake => &mut self.handshake,
            Kind::Retry => &mut self.retry,
            Kind::Close => &mut self.close,
            Kind::Versions => &mut self.versions,
            Kind::Other => &mut self.other,
        };
        *counter += 1;
        self.bytes += datagram.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_form() {
        let long = |first: u8, version: u8, bytes: usize| {
            let mut datagram = vec![first, 0, 0, 0, version, 8, 1, 2, 3, 4, 5, 6, 7, 8];
            datagram.resize(bytes, 0);
            datagram
        };
        let cases = [
            (long(0xc0, 1, 1_200), Kind::Handshake),
            (long(0xc1, 1, 90), Kind::Close),
            (long(0xe0, 1, 700), Kind::Handshake),
            (long(0xf0, 1, 80), Kind::Retry),
            (long(0xd0, 1, 80), Kind::Other),
            (long(0x80, 0, 30), Kind::Versions),
            (long(0xc0, 7, 1_200), Kind::Other),
            (long(0x40, 1, 40), Kind::Handshake),
            (long(0x20, 1, 40), Kind::Other),
            (Vec::new(), Kind::Other),
        ];
        let mut answers = Answers::default();
        for (datagram, expected) in &cases {
            assert_eq!(kind(datagram), *expected, "{datagram:?}");
            answers.on_answer(datagram);
        }
        let bytes = cases.iter().map(|(datagram, _)| datagram.len() as u64).sum();
        let counted = Answers { handshake: 3, retry: 1, close: 1, versions: 1, other: 4, bytes };
        assert_eq!(answers, counted);
    }

    #[test]
    fn an_answer_names_its_client() {
        let datagram = [0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
        assert_eq!(recipient(&datagram), Some([1, 2, 3, 4, 5, 6, 7, 8]));
        for cut in 0..14 {
            assert_eq!(recipient(&datagram[..cut]), None, "{cut}");
        }
        assert_eq!(recipient(&[0x40; 30]), None);
        assert_eq!(recipient(&[0xc0; 30]), None);
    }
}
