//! Who is logged in on the page: sessions of browsers, in memory only.
//!
//! Why it exists: a browser cannot keep a token safely, so it gets a cookie that scripts cannot read, that lives half a day, and that ends with the
//! token it was made with. A cookie that is stolen from memory dumps or logs of ours must be worth nothing: only its hash is kept.

use std::collections::{BTreeMap, HashMap};

use buslane_shared::UnixMs;
use parking_lot::Mutex;

use super::lease::Lease;
use super::principal::{How, Principal};
use super::secrets::{self, Hash};
use crate::clock;

/// How long one stays logged in: a shift.
pub(super) const LIFE_MS: u64 = 12 * 3_600_000;

/// Browsers that are logged in at a time. Beyond that whoever has most of them loses his oldest.
const PAGES_MAX: usize = 1_024;

struct Page {
    lease: Lease,
    made_ms: UnixMs,
    /// Name and kind of what it was made with.
    owner: String,
}

/// A page session that has begun.
pub(super) struct Opened {
    /// Goes to the browser and nowhere else.
    pub(super) cookie: String,
    pub(super) lease: Lease,
}

/// All page sessions.
#[derive(Default)]
pub(super) struct Pages(Mutex<HashMap<Hash, Page>>);

impl Pages {
    /// Begins a page session with the right of `by`.
    pub(super) fn open(&self, by: &Lease, now_ms: UnixMs) -> Opened {
        let (cookie, csrf) = (secrets::random(), secrets::random());
        let id = hex::encode(clock::random::<4>());
        let end_ms = now_ms.saturating_add(LIFE_MS);
        let principal = Principal { how: How::Page { id }, ..by.principal.clone() };
        let lease = Lease {
            principal,
            alive: by.alive.child_token(),
            expires_ms: Some(by.expires_ms.map_or(end_ms, |expires_ms| expires_ms.min(end_ms))),
            csrf: Some(csrf),
        };
        let owner = format!("{} {}", by.principal.how.name(), by.principal.name);
        let mut pages = self.0.lock();
        make_room(&mut pages, now_ms);
        pages.insert(secrets::hash(&cookie), Page { lease: lease.clone(), made_ms: now_ms, owner });
        Opened { cookie, lease }
    }

    /// The session of a cookie, if it holds.
    pub(super) fn find(&self, cookie: &str, now_ms: UnixMs) -> Option<Lease> {
        // What is looked up is the hash: how long that takes says nothing about a cookie.
        let hash = secrets::hash(cookie);
        let mut pages = self.0.lock();
        let lease = pages.get(&hash)?.lease.clone();
        if lease.holds(now_ms) {
            return Some(lease);
        }
        pages.remove(&hash);
        None
    }

    /// Ends the session of a cookie. Streams that it holds end as well.
    pub(super) fn close(&self, cookie: &str) -> Option<Principal> {
        let page = self.0.lock().remove(&secrets::hash(cookie))?;
        page.lease.alive.cancel();
        Some(page.lease.principal)
    }
}

/// Nobody keeps the others out by logging in again and again.
fn make_room(pages: &mut HashMap<Hash, Page>, now_ms: UnixMs) {
    if pages.len() < PAGES_MAX {
        return;
    }
    pages.retain(|_, page| page.lease.holds(now_ms));
    if pages.len() < PAGES_MAX {
        return;
    }
    let mut by_owner: BTreeMap<&str, usize> = BTreeMap::new();
    for page in pages.values() {
        *by_owner.entry(&page.owner).or_default() += 1;
    }
    let most = by_owner.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner.to_owned());
    let of_most = pages.iter().filter(|(_, page)| Some(&page.owner) == most.as_ref());
    let oldest = of_most.min_by_key(|(_, page)| page.made_ms).map(|(hash, _)| *hash);
    if let Some(page) = oldest.and_then(|hash| pages.remove(&hash)) {
        page.lease.alive.cancel();
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn right(name: &str, expires_ms: Option<UnixMs>) -> Lease {
        let principal = Principal { name: name.into(), ..Principal::root() };
        Lease { principal, alive: CancellationToken::new(), expires_ms, csrf: None }
    }

    #[test]
    fn a_session_ends_after_its_life_or_with_what_it_was_made_with() {
        let pages = Pages::default();
        let page = pages.open(&right("a", None), 1_000);
        assert!(pages.find(&page.cookie, 1_000 + LIFE_MS - 1).is_some());
        assert!(pages.find(&page.cookie, 1_000 + LIFE_MS).is_none());
        let page = pages.open(&right("a", Some(5_000)), 1_000);
        assert!(pages.find(&page.cookie, 4_999).is_some());
        assert!(pages.find(&page.cookie, 5_000).is_none());
        let token = right("a", None);
        let page = pages.open(&token, 1_000);
        token.alive.cancel();
        assert!(pages.find(&page.cookie, 1_001).is_none());
        assert!(pages.0.lock().is_empty(), "what is over is not kept");
    }

    #[test]
    fn what_is_closed_is_gone_and_its_streams_end() {
        let pages = Pages::default();
        let token = right("a", None);
        let (page, other) = (pages.open(&token, 0), pages.open(&token, 0));
        assert_ne!((&page.cookie, &page.lease.csrf), (&other.cookie, &other.lease.csrf));
        assert_eq!(pages.close(&page.cookie).unwrap().name, "a");
        assert!(page.lease.alive.is_cancelled() && !other.lease.alive.is_cancelled());
        assert!(pages.find(&page.cookie, 1).is_none() && pages.close(&page.cookie).is_none());
        assert!(pages.find(&other.cookie, 1).is_some());
    }

    #[test]
    fn who_logs_in_too_often_loses_his_own_oldest() {
        let pages = Pages::default();
        let (greedy, modest) = (right("greedy", None), right("modest", None));
        let kept = pages.open(&modest, 0);
        let first = pages.open(&greedy, 1);
        for no in 0..PAGES_MAX as u64 {
            pages.open(&greedy, 2 + no);
        }
        assert_eq!(pages.0.lock().len(), PAGES_MAX);
        assert!(pages.find(&kept.cookie, 5).is_some());
        assert!(pages.find(&first.cookie, 5).is_none() && first.lease.alive.is_cancelled());
    }
}
