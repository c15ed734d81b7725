//! Something that happened, as it is written into timelines, pushed to pages and told to people.
//!
//! Why it exists: posture changes, orders, reloads, deploys, drills and alerts come from different parts, and everybody who
//! tells a story about a night needs all of them in one order. A happening never carries a secret or the content of a message.

use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::incidents::Word;

/// How far a listener may be behind before it misses some; it is told how many.
const BEHIND_MAX: usize = 1_024;

/// What happened, when, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    pub at_ms: UnixMs,
    /// On which node.
    pub node: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// Another posture holds.
    Posture {
        /// What held.
        from: String,
        /// What holds now.
        to: String,
        /// Why, in words: "logins_offered 5.2 over 1.5", "order 17".
        why: String,
    },
    /// An operator has given an order.
    OrderGiven {
        /// Its number.
        order: u64,
        /// "emergency", "normal" or "automatic".
        order_kind: String,
        /// Who.
        author: String,
        /// Why.
        reason: String,
        /// When it ends.
        until_ms: UnixMs,
    },
    /// An order is over.
    OrderEnded {
        /// Its number.
        order: u64,
    },
    /// Settings were changed while the process ran.
    Reloaded {
        /// Who.
        author: String,
        /// The keys that changed.
        keys: Vec<String>,
    },
    /// Somebody has marked a deploy or anything else that the others should see on their charts.
    Mark {
        /// "deploy", "config", "drill" or "note".
        mark: String,
        /// What, in words.
        text: String,
        /// Who.
        author: String,
    },
    /// A process has started. One that ends tells nobody: it may not be able to.
    Process {
        /// "started".
        phase: String,
        /// Its version.
        version: String,
    },
    /// A component is in trouble.
    AlertRaised(crate::view::Alert),
    /// It is not any more.
    AlertCleared(crate::view::Alert),
    /// A person has said something about an incident.
    IncidentSaid(Said),
    /// A node drains, or does so no more.
    Drain {
        /// Whether it begins.
        begins: bool,
        /// Who.
        author: String,
    },
}

/// What a person has said about an incident that other processes may see too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What the incident is about: it has another number at each process.
    pub key: String,
    /// When it was opened where this was said.
    pub opened_ms: UnixMs,
    /// Who.
    pub author: String,
    /// What.
    pub word: Word,
}

/// Where happenings are told and heard. Telling never waits.
#[derive(Debug, Clone)]
pub struct News(broadcast::Sender<Happening>);

impl Default for News {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND_MAX))
    }
}

impl News {
    /// Tells everybody who listens.
    pub fn tell(&self, happening: Happening) {
        // That nobody listens is no error.
        let _ = self.0.send(happening);
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Happening> {
        self.0.subscribe()
    }
}
