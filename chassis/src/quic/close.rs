//! A "not now" to a client that has sent one packet: an Initial packet that closes the connection (RFC 9000, 10.2.3).
//!
//! Its keys come from the client's own first connection id, so no handshake is needed: it costs what refusing costs. The error is
//! CONNECTION_REFUSED, and the reason says when to come back (`buslane_shared::put_off`). A packet of ours is
//! far smaller than the client's, so that nothing is amplified.

use buslane_shared::put_off::{PutOff, REASON_BYTES_MAX};
use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{DirectionalKeys, Suite, Version};

use super::packet::Long;

/// First byte: long header, Initial, a packet number of one byte.
const FIRST: u8 = 0xc0;
const CLOSE: u8 = 0x1c;
const CONNECTION_REFUSED: u8 = 0x02;
const PACKET_NUMBER: u8 = 0;

/// Bytes of payload that header protection leaves out before its sample.
const SAMPLE_AT: usize = 3;

/// The whole datagram. `None`: there is no such thing for this packet.
pub(super) fn put_off(first: &Long<'_>, put_off: &PutOff) -> Option<Vec<u8>> {
    let keys = suite()?.keys(first.to, Side::Server, Version::V1);
    let reason = put_off.to_string();
    let reason = reason.as_bytes().get(..REASON_BYTES_MAX).unwrap_or(reason.as_bytes());
    // Error and frame type fit one byte, the length of the reason two.
    let mut payload = vec![CLOSE, CONNECTION_REFUSED, 0];
    payload.extend(varint(reason.len())?);
    payload.extend(reason);
    protect(first, &mut payload, &keys.local)
}

fn protect(first: &Long<'_>, payload: &mut [u8], keys: &DirectionalKeys) -> Option<Vec<u8>> {
    let mut datagram = header(first, 1 + payload.len() + keys.packet.tag_len())?;
    let number_at = datagram.len();
    datagram.push(PACKET_NUMBER);
    let tag = keys.packet.encrypt_in_place(PACKET_NUMBER.into(), &datagram, payload).ok()?;
    datagram.extend_from_slice(payload);
    datagram.extend_from_slice(tag.as_ref());
    let (head, body) = datagram.split_at_mut_checked(number_at + 1)?;
    let sample = body.get(SAMPLE_AT..)?.get(..keys.header.sample_len())?;
    let (number, head) = head.split_last_mut()?;
    let number = std::slice::from_mut(number);
    keys.header.encrypt_in_place(sample, head.first_mut()?, number).ok()?;
    Some(datagram)
}

/// Up to the packet number. The client's id comes back to it, and we need none.
fn header(first: &Long<'_>, length: usize) -> Option<Vec<u8>> {
    let mut header = vec![FIRST];
    header.extend(first.version.to_be_bytes());
    header.push(u8::try_from(first.from.len()).ok()?);
    header.extend(first.from);
    let (no_id, no_token) = (0, 0);
    header.extend([no_id, no_token]);
    header.extend(varint(length)?);
    Some(header)
}

/// A variable-length integer of two bytes (RFC 9000, 16).
fn varint(number: usize) -> Option<[u8; 2]> {
    let number = u16::try_from(number).ok().filter(|n| *n < 1 << 14)?;
    Some((number | 1 << 14).to_be_bytes())
}

fn suite() -> Option<Suite> {
    TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()
}
