//! The body of an answer, line by line as it comes, each up to a bound.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::unreachable;
use crate::failure::Failure;

/// Longest line of an answer: three hours of traffic are one line, and take less than half of this.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest text that is read as a whole: an incident with its whole timeline takes less.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The lines of a body, as they come.
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to have no end of a line.
    seen: usize,
    ended: bool,
}

impl Lines {
    /// Of an answer.
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), seen: 0, ended: false }
    }

    /// The next line without its end; `None`: there is no more.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(at) = self.buffer.iter().skip(self.seen).position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.seen + at + 1);
                self.seen = 0;
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            self.seen = self.buffer.len();
            if self.seen > LINE_BYTES_MAX {
                return Err(unreachable(
                    "the answer is longer than any of this version: use the same one on both sides",
                ));
            }
            if self.ended {
                let rest = self.buffer.split();
                self.seen = 0;
                return Ok((!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => {
                    return Err(unreachable("the server went away in the middle of its answer: see its log"));
                }
                None => self.ended = true,
            }
        }
    }

    /// All of it.
    pub async fn text(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        while let Some(line) = self.next().await? {
            text.push_str(&line);
            text.push('\n');
            if text.len() > TEXT_BYTES_MAX {
                break;
            }
        }
        Ok(text)
    }
}
