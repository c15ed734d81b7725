//! The sessions of a crowd are opened before the storm: in pairs that share a room, at a pace that the server takes easily.
//!
//! It must never be a storm itself, nor begin with fewer than were asked for.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use buslane_client::raw::Session;
use buslane_shared::wire::{self, answer, request};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::storm::fleet::Phone;
use crate::storm::net::Net;
use crate::storm::scenario::Side;

/// How long one client is waited for, however often it is put off. Others enrol by the hundred thousand meanwhile, and the server's wake port
/// has little of a processor that is full with that.
const OPEN_LIMIT: Duration = Duration::from_secs(300);

/// How long a room may take, all tries together.
const ROOM_LIMIT: Duration = Duration::from_secs(20);

/// Between two tries where the server named no time.
const PAUSE: Duration = Duration::from_millis(300);

/// A phone with its session and the room that it shares with its neighbour.
#[derive(Debug)]
pub struct Opened {
    /// The phone.
    pub phone: Phone,
    /// Its session.
    pub session: Session,
    /// The room.
    pub room: Bytes,
}

/// Opens all of them, `per_s` a second, and gives each pair to `is_open` as soon as it is there: a session that nobody serves
/// for long would be closed.
pub async fn open_all(
    net: &Rc<Net>,
    phones: Vec<Phone>,
    side: Side,
    per_s: f64,
    mut is_open: impl FnMut(usize, [Opened; 2]),
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut phones = phones.into_iter();
    let mut opening = JoinSet::new();
    let mut number = 0;
    while let (Some(one), Some(other)) = (phones.next(), phones.next()) {
        let due = begin + turn(number, per_s);
        while Instant::now() < due {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                Some(opened) = opening.join_next() => {
                    let (number, pair) = opened??;
                    is_open(number, pair);
                }
            }
        }
        let net = net.clone();
        opening
            .spawn_local(async move { open_pair(&net, one, other, side).await.map(|pair| (number, pair)) });
        number += 1;
    }
    while let Some(opened) = opening.join_next().await {
        let (number, pair) = opened??;
        is_open(number, pair);
    }
    Ok(())
}

/// When a pair is opened, from the beginning.
fn turn(pair: usize, per_s: f64) -> Duration {
    let after_s = 2.0 * pair as f64 / per_s.max(1.0);
    Duration::try_from_secs_f64(after_s).unwrap_or_default()
}

async fn open_pair(net: &Net, mut one: Phone, mut other: Phone, side: Side) -> anyhow::Result<[Opened; 2]> {
    let mut first = one.open_patiently(net, side, OPEN_LIMIT).await?;
    let second = other.open_patiently(net, side, OPEN_LIMIT).await?;
    let peer = other.user.as_str();
    let room = tokio::time::timeout(ROOM_LIMIT, open_room(&mut first, peer)).await;
    let room = room.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", ROOM_LIMIT.as_secs())));
    let room = room.with_context(|| format!("a room for {} and {peer}", one.user))?;
    Ok([
        Opened { phone: one, session: first, room: room.clone() },
        Opened { phone: other, session: second, room },
    ])
}

/// The room with `peer`; the caller limits how long it is tried.
async fn open_room(session: &mut Session, peer: &str) -> anyhow::Result<Bytes> {
    loop {
        let op = request::Op::OpenDirect(wire::OpenDirect { peer: peer.to_owned() });
        match session.request(1, op, ROOM_LIMIT).await {
            // Copied, because a slice would hold on to the whole network buffer.
            Ok(answer::Result::Room(room)) => return Ok(Bytes::copy_from_slice(&room.room)),
            Ok(other) => anyhow::bail!("OpenDirect was answered with {other:?}"),
            Err(error) if error.retryable() => {
                tokio::time::sleep(error.retry_after().unwrap_or(PAUSE)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_opened_at_their_pace() {
        assert_eq!(turn(0, 100.0), Duration::ZERO);
        assert_eq!(turn(50, 100.0), Duration::from_secs(1));
        assert_eq!(turn(1, 0.0), Duration::from_secs(2), "slowly, but not never");
    }
}
