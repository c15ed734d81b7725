//! The order book of a node: what operators have ordered, here and elsewhere, kept on the node's own disk.
//!
//! Why it exists: an order must work when everything else is down. So it is given at any node's admin address, written to
//! that node's audit, then to its own file, obeyed there at once, and told to the others through the backend when there is one.
//! A book that cannot be read is put aside and never stops the node. Nothing here decides what an order means: that is
//! `buslane_shared::overload::orders`.

mod direct;
mod file;
mod reach;
mod routes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::overload::orders::{Merged, Order, OrderError, Orders, Wish};
use buslane_shared::{UnixMs, wire};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::audit::{self, Audit, AuditError, Entry};
use crate::clock;
use crate::feed::Feed;
use crate::oversee::Overseer;
use crate::shutdown::Shutdown;

pub use reach::{Effective, Reach};
pub use routes::{Desk, routes};

use direct::Direct;
use file::Kept;

/// The wall clock may be set: an end is never missed by more than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often this node itself is asked whether it obeys, until it does.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An overseer that has not obeyed for this long is not asked any more.
const LOOK_LIMIT_MS: u64 = 10_000;

/// Why an order was not given.
#[derive(Debug, thiserror::Error)]
pub enum GiveError {
    /// It is none.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// It cannot be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// An order that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The order.
    pub order: Order,
    /// Why it will not survive a restart of this node, if so.
    pub not_kept: Option<String>,
}

/// The book.
pub struct Book {
    path: PathBuf,
    audit: Arc<Audit>,
    /// One change at a time, from its plan to its publication.
    turn: tokio::sync::Mutex<()>,
    kept: Mutex<Kept>,
    orders: watch::Sender<Arc<Orders>>,
    reach: watch::Sender<Reach>,
    /// Nodes that say themselves what they obey.
    direct: Mutex<Direct>,
}

impl Book {
    /// Opens the book of a folder.
    pub fn open(folder: &Path, audit: Arc<Audit>) -> Arc<Self> {
        let path = folder.join("orders.json");
        let kept = file::read(&path);
        let orders = watch::Sender::new(Arc::new(kept.orders.clone()));
        let turn = tokio::sync::Mutex::default();
        let reach = watch::Sender::new(Reach::since(clock::unix_ms()));
        Arc::new(Self { path, audit, turn, kept: Mutex::new(kept), orders, reach, direct: Mutex::default() })
    }

    /// Every order that is not over, now and in future. Which of them is in force is asked with the time.
    pub fn watch(&self) -> watch::Receiver<Arc<Orders>> {
        self.orders.subscribe()
    }

    /// How far the order that holds has come, now and in future.
    pub fn reach(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    /// The audit that orders are written to.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// Notes which order a node says that it obeys, asked directly.
    pub fn on_said(&self, node: &str, order: Option<u64>) {
        self.direct.lock().on_said(node, tokio::time::Instant::now());
        let orders = Arc::clone(&self.orders.borrow());
        let said = [(node.to_owned(), order)];
        self.reach.send_if_modified(|reach| reach.observe(&orders, said, clock::unix_ms()));
    }

    /// The nodes that were asked directly and count among those that should obey.
    fn direct(&self, feed_is_connected: bool) -> Vec<String> {
        self.direct.lock().nodes(tokio::time::Instant::now(), feed_is_connected)
    }

    /// What this wish would be as an order.
    pub fn plan(&self, wish: Wish) -> Result<Order, OrderError> {
        self.kept.lock().orders.plan(wish, clock::unix_ms())
    }

    /// Gives an order: first it is recorded, then kept, then obeyed. To be run in a task of its own: dropped half-way it may
    /// have been recorded and not given.
    pub async fn give(&self, wish: Wish) -> Result<Given, GiveError> {
        let _turn = self.turn.lock().await;
        let now_ms = clock::unix_ms();
        let before = self.kept.lock().orders.in_force(now_ms).cloned();
        let order = self.plan(wish)?;
        let entry = Entry {
            author: order.author.clone(),
            action: format!("order.{}", order.kind.name()),
            reason: order.reason.clone(),
            before: as_json(before.as_ref()),
            after: as_json(Some(&order)),
        };
        self.audit.record(entry).await?;
        let mut next = self.kept.lock().clone();
        next.give(order.clone(), now_ms);
        let not_kept = self.keep(next.clone()).await;
        self.publish(next);
        metrics::counter!("buslane_orders_total", "kind" => order.kind.name()).increment(1);
        Ok(Given { order, not_kept })
    }

    /// Takes over orders that were given elsewhere and are handed over by `by`. Who gave them is what `by` says: so it is recorded who says it. To
    /// be run in a task of its own.
    pub async fn merge(&self, orders: Vec<Order>, by: String) -> Result<Merged, AuditError> {
        let _turn = self.turn.lock().await;
        let before = self.kept.lock().clone();
        let mut next = before.clone();
        let merged = next.orders.merge(orders, clock::unix_ms());
        if !merged.new.is_empty() {
            let entry = Entry {
                author: by,
                action: "order.handed_over".to_owned(),
                reason: "given at another node".to_owned(),
                before: as_json(before.orders.in_force(clock::unix_ms())),
                after: json!(merged.new),
            };
            self.audit.record(entry).await?;
        }
        if next != before {
            self.publish(next.clone());
            self.keep(next).await;
        }
        Ok(merged)
    }

    /// Follows the others' orders, the ends of all of them, and how far they come; until the shutdown.
    pub fn run(self: &Arc<Self>, feed: &Arc<Feed>, overseer: Option<Arc<dyn Overseer>>, shutdown: &Shutdown) {
        let (book, feed, token) = (Arc::clone(self), Arc::clone(feed), shutdown.token().clone());
        shutdown.tracker().spawn(async move {
            token.run_until_cancelled(book.follow(&feed, overseer.as_deref())).await;
        });
    }

    async fn follow(&self, feed: &Feed, overseer: Option<&dyn Overseer>) {
        let (mut others, mut loads, mut own) = (feed.orders(), feed.loads(), self.watch());
        others.mark_changed();
        loop {
            self.end_what_is_over().await;
            let waits = self.look(&loads.borrow_and_update(), overseer);
            tokio::select! {
                _ = others.changed() => {
                    let said = others.borrow_and_update().clone();
                    self.on_others(said).await;
                }
                _ = loads.changed() => {}
                _ = own.changed() => {}
                () = tokio::time::sleep(waits) => {}
            }
        }
    }

    /// Notes who obeys; says when to look again.
    fn look(&self, loads: &crate::feed::Loads, overseer: Option<&dyn Overseer>) -> Duration {
        let now_ms = clock::unix_ms();
        let orders = Arc::clone(&self.orders.borrow());
        let own = overseer.map(|overseer| overseer.posture()).map(|view| (view.node, view.order));
        let missing = own.clone();
        self.reach.send_if_modified(|reach| {
            let said = loads.iter().map(|(node, heard)| (node.to_owned(), heard.report.order));
            reach.observe(&orders, said.chain(own), now_ms)
        });
        let reach = self.reach.borrow();
        let begun_ms = reach.begun_ms();
        let pending = missing.is_some_and(|(node, _)| reach.order().is_some() && !reach.has(&node));
        if pending && now_ms.saturating_sub(begun_ms) < LOOK_LIMIT_MS {
            return LOOK_AGAIN;
        }
        let next = orders.next_change_ms(now_ms).map(|at| Duration::from_millis(at - now_ms));
        next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY))
    }

    async fn on_others(&self, set: wire::OrderSet) {
        let _turn = self.turn.lock().await;
        let mut next = self.kept.lock().clone();
        let before = next.clone();
        let orders = set.orders.into_iter().filter_map(|order| match Order::try_from(order) {
            Ok(order) => Some(order),
            Err(error) => {
                tracing::warn!(%error, "an order of another node is not obeyed");
                None
            }
        });
        for order in next.orders.merge(orders, clock::unix_ms()).new {
            tracing::info!(order = order.id, kind = order.kind.name(), reason = ?order.reason, author = ?order.author, "ordered elsewhere");
        }
        if next != before {
            // It is kept where it was given: here it is obeyed first.
            self.publish(next.clone());
            self.keep(next).await;
        }
    }

    async fn end_what_is_over(&self) {
        let now_ms = clock::unix_ms();
        let due = |kept: &Kept| kept.orders.iter().any(|order| order.until_ms <= now_ms);
        if !due(&self.kept.lock()) {
            return;
        }
        let _turn = self.turn.lock().await;
        let mut next = self.kept.lock().clone();
        for order in next.forget(now_ms) {
            let entry = Entry {
                author: audit::SELF.to_owned(),
                action: "order.ended".to_owned(),
                reason: order.reason.clone(),
                before: as_json(Some(&order)),
                after: as_json(next.orders.in_force(now_ms)),
            };
            // An end that cannot be recorded is an end all the same.
            if let Err(error) = self.audit.record(entry).await {
                tracing::error!(%error, order = order.id, "the end of an order was not recorded");
            }
        }
        self.publish(next.clone());
        self.keep(next).await;
    }

    /// Lets it be obeyed.
    fn publish(&self, next: Kept) {
        self.orders.send_replace(Arc::new(next.orders.clone()));
        *self.kept.lock() = next;
    }

    /// Writes it; why that could not be, if so: an order is obeyed all the same.
    async fn keep(&self, next: Kept) -> Option<String> {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || file::write(&path, &next)).await;
        let why = match written {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let path = self.path.display();
        tracing::error!(%path, why, "the order book was not written: orders hold until a restart");
        Some(why)
    }
}

/// An order as it is shown.
fn as_json(order: Option<&Order>) -> Value {
    order.map_or(Value::Null, |order| json!(order))
}

/// The order whose end or beginning was last: what a node should be obeying.
fn newest(orders: &Orders, now_ms: UnixMs) -> Option<&Order> {
    orders.iter().rev().find(|order| order.from_ms <= now_ms && now_ms < order.until_ms)
}

#[cfg(test)]
mod tests;
