//! The reading end of a QUIC stream, as frames.
//!
//! Reading is cancel-safe: a chunk is either with the peer's stream or in the decoder, never in a dropped future.

use buslane_shared::frame::FrameDecoder;
use buslane_shared::limits::SERVER_FRAME_BYTES_MAX;
use prost::Message;

use crate::error::Error;

/// Largest piece taken from a stream at once: a burst of some hundred answers, handled per wake-up.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader {
    stream: quinn::RecvStream,
    decoder: FrameDecoder,
}

impl FrameReader {
    /// Reads what the server sends on `stream`.
    pub fn new(stream: quinn::RecvStream) -> Self {
        Self { stream, decoder: FrameDecoder::new(SERVER_FRAME_BYTES_MAX) }
    }

    /// Waits for bytes and takes them over; false: the stream has ended between two frames.
    pub async fn fill(&mut self) -> Result<bool, Error> {
        match self.stream.read_chunk(CHUNK_BYTES, true).await {
            Ok(Some(chunk)) => {
                self.decoder.push(&chunk.bytes);
                Ok(true)
            }
            Ok(None) if self.decoder.is_mid_frame() => {
                Err(Error::protocol("the stream ended inside a frame"))
            }
            Ok(None) => Ok(false),
            Err(quinn::ReadError::ConnectionLost(error)) => Err(error.into()),
            Err(error) => Err(Error::unreachable(error)),
        }
    }

    /// The next frame that is there already.
    pub fn ready<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        self.decoder.next_message().map_err(Error::protocol)
    }

    /// Waits for the next frame; `None`: the stream has ended.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Error> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }
}
