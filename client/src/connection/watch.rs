//! The watch over what is awaited: a path that carries nothing ends the session, an answer that is overdue is given up.
//!
//! Silence ends nothing while nothing is awaited.

use std::time::{Duration, Instant};

use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer};

use crate::error::{Error, Refused};

use super::Connection;
use super::end::End;

/// How often a connection is looked at while an answer is awaited.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Beyond the deadline that the server was given, an answer that is this late is not awaited any more.
pub(super) const LATE: Duration = Duration::from_secs(5);

impl Connection<'_> {
    pub(super) fn tick_interval(&self) -> Duration {
        TICK.min(self.core.options.silence_limit / 4)
    }

    /// While an answer is awaited: is the path alive, is an answer overdue?
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), End> {
        if self.next_tick.is_none_or(|at| at > now) {
            return Ok(());
        }
        let datagrams = self.session.connection.stats().udp_rx.datagrams;
        if datagrams != self.datagrams {
            self.datagrams = datagrams;
            self.heard_at = now;
        }
        self.give_up_overdue(now);
        self.next_tick = (!self.table.is_empty()).then(|| now + self.tick_interval());
        if self.next_tick.is_some() && now >= self.heard_at + self.core.options.silence_limit {
            return Err(End::lost(Error::unreachable("the network carries nothing any more")));
        }
        Ok(())
    }

    /// The server answers everything within its deadline. Should it not, a message goes again, and an app has given up.
    fn give_up_overdue(&mut self, now: Instant) {
        let overdue: Vec<u64> =
            self.table.iter().filter(|(_, a)| now >= a.until).map(|(id, _)| *id).collect();
        for id in overdue {
            let refused = Refused { maybe_applied: true, ..Refused::of(Code::Deadline) };
            let result = Some(answer::Result::Refusal(wire::Refusal {
                code: refused.code.into(),
                retryable: true,
                detail: refused.detail,
                maybe_applied: true,
                ..wire::Refusal::default()
            }));
            self.on_answer(wire::Answer { id, result });
        }
    }
}
