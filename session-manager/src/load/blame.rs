//! Which signal a posture is due to, for those who look at it later.
//!
//! Why it exists: EMERGENCY makes room within a tick, and then holds for half a minute while no signal is over its limit. Whoever
//! asks a second later is still to hear what raised it. It must never name a signal for a posture that nothing here has raised.

use buslane_shared::overload::signals::Cause;
use buslane_shared::wire::Posture;

/// What has raised the posture that is measured.
#[derive(Debug, Default)]
pub(crate) struct Blame {
    measured: Posture,
    raised_by: Option<Cause>,
}

impl Blame {
    /// One tick: what is measured and the worst signal now, if one is over its guard value. The one to name.
    pub(crate) fn step(&mut self, measured: Posture, now: Option<Cause>) -> Option<Cause> {
        if height(measured) > height(self.measured) {
            self.raised_by = now;
        } else if measured == Posture::Normal {
            self.raised_by = None;
        }
        self.measured = measured;
        now.or(self.raised_by)
    }
}

/// How high a posture is. RECOVERY is on the way down: what was raised before it is named until all is NORMAL.
fn height(posture: Posture) -> u8 {
    match posture {
        Posture::Normal | Posture::Recovery => 0,
        Posture::Guard => 1,
        Posture::Emergency => 2,
    }
}

#[cfg(test)]
mod tests {
    use buslane_shared::overload::signals::Signal;

    use super::*;

    #[test]
    fn what_raised_a_posture_is_named_as_long_as_it_holds() {
        let logins = Cause { signal: Signal::Logins, value: 5.2, limit: 3.0 };
        let seats = Cause { signal: Signal::SeatsBusy, value: 0.9, limit: 0.8 };
        let mut blame = Blame::default();
        let ticks = [
            (Posture::Normal, None, None),
            // A signal that is over its limit for a tick raises nothing, and is named for that tick.
            (Posture::Normal, Some(seats), Some(seats)),
            (Posture::Normal, None, None),
            (Posture::Guard, Some(seats), Some(seats)),
            (Posture::Guard, None, Some(seats)),
            (Posture::Emergency, Some(logins), Some(logins)),
            (Posture::Emergency, None, Some(logins)),
            // What is over its limit now says more.
            (Posture::Emergency, Some(seats), Some(seats)),
            (Posture::Emergency, None, Some(logins)),
            (Posture::Recovery, None, Some(logins)),
            (Posture::Normal, None, None),
            // Other nodes raise GUARD too: no signal of this one is to blame.
            (Posture::Guard, None, None),
            (Posture::Normal, None, None),
        ];
        for (no, (measured, now, named)) in ticks.into_iter().enumerate() {
            assert_eq!(blame.step(measured, now), named, "tick {no}");
        }
    }
}
