//! The form of a sealed record: a clear header that says whose it is and under which key, then the sealed content.
//!
//! `1 version | 4 key epoch | 4 writer epoch | 8 seq | 8 sent at | 16 client id | 1 length | sender | ciphertext | 16 tag`,
//! numbers big-endian. The whole header and the room are additional data of the seal: a record that was altered, moved to
//! another room or another place does not open. The decoder is total: whatever bytes it is given, it never panics.

use aws_lc_rs::aead::NONCE_LEN;
use buslane_shared::UnixMs;
use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::{BufMut, Bytes, BytesMut};

use crate::boundary::{Epoch, StoreError};
use crate::space::damaged;

/// Version of the form. A reader refuses others.
const VERSION: u8 = 1;

/// Bytes of the header before the sender's name.
const FIXED_BYTES: usize = 1 + 4 + 4 + 8 + 8 + 16 + 1;

/// Bytes of the tag at the end.
pub(crate) const TAG_BYTES: usize = 16;

/// Largest content that is sealed: a message of the largest size with all its mentions, and room to spare. It bounds what
/// 4096 records in the queue can weigh.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// Which data key of a room. The newest one seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyEpoch(pub u32);

/// What is known of a record without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The conversation.
    pub room: RoomId,
    /// Its place.
    pub seq: u64,
    /// Who sent it.
    pub sender: UserId,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// When the server took it.
    pub sent_at_ms: UnixMs,
}

/// A record that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRecord {
    /// What was known before.
    pub header: RecordHeader,
    /// The content.
    pub clear: Bytes,
}

/// A record taken apart.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) key_epoch: KeyEpoch,
    pub(crate) writer: Epoch,
    pub(crate) header: RecordHeader,
    /// The header as it stands in the record.
    pub(crate) header_bytes: &'a [u8],
    /// Ciphertext and tag.
    pub(crate) sealed: &'a [u8],
}

/// The header of a record, with room for `content` bytes and the tag behind it.
pub(crate) fn encode_header(
    key_epoch: KeyEpoch,
    writer: Epoch,
    header: &RecordHeader,
    content_bytes: usize,
) -> BytesMut {
    let name = header.sender.as_str().as_bytes();
    let mut out = BytesMut::with_capacity(FIXED_BYTES + name.len() + content_bytes + TAG_BYTES);
    out.put_u8(VERSION);
    out.put_u32(key_epoch.0);
    out.put_u32(writer.0);
    out.put_u64(header.seq);
    out.put_u64(header.sent_at_ms);
    out.put_slice(header.client_id.as_bytes());
    out.put_u8(name.len() as u8); // a user name has at most 64 bytes
    out.put_slice(name);
    out
}

/// Takes a record of `room` apart.
pub(crate) fn decode(room: RoomId, record: &[u8]) -> Result<Parts<'_>, StoreError> {
    split(room, record).ok_or_else(|| damaged(format!("a record of room {room} does not decode")))
}

fn split(room: RoomId, record: &[u8]) -> Option<Parts<'_>> {
    let (version, rest) = record.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (key_epoch, rest) = rest.split_first_chunk::<4>()?;
    let (writer, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (sent_at_ms, rest) = rest.split_first_chunk::<8>()?;
    let (client_id, rest) = rest.split_first_chunk::<16>()?;
    let (name_bytes, rest) = rest.split_first()?;
    let (name, sealed) = rest.split_at_checked(usize::from(*name_bytes))?;
    let header = RecordHeader {
        room,
        seq: u64::from_be_bytes(*seq),
        sender: std::str::from_utf8(name).ok()?.parse().ok()?,
        client_id: ClientId::from_bytes(*client_id),
        sent_at_ms: u64::from_be_bytes(*sent_at_ms),
    };
    let (header_bytes, _) = record.split_at_checked(FIXED_BYTES + name.len())?;
    (sealed.len() >= TAG_BYTES).then_some(Parts {
        key_epoch: KeyEpoch(u32::from_be_bytes(*key_epoch)),
        writer: Epoch(u32::from_be_bytes(*writer)),
        header,
        header_bytes,
        sealed,
    })
}

/// The nonce: unique because an epoch of a shard has one owner, and an owner gives a sequence once.
pub(crate) fn nonce(writer: Epoch, seq: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    let (epoch, place) = nonce.split_at_mut(4);
    epoch.copy_from_slice(&writer.0.to_be_bytes());
    place.copy_from_slice(&seq.to_be_bytes());
    nonce
}

/// The additional data of a record's seal.
pub(crate) fn additional(room: RoomId, header_bytes: &[u8]) -> Vec<u8> {
    [b"buslane record\0", &room.as_bytes()[..], header_bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..3) {
            let bytes = [&[version][..], &bytes].concat();
            let _ = split(RoomId::from_bytes([1; 16]), &bytes);
        }

        #[test]
        fn a_header_reads_back(seq: u64, sent_at_ms: u64, key in 1u32.., writer in 1u32.., id: [u8; 16]) {
            let header = RecordHeader {
                room: RoomId::from_bytes([1; 16]),
                seq,
                sender: "alice".parse().unwrap(),
                client_id: ClientId::from_bytes(id),
                sent_at_ms,
            };
            let mut bytes = encode_header(KeyEpoch(key), Epoch(writer), &header, 0);
            bytes.put_bytes(7, TAG_BYTES);
            let parts = decode(header.room, &bytes).unwrap();
            prop_assert_eq!(&parts.header, &header);
            prop_assert_eq!((parts.key_epoch, parts.writer), (KeyEpoch(key), Epoch(writer)));
            prop_assert_eq!(parts.sealed.len(), TAG_BYTES);
            for cut in 0..bytes.len() {
                prop_assert!(decode(header.room, &bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn nonces_of_different_writers_and_places_differ() {
        let all = [nonce(Epoch(1), 2), nonce(Epoch(2), 1), nonce(Epoch(1), 1), nonce(Epoch(0), 1)];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }
}
