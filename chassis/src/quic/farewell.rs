//! A first packet that only says goodbye: a client that has given up waiting closes what it never had.
//!
//! It must not reach the QUIC stack. quinn-proto (0.11.19) makes a connection of any first packet; when that packet closes it, the
//! connection is "draining" without the timer of that state, and its memory is held until the idle limit of the transport, which is
//! half an hour for sessions. In a storm every client that was not answered ends with such a packet. See docs/decisions/0014-a-goodbye-is-not-a-beginning.md.

use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::Version;

use super::packet::{Long, VERSION};

/// Version, and the lengths of both connection ids.
const FIXED_BYTES: usize = 1 + 4 + 1 + 1;

/// Where the sample for header protection begins, behind the packet number.
const SAMPLE_AT: usize = 4;

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const CLOSE: [u8; 2] = [0x1c, 0x1d];

/// Whether an Initial packet of somebody unknown does nothing but close. What cannot be read is somebody else's business.
pub(super) fn is_farewell(datagram: &[u8], first: &Long<'_>) -> bool {
    first.version == VERSION && first_frame(datagram, first).is_some_and(|kind| CLOSE.contains(&kind))
}

/// The kind of the first frame that is no filler.
fn first_frame(datagram: &[u8], first: &Long<'_>) -> Option<u8> {
    let ids_end = FIXED_BYTES + first.to.len() + first.from.len();
    let (token_bytes, rest) = varint(datagram.get(ids_end..)?)?;
    let (length, rest) = varint(rest.get(token_bytes..)?)?;
    let number_at = datagram.len() - rest.len();
    let mut packet = datagram.get(..number_at.checked_add(length)?)?.to_vec();
    let keys =
        TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()?.keys(first.to, Side::Server, Version::V1).remote;
    let (header, body) = packet.split_at_mut_checked(number_at)?;
    let (number, sampled) = body.split_at_mut_checked(SAMPLE_AT)?;
    let sample = sampled.get(..keys.header.sample_len())?;
    keys.header.decrypt_in_place(sample, header.first_mut()?, number).ok()?;
    let number_bytes = usize::from(header.first()? & 0x03) + 1;
    let number = number.get(..number_bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (header, payload) = packet.split_at_mut_checked(number_at + number_bytes)?;
    // The first packets of a connection: what was left out of the number is zero.
    let plain = keys.packet.decrypt_in_place(number, header, payload).ok()?;
    plain.iter().find(|kind| **kind != PADDING && **kind != PING).copied()
}

/// A variable-length integer (RFC 9000, 16), and what stands behind it.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let more = (1usize << (bytes.first()? >> 6)) - 1;
    let (number, rest) = bytes.split_at_checked(1 + more)?;
    let (first, others) = number.split_first()?;
    let value = others.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((usize::try_from(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quic::packet::Seen;

    /// An Initial packet of a client with these frames, padded as it must be.
    fn initial(frames: &[u8], token: &[u8]) -> Vec<u8> {
        let to = [7; 8];
        let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite().unwrap();
        let keys = suite.keys(&to, Side::Client, Version::V1).local;
        let mut payload = frames.to_vec();
        payload.resize(1_200, PADDING);
        let number = [0, 5];
        let length = (number.len() + payload.len() + keys.packet.tag_len()) as u16;
        let mut packet = vec![0xc1, 0, 0, 0, 1, 8];
        packet.extend(to);
        packet.extend([3, 1, 2, 3, token.len() as u8]);
        packet.extend(token);
        packet.extend((length | 0x4000).to_be_bytes());
        let number_at = packet.len();
        packet.extend(number);
        let tag = keys.packet.encrypt_in_place(5, &packet, &mut payload).unwrap();
        packet.extend(&payload);
        packet.extend(tag.as_ref());
        let (head, body) = packet.split_at_mut(number_at + number.len());
        let sample = body[2..][..keys.header.sample_len()].to_vec();
        let (first, rest) = head.split_at_mut(1);
        keys.header.encrypt_in_place(&sample, &mut first[0], &mut rest[number_at - 1..]).unwrap();
        packet
    }

    fn says_goodbye(datagram: &[u8]) -> bool {
        let Seen::Long(long) = Seen::read(datagram) else { return false };
        is_farewell(datagram, &long)
    }

    #[test]
    fn a_goodbye_is_told_from_a_beginning() {
        for (frames, expected) in [
            (&[0x1c, 0, 0, 0][..], true),
            (&[0x1d, 0, 0], true),
            (&[PADDING, PING, 0x1c, 0, 0, 0], true),
            (&[0x06, 0, 4, 1, 2, 3, 4], false),
            (&[PING], false),
            (&[], false),
        ] {
            for token in [&[][..], &[9; 40]] {
                assert_eq!(says_goodbye(&initial(frames, token)), expected, "{frames:x?}");
            }
        }
    }

    #[test]
    fn anything_else_is_left_alone() {
        let mut packet = initial(&[0x1c, 0, 0, 0], &[]);
        for len in 0..packet.len() {
            assert!(!says_goodbye(&packet[..len]), "{len}");
        }
        let last = packet.len() - 1;
        packet[last] ^= 1;
        assert!(!says_goodbye(&packet), "nobody who has the key wrote this");
    }
}
