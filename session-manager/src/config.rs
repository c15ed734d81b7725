//! What an operator can set on a session manager, with defaults that suit phones.
//!
//! Why it exists: every limit is a number with a name and a reason, and a wrong one is found before a port is bound. It
//! must never accept times that contradict each other: a phone that pings as told must not be taken for dead.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use buslane_shared::overload::settings::Settings;
use garde::Validate;
use serde::{Deserialize, Serialize};

/// How many times longer than usual clients may be silent in an emergency, at most: the largest `ping_factor`.
const PATIENCE_MAX: u32 = 20;

/// The settings of a session manager.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this node: tickets name it, so no two session managers of a system may have the same.
    #[garde(length(min = 1, max = 64))]
    pub node: String,
    /// Name in its certificate, under which clients verify it.
    #[garde(length(min = 1, max = 253))]
    pub server_name: String,
    /// UDP address for clients whose app is looked at.
    #[garde(skip)]
    pub front: SocketAddr,
    /// UDP address for clients that the system woke.
    #[garde(skip)]
    pub wake: SocketAddr,
    /// Host name or address that clients are told; without it, the addresses it listens on.
    #[garde(inner(length(min = 1, max = 253)))]
    pub advertise: Option<String>,
    /// Share of the users beside other session managers.
    #[garde(range(min = 1, max = 1_000))]
    pub weight: u32,
    /// Threads for the front port; without it, one less than the machine has cores.
    #[garde(inner(range(min = 1, max = 256)))]
    pub front_workers: Option<usize>,
    /// How much is accepted at a time.
    #[garde(dive)]
    pub bounds: Bounds,
    /// How long things may take.
    #[garde(dive)]
    pub times: Times,
    /// Who goes first when there is more to do than can be done. All of it can be changed while the node runs.
    #[garde(dive)]
    pub overload: Overload,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "session-manager-1".to_owned(),
            server_name: "localhost".to_owned(),
            front: SocketAddr::from((Ipv4Addr::LOCALHOST, 7401)),
            wake: SocketAddr::from((Ipv4Addr::LOCALHOST, 7402)),
            advertise: None,
            weight: 1,
            front_workers: None,
            bounds: Bounds::default(),
            times: Times::default(),
            overload: Overload::default(),
        }
    }
}

impl Config {
    /// Threads of the front port's runtime: all cores but one, which is left to the wake port and the rest.
    pub(crate) fn front_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.front_workers.unwrap_or_else(|| cores.saturating_sub(1).max(1))
    }
}

/// How much is accepted at a time.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Handshakes in flight on each port: a half-open one costs up to 45 KiB, so this many cost 12 MiB.
    #[garde(range(min = 1, max = 65_536))]
    pub handshakes_max: u32,
    /// Of them, those from one address (or one network of IPv6), so that nobody keeps the others out. Many phones share one
    /// address of their operator, and at 64 of 100 ms each 640 of them come in every second.
    #[garde(range(min = 1, max = 65_536))]
    pub handshakes_per_address_max: u32,
    /// Sessions of the node, those that wait for their client to come back included. At 36 KiB each, this many fit 16 GiB.
    #[garde(range(min = 1, max = 10_000_000))]
    pub sessions_max: u32,
    /// Sessions that wait for their client to come back; the oldest go first. Each may hold a full mailbox.
    #[garde(range(min = 0, max = 10_000_000))]
    pub waiting_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshakes_max: 256,
            handshakes_per_address_max: 64,
            sessions_max: 450_000,
            waiting_max: 100_000,
        }
    }
}

/// How long things may take, in milliseconds.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(custom(times_fit_together))]
pub struct Times {
    /// Handshake and hello together: three round trips of the worst mobile network, with one loss.
    #[garde(range(min = 10, max = 60_000))]
    pub hello_limit_ms: u32,
    /// A client that has sent nothing else for this long sends a ping.
    #[garde(range(min = 10, max = 3_600_000))]
    pub ping_interval_ms: u32,
    /// A session from which nothing was heard for this long is closed.
    #[garde(range(min = 10, max = 3_600_000))]
    pub idle_limit_ms: u32,
    /// A session whose connection was lost is kept this long for its client: a lift, a tunnel, a change of network.
    #[garde(range(min = 0, max = 600_000))]
    pub resume_window_ms: u32,
    /// A client for which bytes wait must take some within this time.
    #[garde(range(min = 10, max = 600_000))]
    pub slow_reader_limit_ms: u32,
    /// A frame that began must be complete within this time.
    #[garde(range(min = 10, max = 600_000))]
    pub frame_limit_ms: u32,
    /// Clients are asked to leave over this time when the node is stopped. Less than the 10 s that a process has.
    #[garde(range(min = 0, max = 600_000))]
    pub drain_ms: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            hello_limit_ms: 3_000,
            ping_interval_ms: 30_000,
            idle_limit_ms: 90_000,
            resume_window_ms: 30_000,
            slow_reader_limit_ms: 30_000,
            frame_limit_ms: 10_000,
            drain_ms: 5_000,
        }
    }
}

impl Times {
    pub(crate) fn hello_limit(&self) -> Duration {
        millis(self.hello_limit_ms)
    }

    pub(crate) fn idle_limit(&self) -> Duration {
        millis(self.idle_limit_ms)
    }

    pub(crate) fn resume_window(&self) -> Duration {
        millis(self.resume_window_ms)
    }

    pub(crate) fn slow_reader_limit(&self) -> Duration {
        millis(self.slow_reader_limit_ms)
    }

    pub(crate) fn frame_limit(&self) -> Duration {
        millis(self.frame_limit_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        millis(self.drain_ms)
    }

    /// After this the stack itself drops a connection. Later than the idle limit, so that a client is told why; also than the
    /// longest that clients may be asked for in an emergency, because it is fixed when a connection begins.
    pub(crate) fn quic_idle_timeout(&self) -> Duration {
        self.idle_limit() * PATIENCE_MAX + Duration::from_secs(10)
    }
}

/// The settings of overload control, as a table of this configuration.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Overload(pub Settings);

impl Deref for Overload {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl DerefMut for Overload {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.0
    }
}

impl Validate for Overload {
    type Context = ();

    /// The complaint names its key, so that it is found on its line.
    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        if let Err(complaint) = self.check() {
            let path = complaint.key.split('.').fold(parent(), |path, part| path.join(part.to_owned()));
            report.append(path, garde::Error::new(complaint.why));
        }
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn times_fit_together(times: &Times, (): &()) -> garde::Result {
    if times.idle_limit_ms / 2 < times.ping_interval_ms {
        return Err(garde::Error::new(
            "idle_limit_ms must be at least twice ping_interval_ms, or one lost ping ends a session",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::default().validate().is_ok());
    }

    #[test]
    fn a_phone_that_pings_as_told_is_not_taken_for_dead() {
        let times = Times { ping_interval_ms: 50_000, ..Times::default() };
        let complaint = Config { times, ..Config::default() }.validate().unwrap_err().to_string();
        assert!(complaint.contains("idle_limit_ms must be at least twice"), "{complaint}");
    }

    #[test]
    fn settings_of_overload_control_that_cannot_hold_are_named_with_their_line() {
        let text =
            "front_workers = 1\n[overload.lanes]\nseats = 64\nC1 = { guarantee = 90, ceiling = 100 }\n";
        let wrong =
            buslane_chassis::config::parse::<Config>(text, "node.toml".as_ref()).unwrap_err().to_string();
        assert!(wrong.starts_with("node.toml:2: overload.lanes: "), "{wrong}");
        assert!(wrong.contains("2 + 90 + 20 + 5 + 8 + 5 + 1 + 0 = 131 %"), "{wrong}");
        let text = "[overload.thresholds]\nsojourn_ms = { guard = 9, hard = 3 }\n";
        let wrong =
            buslane_chassis::config::parse::<Config>(text, "node.toml".as_ref()).unwrap_err().to_string();
        assert!(wrong.starts_with("node.toml:2: overload.thresholds.sojourn_ms: "), "{wrong}");
        let text = "[overload.caps]\n\"mesage.send\" = 60\n";
        let wrong =
            buslane_chassis::config::parse::<Config>(text, "node.toml".as_ref()).unwrap_err().to_string();
        assert!(wrong.contains("message.send"), "{wrong}");
    }

    #[test]
    fn no_thread_is_still_one_thread() {
        assert_eq!(Config { front_workers: Some(3), ..Config::default() }.front_threads(), 3);
        assert!(Config::default().front_threads() >= 1);
    }
}
