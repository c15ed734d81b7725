//! What the server asks for: the posture with its advice, and passes for the next connection.
//!
//! The pause between two pings never becomes longer than the app allows, whatever is asked for.

use std::time::Instant;

use buslane_shared::wire;

use crate::conditions::Conditions;

use super::Connection;

impl Connection<'_> {
    pub(super) fn on_conditions(&mut self, conditions: Conditions) {
        if let Some(asked) = conditions.ping_interval {
            self.ping_interval = asked.min(self.core.options.ping_interval_max);
        }
        self.core.on_conditions(conditions);
    }

    /// An answer to a ping names the posture alone. The event says more; should it have been dropped, this is enough to go
    /// back to what is usual.
    pub(super) fn on_pong(&mut self, pong: &wire::Pong) {
        let known = self.core.conditions.borrow().clone();
        if pong.posture() != known.posture {
            let usual = pong.posture() == wire::Posture::Normal;
            let heard = Conditions { posture: pong.posture(), ..known };
            self.on_conditions(if usual { heard.relaxed() } else { heard });
        }
    }

    pub(super) fn take_passes(&self, passes: Option<wire::Passes>) {
        if let Some(passes) = passes {
            self.core.passes.lock().take_in(&passes, Some(self.server), Instant::now());
        }
    }
}
