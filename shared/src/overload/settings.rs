//! The numbers of overload control, with their defaults and what makes them wrong.
//!
//! Why it exists: an operator changes these in a file, live, in the middle of a bad night. So everything has a default that
//! works, and what cannot hold is refused with a sentence that says what to write instead, before any of it is used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::class::{ByAppState, CLASSES, Class, Classes, PROTOCOLS, Protocol};

/// How load is controlled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Everything in this module.
    #[default]
    Buslane,
    /// Fixed seats for each class, nothing borrowed, nothing measured: the kill switch, and a baseline.
    Static,
    /// First come, first served: a baseline to compare with.
    None,
}

impl Policy {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buslane => "buslane",
            Self::Static => "static",
            Self::None => "none",
        }
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How load is controlled.
    pub policy: Policy,
    /// Classes for which a refusal is counted and not carried out.
    pub dry_run: Vec<Class>,
    /// Seats and how the classes share them.
    pub lanes: Lanes,
    /// The most of the seats that one protocol may use, in percent. Without an entry: what its class may use.
    pub caps: BTreeMap<String, u8>,
    /// Protocols whose classes differ from the default table.
    pub classes: BTreeMap<String, ByAppState>,
    /// How often a user may claim that somebody is looking.
    pub claims: Claims,
    /// From which values on a signal counts.
    pub thresholds: Thresholds,
    /// How the posture changes.
    pub posture: Times,
    /// How background is let in.
    pub background: Background,
}

/// The seats, and each class's part of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lanes {
    /// Jobs that may run at a time.
    pub seats: u32,
    /// Control of live foreground sessions.
    #[serde(rename = "C0")]
    pub control: Share,
    /// Talk.
    #[serde(rename = "C1")]
    pub talk: Share,
    /// Look.
    #[serde(rename = "C2")]
    pub look: Share,
    /// Bulk.
    #[serde(rename = "C3")]
    pub bulk: Share,
    /// Social.
    #[serde(rename = "C4")]
    pub social: Share,
    /// Wake.
    #[serde(rename = "C5")]
    pub wake: Share,
    /// Pulse.
    #[serde(rename = "C6")]
    pub pulse: Share,
    /// Spare.
    #[serde(rename = "C7")]
    pub spare: Share,
}

/// A class's part of the seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Percent of the seats that the class has whenever it wants them.
    pub guarantee: u8,
    /// Percent of the seats that it may have when nobody else wants them.
    pub ceiling: u8,
}

const fn share(guarantee: u8, ceiling: u8) -> Share {
    Share { guarantee, ceiling }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            seats: 512,
            control: share(2, 100),
            talk: share(30, 100),
            look: share(20, 100),
            bulk: share(5, 50),
            social: share(8, 40),
            wake: share(5, 100),
            pulse: share(1, 10),
            spare: share(0, 20),
        }
    }
}

impl Lanes {
    /// In the order of the classes.
    pub fn shares(&self) -> [Share; CLASSES] {
        [self.control, self.talk, self.look, self.bulk, self.social, self.wake, self.pulse, self.spare]
    }
}

/// A token bucket for each user: what exceeds it is treated as background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claims {
    /// Foreground requests at once.
    pub burst: u32,
    /// Foreground requests a second.
    pub per_s: u32,
}

impl Default for Claims {
    fn default() -> Self {
        Self { burst: 20, per_s: 5 }
    }
}

/// Where a signal begins to count (`guard`), and where it alone is an emergency (`hard`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Three ticks in a row over this: GUARD.
    pub guard: f64,
    /// One tick over this: EMERGENCY.
    pub hard: f64,
}

const fn limits(guard: f64, hard: f64) -> Limits {
    Limits { guard, hard }
}

/// From which values on a signal counts. Those of foreground delay are replaced once the node knows its own calm: guard =
/// max(1 ms, calm p99), hard = 2 guard.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Predicted wait of a foreground class, ms.
    pub foreground_wait_ms: Limits,
    /// Predicted wait of a background class, ms.
    pub background_wait_ms: Limits,
    /// Smallest foreground sojourn of the last 20 ms, ms.
    pub sojourn_ms: Limits,
    /// How late a 10 ms timer is, p95 of the last 100, ms.
    pub lateness_ms: Limits,
    /// Share of the seats that are taken.
    pub seats_busy: Limits,
    /// Background logins over 100 ms, as a multiple of their mean over 60 s.
    pub logins: Limits,
    /// The multiple above counts only from this share of the login budget on.
    pub login_share_min: f64,
    /// Fewer logins than this in 100 ms say nothing about a rate, and count for nothing.
    pub logins_min: u32,
    /// Smallest round trip to the backend divided by the recent one: lower is worse.
    pub dependency: Limits,
    /// Share of the requests to the backend that time out: one value, hard.
    pub timeouts: f64,
    /// Share of the memory, the descriptors or the handshakes in flight that is used.
    pub resources: Limits,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            foreground_wait_ms: limits(2.0, 5.0),
            background_wait_ms: limits(50.0, 200.0),
            sojourn_ms: limits(2.0, 5.0),
            lateness_ms: limits(2.0, 5.0),
            seats_busy: limits(0.80, 0.95),
            logins: limits(2.0, 3.0),
            login_share_min: 0.7,
            logins_min: 10,
            dependency: limits(0.7, 0.5),
            timeouts: 0.01,
            resources: limits(0.80, 0.92),
        }
    }
}

/// How the posture changes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// EMERGENCY lasts at least this long.
    pub dwell_ms: u32,
    /// The dwell doubles with each relapse, up to this.
    pub dwell_ms_max: u32,
    /// An EMERGENCY within this time of the last one is a relapse.
    pub relapse_ms: u32,
    /// For this long all signals must be under half of their guard value before EMERGENCY ends.
    pub calm_ms: u32,
    /// And the slot ledger must be shorter than this.
    pub ledger_ms: u32,
    /// RECOVERY lets background back in by this many percent a second.
    pub reopen_percent_per_s: u8,
    /// In EMERGENCY clients wait this many times longer between pings.
    pub ping_factor: u32,
    /// In EMERGENCY clients gather receipts for this long.
    pub receipt_batch_ms: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            dwell_ms: 30_000,
            dwell_ms_max: 300_000,
            relapse_ms: 300_000,
            calm_ms: 10_000,
            ledger_ms: 10_000,
            reopen_percent_per_s: 10,
            ping_factor: 4,
            receipt_batch_ms: 2_000,
        }
    }
}

/// A client of the SDK that has heard nothing sends its hello again after 450 ms, others after a second (RFC 9002, 6.2.2): whoever is held is
/// to be let in before.
const HOLD_MS_MAX: u32 = 400;

/// How background is let in.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Background {
    /// Percent of the node that background always has.
    pub floor_percent: u8,
    /// Background grows only while less than this share of the processors is busy.
    pub cpu_max: f64,
    /// Part of the measured background rate for which slots are given out.
    pub slot_fill: f64,
    /// A client may return this much before or after its slot.
    pub slot_tolerance_ms: u32,
    /// No slot is further away than this; beyond it a client uses back-off.
    pub slot_horizon_ms: u32,
    /// Whoever shows a mark and would be told to come back within this time is held for it instead; 0: nobody is.
    pub hold_ms_max: u32,
    /// Background logins of the whole node, per second, beyond which slots are given out even when nothing else is short.
    /// What a login costs behind the node (the lists that every phone asks for) is not seen at its own door.
    pub logins_per_s_max: u32,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            floor_percent: 5,
            cpu_max: 0.92,
            slot_fill: 0.95,
            slot_tolerance_ms: 1_000,
            slot_horizon_ms: 300_000,
            hold_ms_max: 200,
            logins_per_s_max: 100_000,
        }
    }
}

/// A setting that cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Complaint {
    /// Which setting, as it is written in the file, below the table of these settings.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub why: String,
}

fn complain<T>(key: impl Into<String>, why: impl Into<String>) -> Result<T, Complaint> {
    Err(Complaint { key: key.into(), why: why.into() })
}

impl Settings {
    /// Whether all of it can hold together.
    pub fn check(&self) -> Result<(), Complaint> {
        self.check_lanes()?;
        self.class_table()?;
        self.cap_table()?;
        self.thresholds.check()?;
        self.check_times()?;
        self.check_background()
    }

    /// The classes with the exceptions of these settings.
    pub fn class_table(&self) -> Result<Classes, Complaint> {
        let mut table = Classes::default();
        for (name, classes) in &self.classes {
            let key = format!("classes.\"{name}\"");
            let protocol = name.parse().or_else(|why: String| complain(&key, why))?;
            if protocol == Protocol::Unknown && classes.foreground < Class::Spare {
                return complain(key, "what this version does not know cannot be important; leave it out");
            }
            if classes.background < classes.foreground {
                return complain(
                    key,
                    "background cannot be more important than foreground; exchange the two",
                );
            }
            table.set(protocol, *classes);
        }
        Ok(table)
    }

    /// The most seats of each protocol, in percent; 100 where nothing is set.
    pub fn cap_table(&self) -> Result<[u8; PROTOCOLS], Complaint> {
        let mut table = [100; PROTOCOLS];
        for (name, percent) in &self.caps {
            let key = format!("caps.\"{name}\"");
            let protocol: Protocol = name.parse().or_else(|why: String| complain(&key, why))?;
            if !(1..=100).contains(percent) {
                return complain(key, format!("{percent} is not a percentage from 1 to 100"));
            }
            if let Some(cap) = table.get_mut(protocol.index()) {
                *cap = *percent;
            }
        }
        Ok(table)
    }

    fn check_lanes(&self) -> Result<(), Complaint> {
        if !(16..=1_000_000).contains(&self.lanes.seats) {
            return complain("lanes.seats", format!("{} is not from 16 to 1000000", self.lanes.seats));
        }
        let shares = self.lanes.shares();
        for (class, share) in Class::ALL.into_iter().zip(shares) {
            let key = format!("lanes.{}", class.name());
            if !(1..=100).contains(&share.ceiling) {
                return complain(key, format!("a ceiling of {} is not from 1 to 100", share.ceiling));
            }
            if share.guarantee > share.ceiling {
                let Share { guarantee, ceiling } = share;
                return complain(
                    key,
                    format!("a guarantee of {guarantee} is above its ceiling of {ceiling}"),
                );
            }
        }
        let sum: u32 = shares.iter().map(|s| u32::from(s.guarantee)).sum();
        if sum > 100 {
            let parts: Vec<String> = shares.iter().map(|s| s.guarantee.to_string()).collect();
            let why = format!(
                "the guarantees add up to {} = {sum} %; at most 100 can be promised, lower some of them",
                parts.join(" + ")
            );
            return complain("lanes", why);
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), Complaint> {
        let times = &self.posture;
        if self.claims.burst == 0 || self.claims.per_s == 0 {
            return complain("claims", "burst and per_s are at least 1, or nobody is ever foreground");
        }
        if times.dwell_ms > times.dwell_ms_max {
            return complain("posture.dwell_ms", "it is above dwell_ms_max; raise that or lower this");
        }
        if !(1..=100).contains(&times.reopen_percent_per_s) {
            return complain("posture.reopen_percent_per_s", "write 1 to 100");
        }
        if !(1..=20).contains(&times.ping_factor) {
            return complain("posture.ping_factor", "write 1 to 20");
        }
        if times.receipt_batch_ms > 60_000 {
            return complain("posture.receipt_batch_ms", "write at most 60000");
        }
        Ok(())
    }

    fn check_background(&self) -> Result<(), Complaint> {
        let background = &self.background;
        if !(1..=50).contains(&background.floor_percent) {
            return complain("background.floor_percent", "write 1 to 50");
        }
        if !(0.1..=1.0).contains(&background.cpu_max) {
            return complain("background.cpu_max", "write 0.1 to 1.0");
        }
        if !(0.1..=1.0).contains(&background.slot_fill) {
            return complain("background.slot_fill", "write 0.1 to 1.0");
        }
        if !(100..=60_000).contains(&background.slot_tolerance_ms) {
            return complain("background.slot_tolerance_ms", "write 100 to 60000");
        }
        if !(1_000..=3_600_000).contains(&background.slot_horizon_ms) {
            return complain("background.slot_horizon_ms", "write 1000 to 3600000");
        }
        if background.hold_ms_max > HOLD_MS_MAX {
            return complain("background.hold_ms_max", "write at most 400");
        }
        if background.logins_per_s_max == 0 {
            return complain("background.logins_per_s_max", "write at least 1");
        }
        Ok(())
    }
}

impl Thresholds {
    fn check(&self) -> Result<(), Complaint> {
        let rising = [
            ("foreground_wait_ms", self.foreground_wait_ms),
            ("background_wait_ms", self.background_wait_ms),
            ("sojourn_ms", self.sojourn_ms),
            ("lateness_ms", self.lateness_ms),
            ("seats_busy", self.seats_busy),
            ("logins", self.logins),
            ("resources", self.resources),
        ];
        for (name, Limits { guard, hard }) in rising {
            if !(guard > 0.0 && hard.is_finite() && guard < hard) {
                let why = format!("guard ({guard}) must be above 0 and below hard ({hard})");
                return complain(format!("thresholds.{name}"), why);
            }
        }
        let Limits { guard, hard } = self.dependency;
        // The quickest answer is never quicker than itself: 1 is what is usual.
        if !(hard > 0.0 && guard < 1.0 && hard < guard) {
            let why = format!(
                "lower is worse here: hard ({hard}) must be above 0 and below guard ({guard}), which is below 1"
            );
            return complain("thresholds.dependency", why);
        }
        for (name, value) in [("login_share_min", self.login_share_min), ("timeouts", self.timeouts)] {
            if !(0.0..=1.0).contains(&value) {
                return complain(format!("thresholds.{name}"), format!("{value} is not a share from 0 to 1"));
            }
        }
        if self.timeouts == 0.0 {
            return complain("thresholds.timeouts", "none at all would be too many; write more than 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Settings::default().check(), Ok(()));
        let shares = Lanes::default().shares();
        assert_eq!(shares.map(|s| s.guarantee), [2, 30, 20, 5, 8, 5, 1, 0]);
        assert_eq!(shares.map(|s| s.ceiling), [100, 100, 100, 50, 40, 100, 10, 20]);
    }

    #[test]
    fn what_cannot_hold_is_named() {
        fn complaint(change: impl FnOnce(&mut Settings)) -> String {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        }
        let sum = complaint(|s| s.lanes.talk.guarantee = 90);
        assert!(sum.contains("2 + 90 + 20 + 5 + 8 + 5 + 1 + 0 = 131 %"), "{sum}");
        assert!(complaint(|s| s.lanes.bulk.guarantee = 60).contains("lanes.C3"));
        assert!(complaint(|s| s.lanes.seats = 1).contains("lanes.seats"));
        assert!(
            complaint(|s| {
                s.caps.insert("mesage.send".into(), 60);
            })
            .contains("message.send")
        );
        assert!(
            complaint(|s| {
                s.caps.insert("message.send".into(), 0);
            })
            .contains("1 to 100")
        );
        let swapped = ByAppState { foreground: Class::Wake, background: Class::Talk };
        assert!(
            complaint(|s| {
                s.classes.insert("room.open".into(), swapped);
            })
            .contains("room.open")
        );
        assert!(complaint(|s| s.thresholds.sojourn_ms.hard = 1.0).contains("thresholds.sojourn_ms"));
        assert!(complaint(|s| s.thresholds.dependency.hard = 0.9).contains("lower is worse"));
        assert!(complaint(|s| s.thresholds.dependency.guard = 1.0).contains("below 1"));
        assert!(complaint(|s| s.thresholds.timeouts = 0.0).contains("more than 0"));
        assert!(complaint(|s| s.posture.dwell_ms = 400_000).contains("dwell_ms_max"));
        assert!(complaint(|s| s.background.floor_percent = 0).contains("floor_percent"));
        assert!(complaint(|s| s.claims.per_s = 0).contains("claims"));
    }
}
