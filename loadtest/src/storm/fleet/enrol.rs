//! Many phones made ready quickly: few connections to the gateway, many requests over each.
//!
//! Each request carries its own proof, so one connection serves many phones; each source address has its own share of what a
//! gateway takes. It is a preparation: nothing of it is measured, and who is asked for patience waits.

use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_client::raw::Identity;
use buslane_shared::id::UserId;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Phone;
use super::book::Book;
use super::gate::{Asking, Gate, close};
use crate::storm::net::{Net, Turned};
use crate::storm::scenario::Side;
use crate::storm::stage::Target;

/// Phones of one connection: with two requests each, far below what a gateway takes from one address at once.
const PHONES_PER_CONNECTION: usize = 100;

/// Connections at a time: 128 requests keep the store's batches full, and the gateway's queues short.
const CONNECTIONS: usize = 32;

/// Requests at a time over one connection: as many as a gateway takes.
const REQUESTS: usize = 4;

/// A connection is not used longer: a gateway closes it after 30 s.
const CONNECTION_LIFE: Duration = Duration::from_secs(20);

/// How long a handshake or an answer may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Between two tries at least.
pub const PAUSE: Duration = Duration::from_millis(300);

/// How long the preparation goes on with somebody who is put off again and again.
const PUT_OFF_WITHIN: Duration = Duration::from_secs(60);

/// Tries of one request before the preparation fails.
const TRIES_MAX: u32 = 20;

/// Source addresses that so many phones need, so that what a gateway takes from each of them is no brake on enrolling them.
pub fn addresses_for(phones: usize) -> usize {
    phones.div_ceil(4 * PHONES_PER_CONNECTION).clamp(16, 256)
}

/// Enrols `count` users, named `{prefix}0` and so on, and asks for a ticket for each.
pub async fn enrol(
    net: &Net,
    target: &Target,
    prefix: &str,
    count: usize,
    side: Side,
) -> anyhow::Result<Vec<Phone>> {
    let gate = Gate::at(&target.gate);
    let starts = (0..count).step_by(PHONES_PER_CONNECTION);
    let batches = stream::iter(starts).map(|start| {
        let end = (start + PHONES_PER_CONNECTION).min(count);
        let batch = Batch { net, gate: gate.clone(), side, from: start / PHONES_PER_CONNECTION };
        async move {
            let made = batch.enrol(prefix, start..end).await;
            made.with_context(|| format!("enrolling phones {start} to {end} at {}", target.gate))
        }
    });
    let batches: Vec<Vec<Phone>> = batches.buffered(CONNECTIONS).try_collect().await?;
    let mut phones: Vec<Phone> = batches.into_iter().flatten().collect();
    // They were enrolled from few addresses; they come from all.
    for (n, phone) in phones.iter_mut().enumerate() {
        phone.from = n;
    }
    Ok(phones)
}

/// Phones that share a connection.
struct Batch<'a> {
    net: &'a Net,
    gate: Gate,
    side: Side,
    from: usize,
}

impl Batch<'_> {
    async fn enrol(&self, prefix: &str, numbers: std::ops::Range<usize>) -> anyhow::Result<Vec<Phone>> {
        let line = Line::new(self);
        let phones = stream::iter(numbers).map(|n| {
            let line = &line;
            async move { self.one(line, &format!("{prefix}{n}")).await }
        });
        let phones = phones.buffered(REQUESTS).try_collect().await;
        line.hang_up().await;
        phones
    }

    async fn one(&self, line: &Line<'_>, user: &str) -> anyhow::Result<Phone> {
        let user: UserId = user.parse()?;
        let identity = Identity::generate()?;
        let credential = line.patiently(async |asking| asking.enrol(&identity, &user).await).await;
        let credential: Bytes = credential.with_context(|| format!("{user} could not be enrolled"))?;
        let ticket = line.patiently(async |asking| asking.enter(&identity, &credential).await).await;
        let ticket = ticket.with_context(|| format!("{user} got no ticket"))?;
        let mut phone = Phone {
            user,
            identity,
            credential,
            gate: self.gate.clone(),
            ticket: None,
            resume: None,
            book: Book::default(),
            seen: 0,
            from: self.from,
            at: 0,
            front_is_silent: false,
            asked_in_vain: None,
        };
        phone.take_ticket(ticket);
        Ok(phone)
    }
}

/// A connection that is made anew when it is lost or old.
struct Line<'a> {
    batch: &'a Batch<'a>,
    connection: tokio::sync::Mutex<Option<(quinn::Connection, Instant)>>,
}

impl<'a> Line<'a> {
    fn new(batch: &'a Batch<'a>) -> Self {
        Self { batch, connection: tokio::sync::Mutex::default() }
    }

    /// Asks until there is an answer; a refusal that names no time to come back is one.
    async fn patiently<T>(
        &self,
        mut ask: impl AsyncFnMut(Asking<'_>) -> Result<T, Turned>,
    ) -> anyhow::Result<T> {
        let (mut tries, began) = (0, Instant::now());
        loop {
            let asked = async {
                let connection = self.connected().await?;
                let asking = Asking { connection: &connection, side: self.batch.side, slot: None };
                ask(asking).await
            };
            let turned = match tokio::time::timeout(STEP_LIMIT, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(turned)) => turned,
                Err(_) => Turned::Silence,
            };
            tries += 1;
            if !goes_on(&turned, tries, began.elapsed()) {
                return Err(turned.into());
            }
            tokio::time::sleep(turned.retry_after().unwrap_or(PAUSE).max(PAUSE)).await;
        }
    }

    async fn connected(&self) -> Result<quinn::Connection, Turned> {
        let mut kept = self.connection.lock().await;
        if let Some((connection, made)) = &*kept
            && connection.close_reason().is_none()
            && made.elapsed() < CONNECTION_LIFE
        {
            return Ok(connection.clone());
        }
        let made = self.batch.gate.connect(self.batch.net, self.batch.from, None, STEP_LIMIT).await?;
        *kept = Some((made.clone(), Instant::now()));
        Ok(made)
    }

    async fn hang_up(&self) {
        if let Some((connection, _)) = self.connection.lock().await.take() {
            close(&connection);
        }
    }
}

/// Whether another try may help, after so many and so long.
fn goes_on(turned: &Turned, tries: u32, waited: Duration) -> bool {
    let is_final = matches!(turned, Turned::Refused { name, retry_after: None } if !is_passing(name));
    // Whoever is told to come back comes back: while a crowd opens its sessions there is little room for others, and on a slow machine
    // many phones share what a gateway takes from an address.
    let is_told = turned.retry_after().is_some() && waited < PUT_OFF_WITHIN;
    !is_final && (tries < TRIES_MAX || is_told)
}

/// Refusals that another connection or another moment cures.
fn is_passing(refusal: &str) -> bool {
    matches!(refusal, "idle" | "timeout" | "deadline" | "unavailable" | "busy" | "rate_limited" | "draining")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_to_come_back_comes_back_for_a_while() {
        let soon = Some(Duration::from_millis(100));
        let refused = |name, retry_after| Turned::Refused { name, retry_after };
        let put_off = Turned::PutOff { retry_after: PAUSE, slot: None };
        let later = PUT_OFF_WITHIN - PAUSE;
        for (turned, tries, waited, wanted) in [
            (refused("rate_limited", soon), TRIES_MAX, later, true),
            (put_off, TRIES_MAX, later, true),
            (refused("rate_limited", soon), TRIES_MAX, PUT_OFF_WITHIN, false),
            (refused("rate_limited", None), TRIES_MAX - 1, later, true),
            (refused("rate_limited", None), TRIES_MAX, later, false),
            (refused("not_member", None), 1, PAUSE, false),
            (Turned::Silence, TRIES_MAX - 1, later, true),
            (Turned::Silence, TRIES_MAX, later, false),
        ] {
            assert_eq!(goes_on(&turned, tries, waited), wanted, "{turned:?} {tries} {waited:?}");
        }
    }
}
