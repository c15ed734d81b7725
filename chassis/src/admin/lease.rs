//! The right that a request was let in with, and its end.
//!
//! Why it exists: a right may be taken back while a stream is open that was opened with it. It must never let anything outlive it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use buslane_shared::UnixMs;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::principal::Principal;
use crate::clock;

/// The wall clock may be set: the end of a right is never missed by more than this.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A right.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// Who has it.
    pub(super) principal: Principal,
    /// Cancelled when it is taken back.
    pub(super) alive: CancellationToken,
    /// When it ends by itself.
    pub(super) expires_ms: Option<UnixMs>,
    /// What a page must send with what it changes.
    pub(super) csrf: Option<String>,
}

impl Lease {
    /// Whether it holds.
    pub(super) fn holds(&self, now_ms: UnixMs) -> bool {
        !self.alive.is_cancelled() && self.expires_ms.is_none_or(|end| now_ms < end)
    }

    /// The answer, which ends with the right if it is a stream.
    pub(super) fn bounds(self, answer: Response) -> Response {
        let kind = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
            return answer;
        }
        answer.map(|body| Body::from_stream(body.into_data_stream().take_until(self.over())))
    }

    async fn over(self) {
        while self.holds(clock::unix_ms()) {
            let left_ms = self.expires_ms.map(|end| end.saturating_sub(clock::unix_ms()));
            let left = left_ms.map_or(LOOK_EVERY, |left_ms| Duration::from_millis(left_ms).min(LOOK_EVERY));
            // Either way it is looked at again.
            let _ = tokio::time::timeout(left, self.alive.cancelled()).await;
        }
    }
}
