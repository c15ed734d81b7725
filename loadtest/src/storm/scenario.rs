//! A scenario: what happens to a server, when, and what must hold meanwhile. Scenarios are files; these are their types.
//!
//! Times are seconds from the beginning of the storm (negative: before it). Load is stated in multiples of the capacity that
//! is measured on the spot, so that a scenario means the same on any machine.

mod check;
pub mod file;
pub mod known;
mod lasting;
mod place;
pub mod rate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as on the command line.
    pub name: String,
    /// What happens, in a few words.
    pub title: String,
    /// What happened in the world, when, and to whom.
    pub history: String,
    /// Where that is told.
    pub source: String,
    /// What is expected to hold, in a sentence: for drills.
    pub hypothesis: String,
    /// How long each phase lasts.
    pub phases: Phases,
    /// The conversations that are watched.
    #[serde(default)]
    pub talk: Talk,
    /// People and phones that come in.
    #[serde(default)]
    pub logins: Vec<Logins>,
    /// Live sessions that do something.
    #[serde(default)]
    pub crowd: Vec<Crowd>,
    /// First packets without end.
    #[serde(default)]
    pub flood: Option<Flood>,
    /// Clients that begin a handshake and never speak again.
    #[serde(default)]
    pub silent: Option<Silent>,
    /// What happens to the server and its sessions.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Which processes the system is made of.
    #[serde(default)]
    pub system: System,
    /// Settings of the server, as in its `config.toml`, on top of the defaults.
    #[serde(default)]
    pub settings: toml::Table,
    /// What must hold, by the name of the figure.
    pub limits: BTreeMap<String, Limit>,
}

/// The policy of a server that is left as it is.
const POLICY: &str = "buslane";

impl Scenario {
    /// The control of load that its settings ask for.
    pub fn policy(&self) -> &str {
        let manager = self.settings.get("session_manager").and_then(toml::Value::as_table);
        let overload = manager.and_then(|manager| manager.get("overload")).and_then(toml::Value::as_table);
        overload.and_then(|overload| overload.get("policy")).and_then(toml::Value::as_str).unwrap_or(POLICY)
    }

    /// Whether the same happens in both, whatever is told of it and must hold.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { phases, talk, logins, crowd, flood, silent, events, system, settings, .. } = self;
        (phases, talk, logins, crowd) == (&other.phases, &other.talk, &other.logins, &other.crowd)
            && (flood, silent, events) == (&other.flood, &other.silent, &other.events)
            && (system, settings) == (&other.system, &other.settings)
    }
}

/// How long each phase lasts, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Before the storm.
    pub quiet_s: u32,
    /// The storm.
    pub storm_s: u32,
    /// After it. Memory is compared at the end, so it should be 120 s where memory counts.
    pub after_s: u32,
}

/// Conversations of two people each, from before the storm to the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Talk {
    /// Conversations.
    pub pairs: u32,
    /// Messages a second in all of them together.
    pub messages_per_s: f64,
    /// A message that has not reached the other phone after this long has failed.
    pub deadline_ms: u32,
    /// Bytes of a message.
    pub body_bytes: u32,
}

impl Default for Talk {
    fn default() -> Self {
        Self { pairs: 100, messages_per_s: 200.0, deadline_ms: 2_000, body_bytes: 200 }
    }
}

/// How much, over time: straight lines between points of `[seconds, amount]`; before the first and behind the last it is 0.
/// Two points at the same second make a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// What an amount is counted in.
    #[serde(default)]
    pub unit: Unit,
    /// The points, in order of time.
    pub points: Vec<[f64; 2]>,
}

/// What an amount of load is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Multiples of what the server was measured to be able to do (logins for logins, messages that come alone for messages).
    #[default]
    Capacity,
    /// Multiples of the messages that a full server does: more, because they share packets and commits.
    Full,
    /// So many a second.
    PerS,
}

/// Whether somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// A person does.
    Foreground,
    /// The phone acts by itself.
    #[default]
    Background,
}

/// Clients that come in, do what they came for, and leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logins {
    /// Who comes.
    #[serde(default)]
    pub side: Side,
    /// How many a second begin to come in. Each of them goes on until it is in, or the run is over.
    pub rate: Rate,
    /// Percent that do not listen: they come again after 1 to 2 seconds without a slot, whatever they were told.
    #[serde(default)]
    pub naive_percent: u8,
    /// Percent that have no ticket any more and ask the gateway first.
    #[serde(default)]
    pub gate_percent: u8,
    /// Seconds for which one stays once it is in: it fetches what it missed, and leaves.
    #[serde(default = "stay_s")]
    pub stay_s: f64,
}

fn stay_s() -> f64 {
    3.0
}

/// Live sessions, opened before the storm, that do something. When one is lost it comes back as the protocol says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// Who they are.
    #[serde(default)]
    pub side: Side,
    /// How many sessions.
    pub sessions: u32,
    /// Messages a second of all of them together; each goes to a neighbour of the crowd.
    #[serde(default)]
    pub messages: Option<Rate>,
    /// Requests a second of all of them together: history for a person, what was missed for a phone.
    #[serde(default)]
    pub fetches: Option<Rate>,
    /// Messages that one sends at once.
    #[serde(default = "one")]
    pub burst: u32,
    /// How often a refused or late request is tried again.
    #[serde(default)]
    pub retries: u32,
    /// They say that somebody looks, whatever they do: what they do is counted as [liar](super::tally::Stream::Liar).
    #[serde(default)]
    pub liars: bool,
    /// Percent that do not listen when they have to come back.
    #[serde(default)]
    pub naive_percent: u8,
}

fn one() -> u32 {
    1
}

/// First packets that nobody means to follow by a handshake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// From when, in seconds.
    pub from_s: f64,
    /// For how long.
    pub for_s: f64,
    /// At most so many a second; 0: as many as the driver can.
    #[serde(default)]
    pub per_s_max: u32,
    /// Which port they go to.
    pub port: Port,
    /// What they show.
    pub show: Shown,
}

/// A UDP port of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Port {
    /// Of the gateway.
    Gate,
    /// Of sessions in the foreground.
    Front,
    /// Of sessions in the background.
    Wake,
    /// All of them in turns.
    All,
}

/// What the first packets of a flood show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// A random connection id, as any QUIC client does.
    Random,
    /// A made-up pass with the right knock: behind the filter of the kernel.
    ForgedPass,
    /// Both in turns.
    Mixed,
}

/// Clients that begin a handshake and never speak again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silent {
    /// How many at a time: one that the server has given up is replaced.
    pub clients: u32,
    /// From when, in seconds.
    pub from_s: f64,
    /// For how long.
    pub for_s: f64,
    /// Which port they go to.
    pub port: Port,
}

/// What happens to the server or its sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A share of the crowd's connections is lost at once; those clients come back.
    Drop {
        /// When.
        at_s: f64,
        /// Percent of the sessions.
        percent: u8,
    },
    /// Another program takes half of the server's processors.
    BusyNeighbour {
        /// When.
        at_s: f64,
        /// For how long.
        for_s: f64,
    },
    /// Another program keeps the server's disk busy with synchronous writes.
    BusyDisk {
        /// When.
        at_s: f64,
        /// For how long.
        for_s: f64,
    },
    /// A session manager (of an `up`: the whole process) is stopped in order and started again.
    Restart {
        /// When.
        at_s: f64,
    },
    /// An operator orders emergency mode.
    Order {
        /// When it is given; it begins then, or at `begins_s`.
        at_s: f64,
        /// When it begins.
        #[serde(default)]
        begins_s: Option<f64>,
        /// For how long.
        for_s: f64,
    },
}

impl Event {
    /// When it happens.
    pub fn at_s(&self) -> f64 {
        match self {
            Self::Drop { at_s, .. }
            | Self::BusyNeighbour { at_s, .. }
            | Self::BusyDisk { at_s, .. }
            | Self::Restart { at_s }
            | Self::Order { at_s, .. } => *at_s,
        }
    }

    /// For people.
    pub fn title(&self) -> String {
        match self {
            Self::Drop { percent, .. } => format!("{percent} % of the sessions are lost"),
            Self::BusyNeighbour { for_s, .. } => {
                format!("another program takes half of the processors for {for_s} s")
            }
            Self::BusyDisk { for_s, .. } => format!("another program keeps the disk busy for {for_s} s"),
            Self::Restart { .. } => "a server is restarted".to_owned(),
            Self::Order { for_s, .. } => format!("emergency mode is ordered for {for_s} s"),
        }
    }
}

/// Which processes the system is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// One `buslane up`.
    #[default]
    Up,
    /// A gateway, a backend and two session managers, each a process.
    Apart,
}

/// What must hold for a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Limit {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}
