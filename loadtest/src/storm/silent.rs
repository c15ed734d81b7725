//! Clients that begin a handshake and never speak again: phones in a tunnel, or somebody who wants to use up a server's
//! memory.
//!
//! Two of three send their first packet and nothing more. The third one ends its handshake and never says hello. Each is followed
//! by another one when the server must have given it up, so that their number stays. They show no pass and no slot, as strangers do:
//! at the front port of a server that asks for passes they hold nothing, and the count says so.
//!
//! It must never answer what a silent client is sent: answers are only counted.

mod finishing;
mod half_open;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::{JoinSet, LocalSet};

use self::half_open::HalfOpen;
use super::fleet;
use super::generator::Cue;
use super::net::Net;
use super::raw::initial::Speaks;
use super::raw::{Goal, goals, host};
use super::scenario::{Side, Silent};
use super::stage::{Ports, Stage};

/// When a server gives up a handshake: its limit, as the protocol states it. After this a client is followed by another one.
const HOLD: Duration = Duration::from_secs(3);

/// The first ones begin within this, so that their followers do not come all at once either.
const SPREAD: Duration = Duration::from_secs(1);

/// One of so many ends its handshake.
const FINISHING_ONE_OF: u32 = 3;

/// Clients of one address: less than what a server allows one address to have in handshakes.
const CLIENTS_PER_ADDRESS: usize = 16;

/// Addresses of each kind of client at most.
const ADDRESSES_MAX: usize = 256;

/// How long the last closes may take.
const SETTLE: Duration = Duration::from_millis(200);

/// What became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SilentOutcome {
    /// Clients that began.
    pub opened: u64,
    /// Of these, how many the server went on with.
    pub held: u64,
    /// Of these, how many it sent away, or asked to show that their address is theirs.
    pub turned_away: u64,
    /// The most that it held at a time, as far as a client can tell.
    pub most_at_a_time: u64,
}

/// Counts of one thread.
#[derive(Debug, Default)]
struct Counts {
    outcome: Cell<SilentOutcome>,
    held_now: Cell<u64>,
}

impl Counts {
    fn on_opened(&self) {
        self.outcome.set(SilentOutcome { opened: self.outcome.get().opened + 1, ..self.outcome.get() });
    }

    fn on_turned_away(&self) {
        let was = self.outcome.get();
        self.outcome.set(SilentOutcome { turned_away: was.turned_away + 1, ..was });
    }

    fn on_held(&self) {
        self.held_now.set(self.held_now.get() + 1);
        let was = self.outcome.get();
        let most_at_a_time = was.most_at_a_time.max(self.held_now.get());
        self.outcome.set(SilentOutcome { held: was.held + 1, most_at_a_time, ..was });
    }

    fn on_given_up(&self) {
        self.held_now.set(self.held_now.get().saturating_sub(1));
    }
}

/// A port, and the name in the certificate there.
#[derive(Debug, Clone)]
struct Door {
    goal: Goal,
    server_name: String,
}

/// Begins as the scenario says, and returns when it is over.
pub async fn run(stage: Stage, silent: Silent, ports: Ports, cue: Cue) -> anyhow::Result<SilentOutcome> {
    let goals = goals(&ports, silent.port);
    let of_session = match goals.iter().any(|goal| goal.speaks == Speaks::Session) {
        true => learn(&stage).await?,
        false => String::new(),
    };
    let of_gate = host(&stage.target.gate).to_owned();
    let door = |goal: Goal| {
        let server_name = match goal.speaks {
            Speaks::Gate => of_gate.clone(),
            Speaks::Session => of_session.clone(),
        };
        Door { goal, server_name }
    };
    play(stage, silent, goals.into_iter().map(door).collect(), cue).await
}

/// The name of a session manager, as a ticket tells it.
async fn learn(stage: &Stage) -> anyhow::Result<String> {
    let net = Net::new(&stage.target, 1)?;
    let prefix = format!("silent-{}-", stage.seed);
    let phones = fleet::enrol(&net, &stage.target, &prefix, 1, Side::Foreground).await?;
    let address = phones.first().and_then(|phone| phone.addresses().first());
    Ok(address.context("the gateway named no session manager")?.server_name.clone())
}

async fn play(stage: Stage, silent: Silent, doors: Vec<Door>, cue: Cue) -> anyhow::Result<SilentOutcome> {
    let finishing = silent.clients / FINISHING_ONE_OF;
    let half_open = silent.clients - finishing;
    let counts = Rc::new(Counts::default());
    let raw = Rc::new(HalfOpen::new(&doors, half_open, stage.seed, counts.clone())?);
    let net = Rc::new(Net::new(&stage.target, addresses_for(finishing))?);
    let timing = cue.ready().await?;
    let begin = timing.at(silent.from_s);
    let end = timing.at(silent.from_s + silent.for_s).min(timing.end());
    let lasting = async {
        let mut clients = JoinSet::new();
        raw.listen(&mut clients);
        for n in 0..finishing {
            let Some(door) = doors.get(n as usize % doors.len().max(1)) else { continue };
            let (door, net, counts) = (door.clone(), net.clone(), counts.clone());
            let from = begin + start(n, finishing);
            clients.spawn_local(finishing::again_and_again(door, n as usize, net, from, counts));
        }
        tokio::select! {
            sent = raw.send_until(begin, end) => sent?,
            () = stage.stop.cancelled() => {}
        }
        tokio::select! {
            () = tokio::time::sleep_until(end.into()) => {}
            () = stage.stop.cancelled() => {}
        }
        // What is still open is closed with its task, and the server is told.
        clients.shutdown().await;
        net.settle(SETTLE).await;
        anyhow::Ok(())
    };
    LocalSet::new().run_until(lasting).await?;
    Ok(counts.outcome.get())
}

/// When the first client in this place begins, from the beginning of all.
fn start(place: u32, places: u32) -> Duration {
    SPREAD.mul_f64(f64::from(place) / f64::from(places.max(1)))
}

fn addresses_for(clients: u32) -> usize {
    (clients as usize).div_ceil(CLIENTS_PER_ADDRESS).clamp(1, ADDRESSES_MAX)
}

#[cfg(test)]
mod tests;
