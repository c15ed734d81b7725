//! Who was refused lately, and why: the answer to "why could she not log in?".
//!
//! Why it exists: a refusal is told to a client and is gone; the user who calls the help desk does not know its code. Those
//! refusals are remembered that say something about the system (no room, no right any more), of users who have shown who they are.
//! It is written on threads that run only when nothing else wants to, so nothing here may be locked: a place is swapped as a whole. It
//! must never grow, and one user must never push out the others.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use buslane_shared::UnixMs;
use buslane_shared::class::Class;
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::overload::posture;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::Posture;
use serde::Serialize;

/// Refusals that a node remembers at most: some 700 KiB.
pub const REFUSALS_MAX: usize = 4_096;

/// Of them, those of one user, and of the few others who have the same place.
const OF_A_PLACE: usize = 4;

const PLACES: usize = REFUSALS_MAX / OF_A_PLACE;

/// The same refusal of the same user is remembered again after this: a client that comes again and again costs nothing here.
const AGAIN_MS: u64 = 1_000;

/// A refusal as it is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at_ms: UnixMs,
    /// Who.
    pub user: UserId,
    /// From which device.
    pub device: Option<DeviceId>,
    /// What was refused: "enter", "hello", or the name of a protocol.
    pub what: &'static str,
    /// Why.
    pub code: Code,
    /// The class, where it has one.
    pub class: Option<Class>,
    /// The level of the request, where it was ranked.
    pub level: Option<u16>,
    /// The first level that was refused at that time, where it is known.
    pub cut: Option<u16>,
    /// The posture at that time.
    pub posture: Posture,
    /// What the user was told to wait, where that was said.
    pub retry_after_ms: Option<u32>,
    /// Whether there is a slot at the end of the wait.
    pub has_slot: bool,
}

impl Refused {
    /// A refusal on its way out. None: it says something about the request and nothing about the system.
    pub fn of(
        refusal: &Refusal,
        who: (&UserId, Option<DeviceId>),
        what: &'static str,
        posture: Posture,
        at_ms: UnixMs,
    ) -> Option<Self> {
        let is_remembered = matches!(
            refusal.code,
            Code::Busy
                | Code::RateLimited
                | Code::Draining
                | Code::Unavailable
                | Code::Revoked
                | Code::CredentialExpired
                | Code::TicketExpired
                | Code::BadSlot
        );
        let busy = refusal.busy.as_ref();
        is_remembered.then(|| Self {
            at_ms,
            user: who.0.clone(),
            device: who.1,
            what,
            code: refusal.code,
            class: busy.map(|busy| busy.class),
            level: busy.map(|busy| busy.level),
            cut: None,
            posture,
            retry_after_ms: Some(refusal.retry_after_ms).filter(|ms| *ms > 0),
            has_slot: busy.is_some_and(|busy| !busy.slot.is_empty()),
        })
    }

    fn is_again(&self, other: &Self) -> bool {
        self.user == other.user
            && self.device == other.device
            && self.what == other.what
            && self.code == other.code
            && self.at_ms < other.at_ms.saturating_add(AGAIN_MS)
    }

    fn facts(&self) -> RefusalFacts {
        let retry_at_ms = self.retry_after_ms.map(|ms| self.at_ms.saturating_add(ms.into()));
        RefusalFacts {
            at_ms: self.at_ms,
            device: self.device.map(|device| device.to_string()),
            what: self.what,
            code: self.code.name(),
            class: self.class.map(Class::name),
            level: self.level,
            cut: self.cut,
            posture: posture::name(self.posture),
            retry_at_ms,
            slot_at_ms: retry_at_ms.filter(|_| self.has_slot),
            sentence: self.sentence(),
        }
    }

    /// For people.
    fn sentence(&self) -> String {
        let mut sentence = format!("{} was refused: {}.", self.what, self.reason());
        if let Some(wait_ms) = self.retry_after_ms {
            let wait_s = f64::from(wait_ms) / 1_000.0;
            sentence += &match self.has_slot {
                true => format!(" A slot was kept for it {wait_s:.1} s later."),
                false => format!(" It was told to come back after {wait_s:.1} s."),
            };
        }
        sentence
    }

    fn reason(&self) -> String {
        let posture = posture::name(self.posture);
        match (self.code, self.class, self.level, self.cut) {
            (Code::Busy, Some(class), Some(level), Some(cut)) if level >= cut => format!(
                "the node admitted no level from {cut} on (posture {posture}), and this one, {class}, has {level}"
            ),
            (Code::Busy, Some(class), ..) => {
                format!("there was no room for {class} in posture {posture}")
            }
            (Code::Busy, None, ..) => "the node had as many sessions as it may have".to_owned(),
            (code, ..) => code.remedy().to_owned(),
        }
    }
}

/// A refusal as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalFacts {
    /// When.
    pub at_ms: UnixMs,
    /// The device, a UUID, where it was known.
    pub device: Option<String>,
    /// What was refused: "enter", "hello", or the name of a protocol.
    pub what: &'static str,
    /// Name of the refusal's code.
    pub code: &'static str,
    /// "C0" to "C7", where it has a class.
    pub class: Option<&'static str>,
    /// The level of the request, where it was ranked.
    pub level: Option<u16>,
    /// The first level that was refused at that time, where it is known.
    pub cut: Option<u16>,
    /// The posture at that time.
    pub posture: &'static str,
    /// When it may come back, if it was told.
    pub retry_at_ms: Option<UnixMs>,
    /// When its slot begins, if it was given one.
    pub slot_at_ms: Option<UnixMs>,
    /// In a sentence for people.
    pub sentence: String,
}

/// The refusals that are remembered. Each user has a place, with room for a few; the oldest there is forgotten first.
pub struct Refusals {
    places: Box<[Place]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Place {
    /// How many came here.
    count: AtomicUsize,
    ring: [ArcSwapOption<Refused>; OF_A_PLACE],
}

impl Default for Refusals {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| Place::default()).collect(), hasher: RandomState::new() }
    }
}

impl Refusals {
    /// Remembers a refusal.
    pub fn note(&self, refused: Refused) {
        let Some(place) = self.place(refused.user.as_str()) else { return };
        let is_again = place.ring.iter().any(|known| {
            known.load().as_ref().is_some_and(|known| refused.is_again(known) && refused.at_ms >= known.at_ms)
        });
        if is_again {
            return;
        }
        let at = place.count.fetch_add(1, Ordering::Relaxed) % OF_A_PLACE;
        if let Some(slot) = place.ring.get(at) {
            slot.store(Some(Arc::new(refused)));
        }
    }

    /// What is remembered of a user, newest first.
    pub fn of(&self, user: &str) -> Vec<RefusalFacts> {
        let ring = self.place(user).into_iter().flat_map(|place| &place.ring);
        let mut found: Vec<_> = ring.filter_map(ArcSwapOption::load_full).collect();
        found.retain(|refused| refused.user.as_str() == user);
        found.sort_by_key(|refused| std::cmp::Reverse(refused.at_ms));
        found.iter().map(|refused| refused.facts()).collect()
    }

    fn place(&self, user: &str) -> Option<&Place> {
        let at = self.hasher.hash_one(user) % PLACES as u64;
        usize::try_from(at).ok().and_then(|at| self.places.get(at))
    }
}

#[cfg(test)]
mod tests;
