//! What every role needs from the world.

pub mod api;
