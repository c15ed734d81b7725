//! What can fail, how it is, and what the others suffer from.

pub mod alerts;

use std::path::Path;
use std::sync::Arc;

use buslane_chassis::clock;
use buslane_chassis::shutdown::Shutdown;

use crate::seat::Seat;
use crate::view::{State, StatusView};

/// The status of the system, as this process sees it.
pub struct Status;

impl Status {
    /// One that has not looked yet.
    pub fn open(_folder: &Path) -> Arc<Self> {
        Arc::new(Self)
    }

    /// What it has seen.
    pub fn view(&self) -> StatusView {
        StatusView {
            state: State::Unknown,
            summary: "Nothing was looked at yet.".to_owned(),
            components: Vec::new(),
            alerts: Vec::new(),
            probe: None,
            now_ms: clock::unix_ms(),
        }
    }

    /// Looks every second until the shutdown.
    pub fn run(_seat: &Arc<Seat>, _shutdown: &Shutdown) {}
}
