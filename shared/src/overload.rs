//! Every decision about load: what is admitted now, where it runs, when the rest comes back, and what posture the node has.
//!
//! The parts, from the single request to the whole node: [`claims`] (who may call himself foreground), [`level`] and
//! [`valve`] (is this request admitted: one load, one addition), [`lanes`] (which job runs on which seat, which waits, which is
//! dropped), [`retry`] (budgets for second tries), [`leftover`] (how much of the node background may have), [`admission`]
//! (where the valve is cut, ten times in a hundred milliseconds), [`signals`] (what is measured, and how bad it is), [`surge`]
//! (the posture that is measured), [`orders`] (the posture that is ordered), [`posture`] (the two combined, and what follows for
//! clients), [`brain`] (all of it behind one tick).
//!
//! Why it exists as pure code: the session manager, the property tests and the simulator of a node run the very same
//! decisions. Nothing in here knows sockets, tasks, or the time of day.

pub mod admission;
pub mod brain;
pub mod claims;
pub mod hearing;
pub mod lanes;
pub mod leftover;
pub mod level;
pub mod logins;
pub mod orders;
pub mod posture;
mod queue;
pub mod rate;
pub mod retry;
pub mod settings;
pub mod signals;
pub mod surge;
pub mod thinning;
pub mod valve;
