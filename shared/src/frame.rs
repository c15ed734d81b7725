//! Frames on a QUIC stream: a length as four bytes, big-endian, then one protobuf message.
//!
//! The decoder is total: whatever bytes a peer sends, it yields frames, asks for more, or says what is wrong. It never
//! allocates for a length that it has not checked, and holds at most one frame that is incomplete.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes of the length in front of each frame.
pub const PREFIX_BYTES: usize = 4;

/// What is wrong with the bytes of a stream. The stream cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length says more than the cap.
    #[error("a frame of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Announced length in bytes.
        len: usize,
        /// The cap in bytes.
        max: usize,
    },
    /// The bytes of a whole frame are not the expected protobuf message.
    #[error("a frame does not decode: {0}")]
    Malformed(String),
}

/// Splits the bytes of one stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max: usize,
}

impl FrameDecoder {
    /// A decoder that accepts frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    /// Changes the cap from the next frame on (it is raised once a ticket is verified).
    pub fn raise_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Takes over the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame, without its length; `None`: more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > self.max {
            return Err(FrameError::TooLarge { len, max: self.max });
        }
        if self.buffer.len() < PREFIX_BYTES + len {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let frame = self.buffer.split_to(len).freeze();
        if self.buffer.is_empty() {
            // An idle session keeps no buffer; the frame holds the memory until it is dropped.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// The next whole frame, decoded.
    pub fn next_message<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        match self.next_frame()? {
            None => Ok(None),
            Some(frame) => M::decode(frame).map(Some).map_err(|e| FrameError::Malformed(e.to_string())),
        }
    }

    /// True while a frame has begun and not ended: a stream that ends now was truncated.
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// Appends `message` as one frame.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) {
    let len = message.encoded_len();
    out.reserve(PREFIX_BYTES + len);
    out.put_u32(len as u32);
    message.encode_raw(out);
}

/// `message` as one frame.
pub fn frame<M: Message>(message: &M) -> Bytes {
    let mut out = BytesMut::new();
    encode(message, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use proptest::prelude::*;

    fn cancel(id: u64) -> wire::ClientFrame {
        wire::ClientFrame { kind: Some(wire::client_frame::Kind::Cancel(id)) }
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_frames(ids in proptest::collection::vec(any::<u64>(), 0..20), cut in 1usize..9) {
            let mut bytes = BytesMut::new();
            for id in &ids {
                encode(&cancel(*id), &mut bytes);
            }
            let mut decoder = FrameDecoder::new(64);
            let mut seen = Vec::new();
            for chunk in bytes.chunks(cut) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_message::<wire::ClientFrame>().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, ids.into_iter().map(cancel).collect::<Vec<_>>());
            prop_assert!(!decoder.is_mid_frame());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_pile_up(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut decoder = FrameDecoder::new(128);
            for chunk in bytes.chunks(7) {
                decoder.push(chunk);
                loop {
                    match decoder.next_message::<wire::ClientFrame>() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(decoder.buffer.len() < PREFIX_BYTES + 128);
            }
        }
    }

    #[test]
    fn a_length_over_the_cap_is_refused_before_its_bytes_come() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&11u32.to_be_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { len: 11, max: 10 }));
    }

    #[test]
    fn a_truncated_stream_is_noticed() {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(&[0, 0]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.is_mid_frame());
    }
}
