//! The other processes of the system, asked directly at their admin addresses.
//!
//! Why it exists: what the backend tells of the others is gone when the backend is. So each process asks each of its configured peers how
//! it is, every two seconds, and hands them the orders that it knows at once: an order reaches them without the backend, the
//! gateway and the store. What they have told of themselves (postures, marks, reloads) is told here as well, so that each
//! process has the story of all. A peer that does not answer holds up nobody: each is asked in a task of its own.

pub mod call;
pub mod judge;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Response};
use buslane_chassis::clock;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::TlsError;
use buslane_shared::UnixMs;
use buslane_shared::overload::orders::Orders;
use futures_util::future::join_all;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::Config;
use crate::happening::Happening;
use crate::incidents::Claims;
use crate::seat::Seat;
use crate::view::{NodeView, State};

use call::{CallError, Caller, OpenError};
use judge::{Word, judge};

/// How often a peer is asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How often one is asked that has just been handed an order, until it obeys or for [`OBEY_LIMIT`].
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How long a peer is expected to take until it obeys; then it is asked as usual.
const OBEY_LIMIT: Duration = Duration::from_secs(1);

/// Happenings of a peer that are taken over at a time; the next ones come two seconds later.
pub const HAPPENINGS_MAX: usize = 256;

/// `GET /v1/node`: what a process says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it is.
    #[serde(flatten)]
    pub view: NodeView,
    /// Its clock.
    pub now_ms: UnixMs,
    /// What it did or was done to it since the time that was asked for, oldest first.
    #[serde(default, deserialize_with = "understood")]
    pub happenings: Vec<Happening>,
    /// Its open incidents, as the others need to know them; none: it does not share them.
    #[serde(default)]
    pub incidents: Option<Claims>,
}

/// A process of a newer version may tell of what is not known here: the rest of its word counts all the same.
fn understood<'de, D: Deserializer<'de>>(said: D) -> Result<Vec<Happening>, D::Error> {
    let all = Vec::<Value>::deserialize(said)?;
    Ok(all.into_iter().filter_map(|happening| serde_json::from_value(happening).ok()).collect())
}

/// The configured peers.
pub struct Peers {
    caller: Caller,
    peers: Vec<Peer>,
    begun: Instant,
}

struct Peer {
    addr: SocketAddr,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    word: Option<Word>,
    heard: Option<Instant>,
    failure: Option<String>,
    /// Why it does not have the orders that are known here.
    not_handed: Option<String>,
    /// The address is that of this process: one list of peers may be in all configurations.
    is_here: bool,
}

impl Peers {
    /// Those of the configuration. Nobody is asked yet.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let caller = Caller::open(config.peer_token.as_deref(), config.peer_ca.as_deref())?;
        let known = |addr: &SocketAddr| Peer { addr: *addr, known: Mutex::default() };
        Ok(Self { caller, peers: config.peers.iter().map(known).collect(), begun: Instant::now() })
    }

    /// What is believed of each, this process aside.
    pub fn views(&self) -> Vec<NodeView> {
        let others = self.peers.iter().filter(|peer| !peer.known.lock().is_here);
        others.map(|peer| peer.view(self.begun)).collect()
    }

    /// Where the process of that name is asked.
    pub fn named(&self, node: &str) -> Option<SocketAddr> {
        let said = |peer: &&Peer| {
            let known = peer.known.lock();
            !known.is_here && known.word.as_ref().is_some_and(|word| word.view.node == node)
        };
        self.peers.iter().find(said).map(|peer| peer.addr)
    }

    /// Reads the authority of their certificates again, and says whether it is another one.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.caller.reload()
    }

    /// Asks the process at an address.
    pub async fn ask(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        self.caller.ask(to, method, path, body).await
    }

    /// Passes on a stream of the process at an address.
    pub async fn pass_on(&self, to: SocketAddr, path: &str) -> Result<Response<Incoming>, CallError> {
        self.caller.pass_on(to, path).await
    }

    /// Asks all of them at the same time; the name of each with what it said.
    pub async fn ask_all(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Vec<(String, Result<Value, CallError>)> {
        let others = self.peers.iter().filter(|peer| !peer.known.lock().is_here);
        join_all(others.map(|peer| {
            let method = method.clone();
            async move { (peer.view(self.begun).node, self.ask(peer.addr, method, path, body).await) }
        }))
        .await
    }

    /// Asks all of them until the shutdown.
    pub fn run(seat: &Arc<Seat>, shutdown: &Shutdown) {
        for place in 0..seat.peers.peers.len() {
            let (seat, token) = (Arc::clone(seat), shutdown.token().clone());
            shutdown.tracker().spawn(async move {
                let Some(peer) = seat.peers.peers.get(place) else { return };
                token.run_until_cancelled(Round::new(&seat, peer).run()).await;
            });
        }
    }
}

impl Peer {
    fn view(&self, begun: Instant) -> NodeView {
        let known = self.known.lock();
        let silence = known.heard.unwrap_or(begun).elapsed();
        let view = judge(self.addr, known.word.as_ref(), silence, known.failure.as_deref());
        match &known.not_handed {
            Some(why) if view.state == State::Up => {
                let why = Some(format!("orders that are given here do not reach it: {why}"));
                NodeView { state: State::Warning, why, ..view }
            }
            _ => view,
        }
    }
}

/// The conversation with one peer.
struct Round<'a> {
    seat: &'a Seat,
    peer: &'a Peer,
    /// The orders that it has from us, and since when.
    handed: Option<(Arc<Orders>, Instant)>,
    /// When it started.
    started_ms: Option<UnixMs>,
    /// Up to when its happenings are known, by its own clock. None: it was not heard of, and what it did before is over.
    told_ms: Option<UnixMs>,
}

impl<'a> Round<'a> {
    fn new(seat: &'a Seat, peer: &'a Peer) -> Self {
        Self { seat, peer, handed: None, started_ms: None, told_ms: None }
    }

    async fn run(mut self) {
        let mut orders = self.seat.desk.book.watch();
        loop {
            let now = Arc::clone(&orders.borrow_and_update());
            let answered = tokio::select! {
                // An order does not wait for the answer to another question.
                biased;
                changed = orders.changed() => { if changed.is_err() { return; } continue }
                answered = self.turn(&now) => answered,
            };
            if self.peer.known.lock().is_here {
                return;
            }
            let wait = if answered.is_ok() && self.is_awaited(&now) { ASK_AGAIN } else { ASK_EVERY };
            tokio::select! {
                changed = orders.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn turn(&mut self, orders: &Arc<Orders>) -> Result<(), CallError> {
        let turned = self.hand_and_ask(orders).await;
        let mut known = self.peer.known.lock();
        known.failure = turned.as_ref().err().map(ToString::to_string);
        if turned.is_err() {
            // It may have been started anew meanwhile.
            self.handed = None;
        }
        turned
    }

    async fn hand_and_ask(&mut self, orders: &Arc<Orders>) -> Result<(), CallError> {
        self.hand(orders).await?;
        let asked_ms = clock::unix_ms();
        let since = self.told_ms.map_or_else(String::new, |told_ms| format!("?since_ms={told_ms}"));
        let said = self.ask(Method::GET, &format!("/v1/node{since}"), None).await?;
        let report: Report = serde_json::from_value(said).map_err(|_| CallError::Malformed)?;
        self.on_report(report, asked_ms, clock::unix_ms());
        Ok(())
    }

    /// Hands over the orders, unless it has them. One that answers and does not take them is asked all the same.
    async fn hand(&mut self, orders: &Arc<Orders>) -> Result<(), CallError> {
        let has_them = self.handed.as_ref().is_some_and(|(known, _)| known == orders);
        if has_them || orders.iter().next().is_none() {
            self.peer.known.lock().not_handed = None;
            return Ok(());
        }
        let body = json!({ "orders": orders.iter().collect::<Vec<_>>() });
        let handed = self.ask(Method::POST, "/v1/orders/merge", Some(&body)).await;
        self.peer.known.lock().not_handed = handed.as_ref().err().map(ToString::to_string);
        match handed {
            Ok(_) => self.handed = Some((Arc::clone(orders), Instant::now())),
            Err(CallError::Refused { .. }) => {}
            Err(silent) => return Err(silent),
        }
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        self.seat.peers.ask(self.peer.addr, method, path, body).await
    }

    fn on_report(&mut self, report: Report, asked_ms: UnixMs, answered_ms: UnixMs) {
        let Report { view, now_ms, happenings, incidents } = report;
        if view.node == self.seat.node && view.started_ms == Some(self.seat.started_ms) {
            self.peer.known.lock().is_here = true;
            return;
        }
        if self.started_ms != view.started_ms {
            // Another process: it does not have what the one before it had.
            self.handed = self.handed.take().filter(|_| self.started_ms.is_none());
            self.started_ms = view.started_ms;
        }
        if view.posture.is_some() {
            self.seat.desk.book.on_said(&view.node, view.order);
        }
        self.on_happenings(&view.node, happenings, now_ms);
        if let Some(claims) = incidents {
            self.seat.incidents.on_claims(&view.node, claims);
        }
        let middle_ms = asked_ms.midpoint(answered_ms);
        let skew_ms = i64::try_from(i128::from(now_ms) - i128::from(middle_ms)).unwrap_or(i64::MAX);
        let mut known = self.peer.known.lock();
        known.word = Some(Word { view, skew_ms });
        known.heard = Some(Instant::now());
    }

    /// Tells what the peer has told since the last time. It answers for itself alone.
    fn on_happenings(&mut self, node: &str, happenings: Vec<Happening>, now_ms: UnixMs) {
        // A clock that was set back begins anew.
        let told_ms = self.told_ms.filter(|told_ms| *told_ms <= now_ms).unwrap_or(now_ms);
        let is_new = |happening: &Happening| happening.node == node && happening.at_ms > told_ms;
        let mut last_ms = told_ms;
        for happening in happenings.into_iter().filter(is_new).take(HAPPENINGS_MAX) {
            last_ms = last_ms.max(happening.at_ms);
            self.seat.news.tell(happening);
        }
        self.told_ms = Some(last_ms);
    }

    /// Whether it has just been handed an order that it does not obey yet.
    fn is_awaited(&self, orders: &Orders) -> bool {
        let Some((_, since)) = &self.handed else { return false };
        let expected = orders.in_force(clock::unix_ms()).map(|order| order.id);
        let known = self.peer.known.lock();
        let obeys =
            known.word.as_ref().is_none_or(|word| word.view.posture.is_none() || word.view.order == expected);
        !obeys && since.elapsed() < OBEY_LIMIT
    }
}

#[cfg(test)]
mod tests;
