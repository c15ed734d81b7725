//! What a client does once it is in: one request, a while, and goodbye.

use std::time::{Duration, Instant};

use buslane_client::Error;
use buslane_client::raw::Session;
use buslane_shared::wire::{self, request};

use crate::storm::net::Turned;
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

/// Stays for a while, and leaves. How the session had ended before, if it had.
pub async fn stay_and_leave(session: Box<Session>, stay: Duration) -> Option<Ended> {
    let ended = tokio::time::timeout(stay, session.connection.closed()).await.ok();
    session.close();
    ended.map(|how| Ended::of(&Turned::from(how)))
}

/// How a session ended that its client would have kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The server ended it, and this is the name of its code.
    Closed(&'static str),
    /// Because it was being stopped.
    Drained,
    /// Nobody said anything.
    Broken,
}

impl Ended {
    fn of(said: &Turned) -> Self {
        match said {
            Turned::Refused { name: "draining", .. } => Self::Drained,
            Turned::Refused { .. } | Turned::PutOff { .. } => Self::Closed(said.name()),
            Turned::Silence | Turned::Failed(_) => Self::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_wanted_is_its_doing() {
        let refused = |name| Turned::Refused { name, retry_after: None };
        assert_eq!(Ended::of(&refused("draining")), Ended::Drained);
        assert_eq!(Ended::of(&refused("disconnected")), Ended::Closed("disconnected"));
        assert_eq!(Ended::of(&Turned::Failed("reset")), Ended::Broken);
        assert_eq!(Ended::of(&Turned::Silence), Ended::Broken);
    }
}
