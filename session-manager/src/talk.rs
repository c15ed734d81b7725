//! The reading half of a talk stream: bytes to frames, and the time that a frame may take.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use buslane_shared::frame::{FrameDecoder, FrameError};
use buslane_shared::limits::FRAME_BYTES_MAX;
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use prost::Message;
use quinn::{ReadError, RecvStream};
use tokio::time::Instant;

use crate::goodbye;

/// Bytes taken from the connection at a time: a few packets, and a frame of the largest size in four steps.
const CHUNK_BYTES: usize = 16 * 1024;

/// What came from the client.
pub(crate) enum Heard {
    /// A frame, and its length.
    Frame(wire::ClientFrame, usize),
    /// The client has finished the stream.
    End,
}

/// What is wrong with a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The bytes are no frames.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The connection or the stream is gone.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Broken {
    /// The code that tells the client, where there is one to be told.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Frame(FrameError::TooLarge { .. }) => Some(Code::TooLarge),
            Self::Frame(FrameError::Malformed(_)) | Self::Truncated => Some(Code::Malformed),
            Self::Read(_) => None,
        }
    }
}

/// A stream of client frames.
pub(crate) struct Talk {
    recv: RecvStream,
    decoder: FrameDecoder,
    ended: bool,
    /// When the frame began that is not complete yet.
    begun: Option<Instant>,
}

impl Talk {
    /// Reads frames of at most `frame_max` bytes.
    pub(crate) fn new(recv: RecvStream, frame_max: usize) -> Self {
        Self { recv, decoder: FrameDecoder::new(frame_max), ended: false, begun: None }
    }

    /// The client has shown a ticket: frames may have their full size.
    pub(crate) fn trust(&mut self) {
        self.decoder.raise_max(FRAME_BYTES_MAX);
    }

    /// The next frame. After the end it is never ready again.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Heard, Broken>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                let len = frame.len();
                self.begun = None;
                let frame =
                    wire::ClientFrame::decode(frame).map_err(|e| FrameError::Malformed(e.to_string()))?;
                return Poll::Ready(Ok(Heard::Frame(frame, len)));
            }
            if self.ended {
                return Poll::Pending;
            }
            let chunk = pin!(self.recv.read_chunk(CHUNK_BYTES, true)).poll(cx);
            match chunk {
                Poll::Ready(Ok(Some(chunk))) => self.decoder.push(&chunk.bytes),
                Poll::Ready(Ok(None)) if self.decoder.is_mid_frame() => {
                    return Poll::Ready(Err(Broken::Truncated));
                }
                Poll::Ready(Ok(None)) => {
                    self.ended = true;
                    return Poll::Ready(Ok(Heard::End));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    if self.decoder.is_mid_frame() {
                        self.begun.get_or_insert_with(Instant::now);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// The next frame, for those who have nothing else to do.
    pub(crate) async fn next(&mut self) -> Result<Heard, Broken> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// When a frame that has begun must be complete.
    pub(crate) fn frame_due(&self, limit: Duration) -> Option<Instant> {
        self.begun.map(|begun| begun + limit)
    }

    /// Nothing is read for a while: the time of a frame that has begun counts anew from the next reading.
    pub(crate) fn pause(&mut self) {
        self.begun = None;
    }

    /// Tells the client to send nothing more on this stream.
    pub(crate) fn stop(&mut self, code: Code) {
        // An error means that the stream is over already.
        let _ = self.recv.stop(goodbye::number(code));
    }
}
