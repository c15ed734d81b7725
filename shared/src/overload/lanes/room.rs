//! How much may wait, and how long it will.

use super::{Job, Lanes, NEWEST_FIRST_AFTER, Why};
use crate::Nanos;
use crate::class::{Class, Protocol};
use crate::overload::queue::{ANY, Place, Waiting, bit};
use crate::overload::settings::Policy;

/// Work that a foreground queue holds, in time of the seats that its class can have: what waits longer is felt.
pub const FOREGROUND_ROOM: Nanos = 12_000_000;

/// Jobs that a foreground queue holds however much they cost: a mean cost that is wrong must not shut everybody out.
pub const FOREGROUND_COUNT_MIN: u32 = 64;

/// Jobs that a foreground queue holds however little they cost: 3 MiB of entries.
pub const FOREGROUND_COUNT_MAX: u32 = 32_768;

/// Bytes that the jobs of a foreground queue hold: four of them together stay under 256 MiB.
pub const FOREGROUND_BYTES_MAX: u64 = 64 << 20;

/// The same for background: what it holds was not asked for by anybody who waits.
pub const BACKGROUND_BYTES_MAX: u64 = 8 << 20;

/// Jobs that wait without any order of importance ([`Policy::None`]), all classes together.
pub const UNSORTED_COUNT_MAX: u32 = 65_536;

/// Jobs that wait for each of the seats of a class under [`Policy::Static`].
const FIXED_COUNT_PER_SEAT: u32 = 4;

impl Lanes {
    /// How long a job of this class that came now would wait.
    pub fn predicted_wait(&self, class: Class) -> Nanos {
        self.backlog(class) / u64::from(self.seats_within_reach(class))
    }

    /// Cost of what waits in a class.
    pub fn backlog(&self, class: Class) -> Nanos {
        if self.queue.total(class).count == 0 {
            return 0;
        }
        Protocol::ALL.into_iter().map(|p| u64::from(self.queue.count(class, p)) * self.cost(p)).sum()
    }

    /// Why a job is not worth beginning, if it is not.
    pub(super) fn why_too_late(&self, job: &Job) -> Option<Why> {
        match job.deadline.checked_sub(self.now) {
            None | Some(0) => Some(Why::Stale),
            Some(left) if left < self.cost(job.protocol) && self.policy == Policy::Buslane => Some(Why::Late),
            Some(_) => None,
        }
    }

    /// Why a job cannot wait, if it cannot.
    pub(super) fn why_no_room(&self, job: &Job) -> Option<Why> {
        let total = self.queue.total(job.class);
        let bytes_max = if job.class.is_foreground() { FOREGROUND_BYTES_MAX } else { BACKGROUND_BYTES_MAX };
        let has_room = total.bytes + u64::from(job.bytes) <= bytes_max
            && match self.policy {
                Policy::Buslane if job.class.is_foreground() => self.has_foreground_room(job),
                Policy::Buslane => self.has_background_room(job),
                Policy::Static => total.count < FIXED_COUNT_PER_SEAT * self.shares.of(job.class).guarantee,
                Policy::None => self.queue.len() < UNSORTED_COUNT_MAX as usize,
            };
        (!has_room).then(|| self.why_waits(job))
    }

    /// The seats that a class could have, as the others use them now. At least one.
    pub(super) fn seats_within_reach(&self, class: Class) -> u32 {
        let share = self.shares.of(class);
        let seats = match self.policy {
            Policy::Buslane if class.is_foreground() => {
                let background = self.background_in_use.min(self.shares.floor);
                let others =
                    (self.in_use + background).saturating_sub(self.background_in_use + self.used(class));
                self.shares.seats.saturating_sub(others).min(share.ceiling).max(share.guarantee)
            }
            Policy::Buslane => {
                let limit = self.background_limit();
                let others = self.background_in_use.saturating_sub(self.used(class));
                let left = (self.shares.seats + self.background_in_use).saturating_sub(self.in_use);
                let left = left.min(limit).saturating_sub(others).min(share.ceiling);
                left.max(self.background_guarantee(class, limit))
            }
            Policy::Static | Policy::None => share.ceiling,
        };
        seats.max(1)
    }

    /// Somebody who has waited too long in a foreground queue that holds too much, and why he waits.
    pub(super) fn one_too_many(&self) -> Option<(Place, Why)> {
        if self.queue.is_empty() || self.policy != Policy::Buslane {
            return None;
        }
        let classes = Class::ALL.into_iter().filter(|class| class.is_foreground());
        classes.filter(|class| self.holds_too_much(*class)).find_map(|class| {
            let (place, oldest) = self.queue.oldest(class, ANY).filter(|(_, oldest)| self.is_old(oldest))?;
            Some((place, self.why_waits(&oldest.job)))
        })
    }

    /// Whether the newest go before this one.
    pub(super) fn is_old(&self, waiting: &Waiting) -> bool {
        self.now.saturating_sub(waiting.since) > NEWEST_FIRST_AFTER
    }

    fn holds_too_much(&self, class: Class) -> bool {
        self.queue.total(class).count > FOREGROUND_COUNT_MIN
            && self.backlog(class) > FOREGROUND_ROOM * u64::from(self.seats_within_reach(class))
    }

    /// What a protocol may queue is bounded like what it may use: one that is capped must not fill the queue of its class.
    fn has_foreground_room(&self, job: &Job) -> bool {
        let (total, waiting) = (self.queue.total(job.class).count, self.queue.count(job.class, job.protocol));
        let cost = self.cost(job.protocol);
        let (reach, cap) = (self.seats_within_reach(job.class), self.shares.cap(job.protocol));
        let holds = |backlog: Nanos, seats: u32| backlog + cost <= FOREGROUND_ROOM * u64::from(seats);
        // Where the queue is old the newcomer takes the place of the oldest: `next` turns that one away.
        let takes_a_place =
            || self.queue.oldest(job.class, ANY).is_some_and(|(_, oldest)| self.is_old(&oldest));
        total < FOREGROUND_COUNT_MAX
            && (total < FOREGROUND_COUNT_MIN || holds(self.backlog(job.class), reach) || takes_a_place())
            && (cap >= reach || waiting < FOREGROUND_COUNT_MIN || holds(u64::from(waiting) * cost, cap))
    }

    /// Half of its seats, and never less than one job: or it would have to be lucky to find a seat free.
    fn has_background_room(&self, job: &Job) -> bool {
        let reach = self.seats_within_reach(job.class);
        let of_protocol = reach.min(self.shares.cap(job.protocol));
        self.queue.total(job.class).count < (reach / 2).max(1)
            && self.queue.count(job.class, job.protocol) < (of_protocol / 2).max(1)
    }

    /// The narrowest limit that keeps a job waiting.
    fn why_waits(&self, job: &Job) -> Why {
        if self.capped & bit(job.protocol) != 0 {
            Why::Cap
        } else if !self.has_own_room(job.class) {
            Why::Ceiling
        } else if !job.class.is_foreground() && self.background_in_use >= self.background_limit() {
            Why::Background
        } else {
            Why::QueueFull
        }
    }
}
