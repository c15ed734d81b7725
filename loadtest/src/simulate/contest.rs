//! Who takes part, by name.

use buslane_shared::overload::settings;

use super::buslane::Buslane;
use super::policy::Policy;
use super::rivals::apf::Apf;
use super::rivals::cinnamon::Cinnamon;
use super::rivals::codel::CodelLifo;
use super::rivals::dagor::Dagor;
use super::rivals::fifo::Fifo;
use super::rivals::flip::Flip;
use super::rivals::gradient::Gradient2;
use super::rivals::limited::Limited;
use super::rivals::partitioned::Partitioned;
use super::rivals::tower::Tower;
use super::rivals::vegas::Vegas;

/// Our own policy: the one that the others are held against.
pub const OURS: &str = "buslane";

/// Names of all policies: ours, its kill switches, the rivals.
pub const NAMES: [&str; 13] = [
    OURS,
    "static",
    "none",
    "fifo",
    "tower",
    "gradient",
    "vegas",
    "codel-lifo",
    "dagor",
    "cinnamon",
    "partitioned",
    "apf",
    "flip",
];

/// The policy of this name, for a node with this many workers.
pub fn policy(name: &str, workers: u32) -> Option<Box<dyn Policy>> {
    Some(match name {
        OURS => Box::new(Buslane::new(settings::Policy::Buslane, workers)),
        "static" => Box::new(Buslane::new(settings::Policy::Static, workers)),
        "none" => Box::new(Buslane::new(settings::Policy::None, workers)),
        "fifo" => Box::new(Fifo),
        "tower" => Box::new(Tower::new(workers)),
        "gradient" => Box::new(Limited::new(Gradient2::default())),
        "vegas" => Box::new(Limited::new(Vegas::default())),
        "codel-lifo" => Box::new(CodelLifo::new(workers)),
        "dagor" => Box::new(Dagor::new(workers)),
        "cinnamon" => Box::new(Cinnamon::new(workers)),
        "partitioned" => Box::new(Partitioned::default()),
        "apf" => Box::new(Apf::new(workers)),
        "flip" => Box::new(Flip::new(workers)),
        _ => return None,
    })
}

/// Whether somebody else had the idea; our own kill switches are no rivals.
pub fn is_rival(name: &str) -> bool {
    ![OURS, "static", "none"].contains(&name)
}
