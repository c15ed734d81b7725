//! What a person says about an incident, and what it changes.
//!
//! Why it exists: a word is checked before it is written into the audit, and done after; both ask the same question here.

use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};

use super::{Effects, Fact, Incident, Ledger, Line, Occasion};
use crate::incidents::incident::WORDS_MAX;
use crate::incidents::machine::{self, Step};
use crate::incidents::rules::severity_name;
use crate::incidents::timeline::AUTHOR_CHARS_MAX;
use crate::incidents::words::{tidy, utc};
use crate::view::{Entry, IncidentState, Severity};

/// Longest text of a person, in characters: what the API takes, and the words around it.
const TEXT_CHARS_MAX: usize = 1_000;

/// What a person says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Word {
    /// "I see to it."
    Acknowledge {
        /// In words, where there are any.
        reason: String,
    },
    /// "Nobody needs to be told until then."
    Silence {
        /// The end; none: people are told from now on.
        until_ms: Option<UnixMs>,
        /// Why.
        reason: String,
    },
    /// "This is to be known."
    Note {
        /// What.
        text: String,
    },
    /// "This is where it stands."
    State {
        /// Where.
        to: IncidentState,
        /// Why.
        reason: String,
    },
    /// "It is as bad as that."
    Severity {
        /// How bad.
        to: Severity,
        /// Why.
        reason: String,
    },
}

impl Word {
    /// What kind it is.
    pub(in crate::incidents) fn name(&self) -> &'static str {
        match self {
            Self::Acknowledge { .. } => "acknowledged",
            Self::Silence { .. } => "silenced",
            Self::Note { .. } => "a note",
            Self::State { to, .. } => machine::name(*to),
            Self::Severity { to, .. } => severity_name(*to),
        }
    }

    /// The same, said on another node.
    pub(super) fn heard_on(mut self, node: &str) -> Self {
        let text = match &mut self {
            Self::Acknowledge { reason }
            | Self::Silence { reason, .. }
            | Self::State { reason, .. }
            | Self::Severity { reason, .. } => reason,
            Self::Note { text } => text,
        };
        *text = format!("{text} (said on {node})").trim_start().to_owned();
        self
    }
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// There is no such incident.
    #[error("there is no incident {0}: the list shows those that are kept")]
    Absent(u64),
    /// It stands where this does not lead on from.
    #[error("the incident is {from}; from there it can become: {to}")]
    State {
        /// Where it stands.
        from: &'static str,
        /// Where it may go.
        to: String,
    },
    /// It is over.
    #[error("the incident is over: reopen it (state `declared`) or open another one")]
    Over,
    /// Nothing more can be written.
    #[error("the incident has {WORDS_MAX} lines: resolve it and open another one")]
    Full,
    /// There are too many at a time.
    #[error("{0} incidents are open: resolve those that are one and the same")]
    TooManyOpen(usize),
}

impl Ledger {
    /// Whether it could be said now.
    pub(in crate::incidents) fn check(&self, no: u64, word: &Word) -> Result<(), WordError> {
        let incident = self.warm.get(&no).ok_or(WordError::Absent(no))?;
        let state = incident.view().state;
        match word {
            Word::Acknowledge { .. } if machine::step(state, Step::Handle).is_none() => Err(WordError::Over),
            Word::Silence { .. } if !incident.is_open() => Err(WordError::Over),
            Word::State { to, .. } if machine::towards(state, *to).is_none() => Err(no_way(state)),
            // Where it leads may be said even when little room is left.
            Word::State { .. } => Ok(()),
            _ if incident.len() >= WORDS_MAX => Err(WordError::Full),
            _ => Ok(()),
        }
    }

    /// Does what was said.
    pub(in crate::incidents) fn say(
        &mut self,
        no: u64,
        author: &str,
        word: Word,
        now_ms: UnixMs,
    ) -> Result<Effects, WordError> {
        self.check(no, &word)?;
        let incident = self.warm.get_mut(&no).ok_or(WordError::Absent(no))?;
        let was_silenced = incident.is_silenced(now_ms);
        let line = line(incident, author, word, self.expected_recovery_s, now_ms);
        let occasion = occasion(incident, &line);
        incident.push(line);
        let mut effects = Effects::default();
        effects.changed.insert(no);
        if let Some(occasion) = occasion {
            self.tell(no, occasion, now_ms, &mut effects);
        }
        for notice in &mut effects.notices {
            notice.is_silenced = was_silenced;
        }
        Ok(effects)
    }
}

/// What is written.
fn line(incident: &Incident, author: &str, word: Word, expected_s: Option<u32>, now_ms: UnixMs) -> Line {
    let expected_ms = |severity| crate::incidents::rules::expected_ms(severity, expected_s, now_ms);
    let (kind, text, fact) = match word {
        Word::Acknowledge { reason } => {
            let text =
                if reason.is_empty() { "Sees to it".to_owned() } else { format!("Sees to it: {reason}") };
            ("acknowledged", text, Some(Fact::Moved { to: IncidentState::Handling }))
        }
        Word::Silence { until_ms, reason } => {
            let until = until_ms.map_or("ended".to_owned(), |until_ms| format!("until {}", utc(until_ms)));
            ("silenced", format!("Silence {until}: {reason}"), Some(Fact::Silenced { until_ms }))
        }
        Word::Note { text } => ("note", text, None),
        Word::State { to, reason } => {
            let reopens = machine::towards(incident.view().state, to) == Some(Step::Reopen);
            let expected_ms = expected_ms(incident.view().severity);
            let fact = if reopens { Fact::Reopened { expected_ms } } else { Fact::Moved { to } };
            let too_early = to == IncidentState::Resolved && incident.still_holds();
            let but = if too_early { " (its alert still holds)" } else { "" };
            ("state", format!("{}{but}: {reason}", capital(machine::name(to))), Some(fact))
        }
        Word::Severity { to, reason } => {
            let text = format!("Severity {}: {reason}", severity_name(to));
            ("severity", text, Some(Fact::Severity { to, expected_ms: expected_ms(to) }))
        }
    };
    Line { entry: by(author, now_ms, kind, &text), fact }
}

/// Whether others are to be told.
fn occasion(before: &Incident, line: &Line) -> Option<Occasion> {
    match line.fact.as_ref()? {
        Fact::Moved { to: IncidentState::Resolved } => Some(Occasion::Resolved),
        Fact::Reopened { .. } => Some(Occasion::Reopened),
        Fact::Severity { to, .. } if before.is_open() && *to > before.view().severity => {
            Some(Occasion::Escalated)
        }
        // Nobody is woken to hear that it is less bad.
        Fact::Severity { .. } if before.is_open() => Some(Occasion::Known),
        Fact::Silenced { until_ms: Some(_) } => Some(Occasion::Silenced),
        _ => None,
    }
}

fn no_way(from: IncidentState) -> WordError {
    let names: Vec<&str> = machine::next(from).map(machine::name).collect();
    let to = if names.is_empty() { "nothing else".to_owned() } else { names.join(", ") };
    WordError::State { from: machine::name(from), to }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A line of a person.
pub(super) fn by(author: &str, at_ms: UnixMs, kind: &str, text: &str) -> Entry {
    Entry {
        at_ms,
        author: tidy(author, AUTHOR_CHARS_MAX),
        kind: kind.to_owned(),
        text: tidy(text, TEXT_CHARS_MAX),
    }
}
