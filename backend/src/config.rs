//! What an operator may choose about the backend.
//!
//! Every value has a default that is right for one machine, so an empty table is a valid configuration.

use garde::Validate;
use serde::{Deserialize, Serialize};

/// Configuration of the backend.
#[derive(Debug, Clone, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this node in leases and log lines.
    #[garde(length(min = 1, max = 64))]
    pub node: String,
    /// Days for which messages are kept on the server; 0 keeps them for ever.
    #[garde(range(max = 36_500))]
    pub retention_days: u32,
    /// Days for which a device's credential lives. Gateways renew it after half of that, so it is how long a device may
    /// stay away before it must enrol again.
    #[garde(range(min = 1, max = 180))]
    pub credential_days: u32,
    /// Hours after which the keys of tickets and credentials are replaced (old ones still open what they sealed).
    #[garde(range(min = 6, max = 720))]
    pub token_key_hours: u32,
    /// Rooms held in memory; idle ones make place. A busy room takes about 30 KiB, a quiet one 2.
    #[garde(range(min = 16))]
    pub rooms_active_max: usize,
    /// Rates of requests.
    #[garde(dive)]
    pub limits: Limits,
}

/// Rates, each as a steady number and a burst. 0 a second means no limit.
#[derive(Debug, Clone, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Messages a second of one user. A person types 1 or 2; an outbox that was offline for an hour comes as a burst.
    #[garde(skip)]
    pub user_sends_per_s: u32,
    /// Messages of one user at once.
    #[garde(range(min = 1))]
    pub user_sends_burst: u32,
    /// Messages a second into one room, whoever sends them: bounds the fan-out of a room that everybody shouts in.
    #[garde(skip)]
    pub room_sends_per_s: u32,
    /// Messages into one room at once.
    #[garde(range(min = 1))]
    pub room_sends_burst: u32,
    /// Changes a second of one user: rooms made, invitations, settings, blocks, devices.
    #[garde(skip)]
    pub user_changes_per_s: u32,
    /// Changes of one user at once.
    #[garde(range(min = 1))]
    pub user_changes_burst: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "backend".to_owned(),
            retention_days: 3,
            credential_days: 30,
            token_key_hours: 24,
            rooms_active_max: 20_000,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// How long a credential lives, in milliseconds.
    pub(crate) fn credential_life_ms(&self) -> u64 {
        u64::from(self.credential_days) * 24 * 3600 * 1000
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            user_sends_per_s: 50,
            user_sends_burst: 500,
            room_sends_per_s: 500,
            room_sends_burst: 2_000,
            user_changes_per_s: 5,
            user_changes_burst: 50,
        }
    }
}

impl Limits {
    /// No limits: for a node that only its owner reaches, and for measuring.
    pub fn off() -> Self {
        Self { user_sends_per_s: 0, room_sends_per_s: 0, user_changes_per_s: 0, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_not() {
        assert!(Config::default().validate().is_ok());
        assert!(Config { credential_days: 0, ..Config::default() }.validate().is_err());
        assert!(Config { rooms_active_max: 0, ..Config::default() }.validate().is_err());
        let limits = Limits { user_sends_burst: 0, ..Limits::off() };
        assert!(Config { limits, ..Config::default() }.validate().is_err());
    }
}
