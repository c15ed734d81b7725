//! Sign-ins that were begun: who is away at the provider.
//!
//! Why it exists: what a browser brings back counts only where it was sent away from here, by the same browser, not long ago, and once. Anybody may
//! begin a sign-in, so there is room for so many, and it must never be taken from one network by another.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::failures::network;
use super::super::secrets::{self, Hash};
use super::Question;

/// How long somebody may be away: a password, a second factor, a look for the phone.
pub(super) const LIFE: Duration = Duration::from_secs(10 * 60);

/// Sign-ins that are under way at a time, some 2 KiB each. Beyond that the network that has most of them loses its oldest.
const PENDING_MAX: usize = 512;

/// What is kept for a browser that comes back.
pub(super) struct Kept {
    pub(super) question: Question,
    /// Where it wants to be then.
    pub(super) next: String,
}

struct Entry {
    kept: Kept,
    /// Of the cookie of the browser that was sent away.
    browser: Hash,
    network: IpAddr,
    since: Instant,
}

/// All of them, by what comes back.
#[derive(Default)]
pub(super) struct Pending(Mutex<HashMap<Hash, Entry>>);

impl Pending {
    /// Keeps a sign-in of the browser that has this cookie.
    pub(super) fn open(&self, kept: Kept, cookie: &str, from: IpAddr, now: Instant) {
        let state = secrets::hash(&kept.question.state);
        let entry = Entry { kept, browser: secrets::hash(cookie), network: network(from), since: now };
        let mut entries = self.0.lock();
        make_room(&mut entries, now);
        entries.insert(state, entry);
    }

    /// What was kept for this state, if this browser was sent away with it. Nobody gets it a second time, whoever asked first.
    pub(super) fn take(&self, state: &str, cookie: Option<&str>, now: Instant) -> Option<Kept> {
        // What is looked up is the hash: how long that takes says nothing about a state.
        let entry = self.0.lock().remove(&secrets::hash(state))?;
        let is_same = cookie.is_some_and(|cookie| secrets::hash(cookie) == entry.browser);
        (is_same && entry.holds(now)).then_some(entry.kept)
    }
}

impl Entry {
    fn holds(&self, now: Instant) -> bool {
        now.duration_since(self.since) < LIFE
    }
}

fn make_room(entries: &mut HashMap<Hash, Entry>, now: Instant) {
    entries.retain(|_, entry| entry.holds(now));
    if entries.len() < PENDING_MAX {
        return;
    }
    let mut by_network: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for entry in entries.values() {
        *by_network.entry(entry.network).or_default() += 1;
    }
    let most = by_network.into_iter().max_by_key(|(_, count)| *count).map(|(network, _)| network);
    let of_most = entries.iter().filter(|(_, entry)| Some(entry.network) == most);
    let oldest = of_most.min_by_key(|(_, entry)| entry.since).map(|(state, _)| *state);
    if let Some(state) = oldest {
        entries.remove(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(next: &str) -> (String, Kept) {
        let question = Question::new("http://127.0.0.1/back");
        (question.state.clone(), Kept { question, next: next.to_owned() })
    }

    fn address(no: u32) -> IpAddr {
        IpAddr::from(no.to_be_bytes())
    }

    #[test]
    fn the_parts_of_a_question_differ_and_the_verifier_is_one_of_rfc_7636() {
        let (one, other) = (Question::new("b"), Question::new("b"));
        let parts = [&one.state, &one.nonce, &one.verifier, &other.state, &other.nonce, &other.verifier];
        let distinct: std::collections::BTreeSet<_> = parts.into_iter().collect();
        assert_eq!(distinct.len(), 6);
        assert!(
            (43..=128).contains(&one.verifier.len()) && one.verifier.bytes().all(|b| b.is_ascii_hexdigit())
        );
    }

    #[test]
    fn it_is_for_the_browser_that_was_sent_away_and_once() {
        let (pending, now) = (Pending::default(), Instant::now());
        let (state, mine) = kept("/audit");
        pending.open(mine, "cookie", address(1), now);
        assert!(pending.take("another", Some("cookie"), now).is_none());
        assert_eq!(pending.take(&state, Some("cookie"), now).unwrap().next, "/audit");
        assert!(pending.take(&state, Some("cookie"), now).is_none(), "once");
        for wrong in [None, Some("stolen")] {
            let (state, mine) = kept("/");
            pending.open(mine, "cookie", address(1), now);
            assert!(pending.take(&state, wrong, now).is_none());
            assert!(
                pending.take(&state, Some("cookie"), now).is_none(),
                "a state that was seen elsewhere is spent"
            );
        }
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let (pending, now) = (Pending::default(), Instant::now());
        let [(early, first), (late, second)] = [kept("/"), kept("/")];
        pending.open(first, "c", address(1), now);
        pending.open(second, "c", address(1), now);
        assert!(pending.take(&early, Some("c"), now + LIFE - Duration::from_millis(1)).is_some());
        assert!(pending.take(&late, Some("c"), now + LIFE).is_none());
        let (_, third) = kept("/");
        pending.open(third, "c", address(1), now);
        let (_, fourth) = kept("/");
        pending.open(fourth, "c", address(1), now + LIFE);
        assert_eq!(pending.0.lock().len(), 1, "what is over is forgotten");
    }

    #[test]
    fn who_begins_too_many_loses_his_own() {
        let (pending, now) = (Pending::default(), Instant::now());
        let (modest, mine) = kept("/");
        pending.open(mine, "c", address(1), now);
        let (first, his) = kept("/");
        pending.open(his, "c", address(2), now);
        for no in 0..u64::try_from(PENDING_MAX).unwrap() {
            pending.open(kept("/").1, "c", address(2), now + Duration::from_millis(1 + no));
        }
        assert_eq!(pending.0.lock().len(), PENDING_MAX);
        assert!(pending.take(&modest, Some("c"), now).is_some());
        assert!(pending.take(&first, Some("c"), now).is_none());
    }
}
