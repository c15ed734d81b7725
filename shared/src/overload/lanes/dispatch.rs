//! Who gets the next seat.

use super::{HUNGER, Job, Lanes, Why};
use crate::Nanos;
use crate::class::{Class, Protocol};
use crate::overload::queue::{ANY, Place, Protocols, Waiting, bit};
use crate::overload::settings::Policy;

const FOREGROUND: [Class; 4] = [Class::Control, Class::Talk, Class::Look, Class::Bulk];
const BACKGROUND: [Class; 4] = [Class::Social, Class::Wake, Class::Pulse, Class::Spare];

impl Lanes {
    /// The one who is next, if there is a seat for anybody who waits.
    pub(super) fn pick(&self) -> Option<Place> {
        if self.in_use >= self.shares.seats || self.queue.is_empty() {
            return None;
        }
        match self.policy {
            Policy::Buslane => self.first_in(self.next_class()?),
            Policy::Static => self.first_in(Class::ALL.into_iter().find(|c| self.eligible(*c) != 0)?),
            Policy::None => self.first_of_all(),
        }
    }

    /// Whether a job that comes now, when nobody else is in front of it, can begin.
    pub(super) fn has_seat_for(&self, class: Class, protocol: Protocol) -> bool {
        let may_have = |limit: u32, in_use: u32| in_use < limit;
        may_have(self.shares.seats, self.in_use)
            && self.has_own_room(class)
            && self.capped & bit(protocol) == 0
            && (class.is_foreground() || may_have(self.background_limit(), self.background_in_use))
    }

    /// The seats that background may use now: its floor while foreground wants for seats.
    pub(super) fn background_limit(&self) -> u32 {
        match self.policy {
            Policy::Buslane if self.is_hungry() => self.shares.floor,
            Policy::Buslane => self.background_seats.clamp(self.shares.floor, self.shares.seats),
            Policy::Static | Policy::None => self.shares.seats,
        }
    }

    /// What a background class is promised: less for each of them while background cannot have what they are promised together.
    pub(super) fn background_guarantee(&self, class: Class, limit: u32) -> u32 {
        let (own, all) = (self.shares.of(class).guarantee, self.shares.background_guarantee);
        if limit >= all {
            return own;
        }
        let scaled = u64::from(own) * u64::from(limit) / u64::from(all.max(1));
        (scaled as u32).max(u32::from(own > 0))
    }

    /// Control is always worked on, unless control itself is switched off.
    pub(super) fn is_exempt(&self, class: Class) -> bool {
        class == Class::Control && self.policy == Policy::Buslane
    }

    /// Foreground was turned away because no seat was free for it: it did not run into a limit of its own.
    pub(super) fn note_hunger(&mut self, job: &Job, why: Why) {
        let for_lack_of_seats = match why {
            Why::QueueFull => true,
            Why::Late | Why::Stale => self.has_own_room(job.class) && self.capped & bit(job.protocol) == 0,
            Why::Cap | Why::Ceiling | Why::Background | Why::Twice => false,
        };
        if for_lack_of_seats && job.class.is_foreground() {
            self.hungry_until = self.now + HUNGER;
        }
    }

    /// How long the queue has stood from which this one is taken. Where the newest goes first it has hardly waited itself,
    /// and says nothing; the oldest does.
    pub(super) fn standing_sojourn(&self, waiting: &Waiting) -> Nanos {
        let oldest = self.queue.oldest(waiting.job.class, ANY & !self.capped).map(|(_, w)| w.since);
        self.now.saturating_sub(oldest.unwrap_or(waiting.since))
    }

    fn next_class(&self) -> Option<Class> {
        let limit = self.background_limit();
        let background = || self.next_background(limit);
        // Foreground may fill all seats but those that background has as its floor and wants.
        let foreground_in_use = self.in_use.saturating_sub(self.background_in_use);
        if foreground_in_use + self.shares.floor >= self.shares.seats
            && self.background_in_use < self.shares.floor
            && let Some(class) = background()
        {
            return Some(class);
        }
        let wants = |class: &Class| self.eligible(*class) != 0;
        let is_promised = |class: &Class| self.used(*class) < self.shares.of(*class).guarantee;
        FOREGROUND
            .into_iter()
            .find(|class| wants(class) && is_promised(class))
            .or_else(|| self.promised_background(limit))
            .or_else(|| FOREGROUND.into_iter().find(wants))
            .or_else(background)
    }

    fn next_background(&self, limit: u32) -> Option<Class> {
        if self.background_in_use >= limit {
            return None;
        }
        let borrower = || BACKGROUND.into_iter().find(|class| self.eligible(*class) != 0);
        self.promised_background(limit).or_else(borrower)
    }

    /// They take turns: where the floor is a single seat, the first of them must not keep it.
    fn promised_background(&self, limit: u32) -> Option<Class> {
        if self.background_in_use >= limit {
            return None;
        }
        BACKGROUND
            .into_iter()
            .filter(|class| self.eligible(*class) != 0)
            .filter(|class| self.used(*class) < self.background_guarantee(*class, limit))
            .min_by_key(|class| self.lanes.get(class.index()).map(|lane| lane.last_turn))
    }

    /// The protocols of a class of which somebody waits that no limit of its own keeps waiting.
    fn eligible(&self, class: Class) -> Protocols {
        if !self.has_own_room(class) {
            return 0;
        }
        self.queue.total(class).protocols & !self.capped
    }

    /// Somebody waits whom no limit of its own keeps waiting.
    pub(super) fn presses(&self) -> bool {
        !self.queue.is_empty() && Class::ALL.into_iter().any(|class| self.eligible(class) != 0)
    }

    /// Whether the class has not reached its ceiling. A ceiling of all seats is none: who has them all lacks seats.
    pub(super) fn has_own_room(&self, class: Class) -> bool {
        let ceiling = self.shares.of(class).ceiling;
        ceiling >= self.shares.seats || self.used(class) < ceiling
    }

    fn is_hungry(&self) -> bool {
        self.now < self.hungry_until || FOREGROUND.into_iter().any(|class| self.eligible(class) != 0)
    }

    fn first_in(&self, class: Class) -> Option<Place> {
        let eligible = self.eligible(class);
        let (place, oldest) = self.queue.oldest(class, eligible)?;
        if self.is_old(&oldest) && class.is_foreground() && self.policy == Policy::Buslane {
            return self.queue.newest(class, eligible).map(|(place, _)| place);
        }
        Some(place)
    }

    fn first_of_all(&self) -> Option<Place> {
        let firsts = Class::ALL.into_iter().filter_map(|class| self.queue.oldest(class, ANY));
        firsts.min_by_key(|(_, waiting)| waiting.order).map(|(place, _)| place)
    }
}
