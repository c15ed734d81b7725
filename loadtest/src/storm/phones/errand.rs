//! What a client does once it is in: one request, a while, and goodbye.

use std::time::{Duration, Instant};

use buslane_client::Error;
use buslane_client::raw::Session;
use buslane_shared::wire::{self, request};

use crate::storm::tally::Outcome;

/// How long the answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Asks for the rooms, which every client does first; `due` is when it could.
pub async fn fetch(session: &mut Session, due: Instant) -> (Instant, Outcome) {
    let op = request::Op::ListRooms(wire::ListRooms::default());
    let answer = session.request(1, op, ANSWER_LIMIT).await;
    let now = Instant::now();
    let outcome = match answer {
        Ok(_) => Outcome::Done(now.saturating_duration_since(due)),
        Err(Error::Refused(refused)) => Outcome::Refused(refused.code.name()),
        Err(error) => Outcome::Failed(error.name()),
    };
    (now, outcome)
}

/// Stays for a while, and leaves. True: the server had ended the session before.
pub async fn stay_and_leave(session: Box<Session>, stay: Duration) -> bool {
    let ended = tokio::time::timeout(stay, session.connection.closed()).await.is_ok();
    session.close();
    ended
}
