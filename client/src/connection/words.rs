//! What the server is told without being asked: marks, the state of the app, and how far events were taken over.

use std::time::{Duration, Instant};

use buslane_shared::frame::encode;
use buslane_shared::id::RoomId;
use buslane_shared::wire::{self, client_frame, request::Op};

use crate::error::millis;
use crate::marks::{self, Mark};

use super::{Connection, Purpose};

/// Events taken over before the server is told at once; below it the word waits for company.
const SEEN_AT_ONCE: u64 = 32;

/// How long the word about fewer events waits.
pub(super) const SEEN_DELAY: Duration = Duration::from_millis(200);

impl Connection<'_> {
    pub(super) fn tell_app_state(&mut self) {
        let state = *self.core.app_state.lock();
        if state != self.told_app_state {
            self.told_app_state = state;
            let op = Op::SetAppState(wire::SetAppState { state: wire::AppState::from(state).into() });
            self.ask_server(op, Purpose::AppState);
        }
    }

    pub(super) fn tell_marks(&mut self, now: Instant) {
        let batch = self.core.marks.lock().take(now);
        if !batch.is_empty() {
            self.ask_server(marks::request(&batch), Purpose::Mark(batch));
        }
    }

    /// A batch is taken whole or not at all: one room that is closed to the user must not hold up the others.
    pub(super) fn on_mark_refused(&mut self, mut batch: Vec<(RoomId, Mark)>, refusal: &wire::Refusal) {
        if refusal.retryable {
            self.put_marks_back(&batch);
            if let Some(wait) = millis(refusal.retry_after_ms) {
                self.core.marks.lock().hold_until(Instant::now() + wait);
            }
        } else if batch.len() > 1 {
            let half = batch.split_off(batch.len() / 2);
            for part in [batch, half] {
                self.ask_server(marks::request(&part), Purpose::Mark(part));
            }
        }
    }

    pub(super) fn put_marks_back(&self, batch: &[(RoomId, Mark)]) {
        for (room, mark) in batch {
            self.core.mark(*room, *mark);
        }
    }

    /// Events are taken over as soon as they are here: what does not reach the app from here does so from the log.
    pub(super) fn tell_seen(&mut self, now: Instant) {
        if self.seen == self.seen_told {
            return;
        }
        let waited = now >= *self.seen_since.get_or_insert(now) + SEEN_DELAY;
        if waited || self.seen - self.seen_told >= SEEN_AT_ONCE || !self.out.is_empty() {
            self.seen_told = self.seen;
            self.seen_since = None;
            let kind = client_frame::Kind::Seen(self.seen);
            encode(&wire::ClientFrame { kind: Some(kind) }, &mut self.out);
        }
    }
}
