//! Which port a client takes, and what it shows there. Pure: one table.
//!
//! A person is not to wait behind a country of phones, so the foreground port is for those who show a pass; without one it is
//! silent. A client must therefore never go there without a pass in the hope of being let in, unless the system knows no passes.

/// A port of a session manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Port {
    /// For what a person looks at.
    Front,
    /// For what phones do by themselves, and for strangers.
    Wake,
}

/// What is shown in the first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Nothing.
    Nothing,
    /// A pass for the port.
    Pass,
    /// The slot whose time is now.
    Slot,
}

/// What is known before a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// A person looks at the app.
    pub looked_at: bool,
    /// The system gives out passes.
    pub passes_known: bool,
    /// There is a fresh pass for the foreground port.
    pub front_pass: bool,
    /// There is a fresh pass for the background port.
    pub wake_pass: bool,
    /// There is a slot, and its time is now.
    pub slot: bool,
    /// A gateway may be asked for passes; it was not just now.
    pub may_ask: bool,
    /// The foreground port did not answer to the last pass that was shown there.
    pub front_is_silent: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Connect.
    Go(Port, Show),
    /// Ask a gateway for passes first.
    AskForPasses,
}

/// Chooses.
pub(crate) fn choose(facts: Facts) -> Way {
    let by_wake = if facts.wake_pass { Show::Pass } else { Show::Nothing };
    if !facts.looked_at {
        Way::Go(Port::Wake, if facts.slot { Show::Slot } else { by_wake })
    } else if !facts.passes_known {
        Way::Go(Port::Front, Show::Nothing)
    } else if facts.front_is_silent {
        // A pass that was not accepted, or a server that is away: the other port tells which.
        Way::Go(Port::Wake, by_wake)
    } else if facts.front_pass {
        Way::Go(Port::Front, Show::Pass)
    } else if facts.may_ask {
        Way::AskForPasses
    } else {
        Way::Go(Port::Wake, by_wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: Facts = Facts {
        looked_at: true,
        passes_known: true,
        front_pass: true,
        wake_pass: false,
        slot: false,
        may_ask: true,
        front_is_silent: false,
    };
    const WOKEN: Facts = Facts { looked_at: false, ..OPENED };

    #[test]
    fn the_table() {
        use Port::{Front, Wake};
        let rows = [
            (OPENED, Way::Go(Front, Show::Pass)),
            (Facts { slot: true, ..OPENED }, Way::Go(Front, Show::Pass)),
            (Facts { front_pass: false, ..OPENED }, Way::AskForPasses),
            (Facts { front_pass: false, may_ask: false, ..OPENED }, Way::Go(Wake, Show::Nothing)),
            (
                Facts { front_pass: false, may_ask: false, wake_pass: true, ..OPENED },
                Way::Go(Wake, Show::Pass),
            ),
            (Facts { front_is_silent: true, ..OPENED }, Way::Go(Wake, Show::Nothing)),
            (Facts { passes_known: false, front_pass: false, ..OPENED }, Way::Go(Front, Show::Nothing)),
            (WOKEN, Way::Go(Wake, Show::Nothing)),
            (Facts { wake_pass: true, ..WOKEN }, Way::Go(Wake, Show::Pass)),
            (Facts { wake_pass: true, slot: true, ..WOKEN }, Way::Go(Wake, Show::Slot)),
            (Facts { passes_known: false, ..WOKEN }, Way::Go(Wake, Show::Nothing)),
        ];
        for (facts, way) in rows {
            assert_eq!(choose(facts), way, "{facts:?}");
        }
    }
}
