//! An order on its way: what is asked of the person, one thing after the other, until the word is typed.

use serde_json::{Value, json};

/// What is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// EMERGENCY, whatever is measured.
    Emergency,
    /// NORMAL, whatever is measured.
    Normal,
    /// What is measured.
    Automatic,
}

impl Kind {
    /// Its name in the API, and the word that confirms it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Normal => "normal",
            Self::Automatic => "automatic",
        }
    }
}

/// An order that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is to hold.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// For how long; an automatic order has no end.
    pub duration_ms: Option<u64>,
}

impl Wanted {
    /// As the server is told.
    pub fn body(&self, author: &str) -> Value {
        json!({"kind": self.kind.name(), "reason": self.reason, "author": author, "duration_ms": self.duration_ms})
    }

    /// The same, as a question only.
    pub fn question(&self, author: &str) -> Value {
        let mut body = self.body(author);
        if let Value::Object(fields) = &mut body {
            fields.insert("dry_run".to_owned(), true.into());
        }
        body
    }
}

/// What is asked for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Which kind.
    Kind,
    /// Why.
    Reason(Kind),
    /// For how long.
    Duration(Kind, String),
    /// The server is asked what would happen.
    Previewing(Wanted),
    /// The word.
    Confirm(Wanted, String),
    /// The server is told.
    Giving,
    /// What came of it.
    Said(String),
}

/// The dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialogue {
    /// What is asked for now.
    pub step: Step,
    /// What was typed so far.
    pub typed: String,
    /// What was wrong with the last answer.
    pub wrong: Option<String>,
}

impl Dialogue {
    /// At its beginning.
    pub fn new() -> Self {
        Self { step: Step::Kind, typed: String::new(), wrong: None }
    }

    /// Takes what was typed as the answer.
    pub fn enter(&mut self) {
        let typed = std::mem::take(&mut self.typed);
        let word = typed.trim();
        self.wrong = None;
        let next = match &self.step {
            Step::Kind => kind(word).map(Step::Reason),
            Step::Reason(_) if word.is_empty() => Err("an order needs a reason"),
            Step::Reason(kind @ Kind::Automatic) => {
                Ok(Step::Previewing(Wanted { kind: *kind, reason: word.to_owned(), duration_ms: None }))
            }
            Step::Reason(kind) => Ok(Step::Duration(*kind, word.to_owned())),
            Step::Duration(kind, reason) => duration_ms(word).map(|ms| {
                Step::Previewing(Wanted { kind: *kind, reason: reason.clone(), duration_ms: Some(ms) })
            }),
            Step::Confirm(wanted, _) if word == wanted.kind.name() => Ok(Step::Giving),
            Step::Confirm(..) => Err("that was something else: nothing was done"),
            Step::Previewing(_) | Step::Giving | Step::Said(_) => return,
        };
        match next {
            Ok(step) => self.step = step,
            Err(why) => self.wrong = Some(why.to_owned()),
        }
    }

    /// What the person is asked.
    pub fn question(&self) -> String {
        match &self.step {
            Step::Kind => "Order what? emergency, normal or automatic".to_owned(),
            Step::Reason(kind) => format!("{}: why? Everybody who looks sees it", kind.name()),
            Step::Duration(kind, _) => format!("{}: for how long? 30s, 10m, 2h; at most 7 days", kind.name()),
            Step::Previewing(_) => "asking what would happen ...".to_owned(),
            Step::Confirm(wanted, preview) => {
                format!("{preview}\nType {} to give the order", wanted.kind.name())
            }
            Step::Giving => "giving the order ...".to_owned(),
            Step::Said(said) => format!("{said}\nAny key goes on"),
        }
    }
}

fn kind(word: &str) -> Result<Kind, &'static str> {
    match word {
        "emergency" | "e" | "on" => Ok(Kind::Emergency),
        "normal" | "n" | "off" => Ok(Kind::Normal),
        "automatic" | "a" | "auto" => Ok(Kind::Automatic),
        _ => Err("write emergency, normal or automatic"),
    }
}

fn duration_ms(word: &str) -> Result<u64, &'static str> {
    let wrong = "write a time such as 30s, 10m or 2h";
    let duration = humantime::parse_duration(word).map_err(|_| wrong)?;
    u64::try_from(duration.as_millis()).ok().filter(|ms| *ms > 0).ok_or(wrong)
}
