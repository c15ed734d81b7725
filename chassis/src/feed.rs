//! What gateways and session managers need to decide alone: token keys, nodes, revoked devices, orders, and how loaded the
//! session managers are; kept current.
//!
//! Why it exists: a login must touch neither the backend nor the store, so what it is checked against has to be here
//! already. The feed reconnects by itself and stays on what it last knew while the backend is away: sessions go on, new
//! logins go on until the keys expire. It must never forget a revocation because of a lost connection.

mod loads;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use buslane_shared::backoff::{Backoff, Policy};
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::token::KeyRing;
use buslane_shared::{UnixMs, wire};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::api::Backend;
use crate::clock;
use crate::shutdown::Shutdown;

pub use loads::{FRESH, Heard, Loads};

/// Revocations that a subscriber may be behind. Whoever is further behind is told so and compares all of its sessions with
/// [`Feed::is_revoked`], so nothing is missed.
const REVOCATIONS_BEHIND_MAX: usize = 1024;

/// A backend that restarts is back within a second or two; roles are few, so they may ask often.
const RECONNECT: Policy = Policy {
    base: Duration::from_millis(200),
    cap: Duration::from_secs(2),
    quick: Duration::from_millis(50),
    settle: Duration::from_secs(5),
};

/// A device that lost its right just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose device.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Credentials and tickets issued up to here are worth nothing.
    pub revoked_at_ms: UnixMs,
}

/// How current the feed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// The backend is connected now.
    pub connected: bool,
    /// There are keys: tokens can be checked.
    pub has_keys: bool,
    /// Updates taken over so far. Whoever waits for a change watches this.
    pub updates: u64,
}

/// The last known state of what the backend feeds.
#[derive(Default)]
pub struct Feed {
    keys: ArcSwap<KeyRing>,
    nodes: ArcSwap<Vec<wire::Node>>,
    revoked: ArcSwap<HashMap<DeviceId, UnixMs>>,
    news: News,
    orders: watch::Sender<wire::OrderSet>,
    loads: watch::Sender<Arc<Loads>>,
    freshness: watch::Sender<Freshness>,
}

/// Revocations on their way to whoever must end sessions.
struct News(broadcast::Sender<Revocation>);

impl Default for News {
    fn default() -> Self {
        Self(broadcast::Sender::new(REVOCATIONS_BEHIND_MAX))
    }
}

impl Feed {
    /// Follows the backend's feed until the shutdown. Returns at once; see [`Feed::ready`].
    pub fn follow(backend: Backend, role: wire::RoleKind, node: &str, shutdown: &Shutdown) -> Arc<Self> {
        let feed = Arc::new(Self::default());
        let request = wire::FeedRequest { role: role.into(), node: node.to_owned() };
        let token = shutdown.token().clone();
        let following = feed.clone();
        shutdown.tracker().spawn(async move {
            token.run_until_cancelled(following.run(backend, request)).await;
        });
        feed
    }

    /// The keys of this moment. Take them once for each decision.
    pub fn keys(&self) -> Arc<KeyRing> {
        self.keys.load_full()
    }

    /// The session managers of this moment.
    pub fn nodes(&self) -> Arc<Vec<wire::Node>> {
        self.nodes.load_full()
    }

    /// Whether what was issued to this device at `issued_at_ms` has been revoked since. A device that enrolled again later
    /// has newer credentials, which hold.
    pub fn is_revoked(&self, device: &DeviceId, issued_at_ms: UnixMs) -> bool {
        self.revoked.load().get(device).is_some_and(|revoked_at_ms| issued_at_ms <= *revoked_at_ms)
    }

    /// Revocations from now on. On [`broadcast::error::RecvError::Lagged`] compare every session with
    /// [`Feed::is_revoked`].
    pub fn revocations(&self) -> broadcast::Receiver<Revocation> {
        self.news.0.subscribe()
    }

    /// Every order that the backend knows of, now and in future. What was ordered at this node itself is not in it before
    /// the backend has heard of it: see the order book of the node.
    pub fn orders(&self) -> watch::Receiver<wire::OrderSet> {
        self.orders.subscribe()
    }

    /// How the session managers are, now and in future. Some twenty changes a second.
    pub fn loads(&self) -> watch::Receiver<Arc<Loads>> {
        self.loads.subscribe()
    }

    /// How current this is, now and in future.
    pub fn freshness(&self) -> watch::Receiver<Freshness> {
        self.freshness.subscribe()
    }

    /// Waits until there are keys. False: there were none within `limit`.
    pub async fn ready(&self, limit: Duration) -> bool {
        let mut freshness = self.freshness.subscribe();
        // The sender lives as long as this feed, so the only way to end without keys is the limit.
        tokio::time::timeout(limit, freshness.wait_for(|f| f.has_keys)).await.is_ok()
    }

    async fn run(&self, backend: Backend, request: wire::FeedRequest) {
        let mut backoff = Backoff::new(RECONNECT);
        loop {
            match backend.feed(request.clone()).await {
                Ok(updates) => {
                    let began = Instant::now();
                    self.take_over(updates).await;
                    self.freshness.send_modify(|f| f.connected = false);
                    backoff.on_session_end(began.elapsed());
                    tracing::warn!("the backend's feed has ended; going on with what is known");
                }
                Err(refusal) => tracing::warn!(%refusal, "the backend gives no feed"),
            }
            metrics::counter!("buslane_feed_reconnects_total").increment(1);
            let wait = backoff.next_wait(None, u64::from_le_bytes(clock::random()));
            tokio::time::sleep(wait).await;
        }
    }

    async fn take_over(&self, mut updates: mpsc::Receiver<wire::FeedUpdate>) {
        let mut first = true;
        while let Some(update) = updates.recv().await {
            if std::mem::take(&mut first) {
                // It is complete: what is not in it is gone.
                self.loads.send_replace(Arc::default());
            }
            self.on_update(update);
        }
    }

    fn on_update(&self, update: wire::FeedUpdate) {
        if let Some(set) = &update.keys {
            self.keys.store(Arc::new(KeyRing::new(set)));
        }
        if let Some(set) = update.nodes {
            self.loads.send_if_modified(|loads| {
                let before = loads.iter().count();
                Arc::make_mut(loads).on_nodes(&set.nodes);
                loads.iter().count() != before
            });
            self.nodes.store(Arc::new(set.nodes));
        }
        if let Some(set) = update.loads {
            self.loads.send_modify(|loads| Arc::make_mut(loads).on_set(set, Instant::now()));
        }
        if let Some(set) = update.orders {
            self.orders.send_replace(set);
        }
        if let Some(set) = update.revoked {
            self.on_revoked(set);
        }
        let has_keys = !self.keys.load().is_empty();
        self.freshness.send_modify(|f| {
            *f = Freshness { connected: true, has_keys, updates: f.updates.saturating_add(1) };
        });
    }

    /// First the set, then the news: whoever hears the news and asks again gets the new answer.
    fn on_revoked(&self, set: wire::RevokedSet) {
        let known = self.revoked.load_full();
        let mut all = HashMap::with_capacity(set.devices.len());
        let mut news = Vec::new();
        for entry in set.devices {
            let (Ok(device), Ok(user)) = (DeviceId::try_from(&entry.device), entry.user.parse()) else {
                tracing::error!(
                    "a revocation with a malformed user or device was skipped; the versions do not fit"
                );
                continue;
            };
            let revoked_at_ms = entry.revoked_at_ms;
            all.insert(device, revoked_at_ms);
            if known.get(&device).is_none_or(|before| *before < revoked_at_ms) {
                news.push(Revocation { user, device, revoked_at_ms });
            }
        }
        self.revoked.store(Arc::new(all));
        for revocation in news {
            // An error means that nobody listens.
            let _ = self.news.0.send(revocation);
        }
    }
}

#[cfg(test)]
mod tests;
