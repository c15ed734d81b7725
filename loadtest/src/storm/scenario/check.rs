//! Whether a scenario makes sense: what a parser of types cannot see. Pure.
//!
//! It must never stop at the first mistake, nor say what is wrong without what to write instead.

mod limits;
mod load;

use toml::Value;

use super::{Event, Phases, Scenario, Talk};

/// The longest phase: a day.
const PHASE_S_MAX: u32 = 24 * 60 * 60;

/// A scenario's name stands in names of files and in tables.
const NAME_CHARS_MAX: usize = 40;

/// Conversations at most: all of them are on one thread, which has to be in time.
const PAIRS_MAX: u32 = 10_000;

/// A message that took longer than this has not been part of a conversation.
const DEADLINE_MS_MAX: u32 = 60_000;

/// A message holds two numbers of the driver; more than 16 KiB no server takes.
const BODY_BYTES: std::ops::RangeInclusive<u32> = 8..=16 * 1024;

/// Half-open clients at most.
const SILENT_MAX: u32 = 20_000;

/// Events at most: each of them is drawn.
const EVENTS_MAX: usize = 100;

/// What one session may claim by default: `session_manager.overload.claims`.
const CLAIMS_PER_S: u32 = 5;
const CLAIMS_BURST: u32 = 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Where: `crowd[0].sessions`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Everything that is wrong.
pub fn check(scenario: &Scenario) -> Vec<Wrong> {
    let mut wrong = List::default();
    words(scenario, &mut wrong);
    phases(&scenario.phases, &mut wrong);
    let span = Span::of(&scenario.phases);
    let claims = Claims::of(scenario);
    talk(&scenario.talk, &claims, &mut wrong);
    for (n, logins) in scenario.logins.iter().enumerate() {
        load::logins(&format!("logins[{n}]"), logins, &span, &mut wrong);
    }
    for (n, crowd) in scenario.crowd.iter().enumerate() {
        load::crowd(&format!("crowd[{n}]"), crowd, &span, &claims, &mut wrong);
    }
    if let Some(flood) = &scenario.flood {
        span.check("flood", flood.from_s, flood.for_s, &mut wrong);
    }
    if let Some(silent) = &scenario.silent {
        span.check("silent", silent.from_s, silent.for_s, &mut wrong);
        wrong.unless((1..=SILENT_MAX).contains(&silent.clients), "silent.clients", || {
            format!("write 1 to {SILENT_MAX} clients")
        });
    }
    events(scenario, &span, &mut wrong);
    limits::check(scenario, &mut wrong);
    wrong.0
}

/// What was found so far.
#[derive(Debug, Default)]
struct List(Vec<Wrong>);

impl List {
    /// Adds something, unless it holds.
    fn unless(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Wrong { key: key.to_owned(), message: message() });
        }
    }
}

/// From the beginning of the run to its end, in seconds from the storm's beginning.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin_s: f64,
    end_s: f64,
}

impl Span {
    fn of(phases: &Phases) -> Self {
        Self {
            begin_s: -f64::from(phases.quiet_s),
            end_s: f64::from(phases.storm_s) + f64::from(phases.after_s),
        }
    }

    fn contains(&self, at_s: f64) -> bool {
        (self.begin_s..=self.end_s).contains(&at_s)
    }

    fn words(&self) -> String {
        format!("the run goes from {} s to {} s", self.begin_s, self.end_s)
    }

    /// Something with a beginning and a length.
    fn check(&self, key: &str, from_s: f64, for_s: f64, wrong: &mut List) {
        wrong.unless(self.contains(from_s), &format!("{key}.from_s"), || self.words());
        self.check_length(key, from_s, for_s, wrong);
    }

    fn check_length(&self, key: &str, from_s: f64, for_s: f64, wrong: &mut List) {
        let key = format!("{key}.for_s");
        wrong.unless(for_s > 0.0, &key, || "write more than 0 seconds".to_owned());
        let ends = !self.contains(from_s) || from_s + for_s <= self.end_s;
        wrong.unless(ends, &key, || format!("it would go on after the end: {}", self.words()));
    }
}

/// What the server believes of one session.
#[derive(Debug, Clone, Copy)]
struct Claims {
    per_s: f64,
    burst: f64,
}

impl Claims {
    fn of(scenario: &Scenario) -> Self {
        let section = |table: &toml::Table, name: &str| table.get(name).and_then(Value::as_table).cloned();
        let claims = section(&scenario.settings, "session_manager")
            .and_then(|settings| section(&settings, "overload"))
            .and_then(|settings| section(&settings, "claims"));
        let set = |name: &str, default: u32| {
            let set = claims.as_ref().and_then(|claims| claims.get(name)?.as_integer());
            set.map_or(f64::from(default), |set| set as f64)
        };
        Self { per_s: set("per_s", CLAIMS_PER_S), burst: set("burst", CLAIMS_BURST) }
    }
}

fn words(scenario: &Scenario, wrong: &mut List) {
    let name = &scenario.name;
    let is_name = !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    wrong.unless(is_name, "name", || {
        format!("a name has 1 to {NAME_CHARS_MAX} small letters, digits and hyphens: \"new-year\"")
    });
    let texts = [
        ("title", &scenario.title, "say in a few words what happens"),
        ("history", &scenario.history, "say what happened in the world, or what could"),
        ("source", &scenario.source, "say where that is told; \"made up\" is an answer"),
        ("hypothesis", &scenario.hypothesis, "say in a sentence what is expected to hold"),
    ];
    for (key, text, remedy) in texts {
        wrong.unless(!text.trim().is_empty(), key, || format!("it is empty: {remedy}"));
    }
}

fn phases(phases: &Phases, wrong: &mut List) {
    let all = [("quiet_s", phases.quiet_s), ("storm_s", phases.storm_s), ("after_s", phases.after_s)];
    for (name, length_s) in all {
        wrong.unless((1..=PHASE_S_MAX).contains(&length_s), &format!("phases.{name}"), || {
            format!("write 1 to {PHASE_S_MAX} seconds")
        });
    }
}

fn talk(talk: &Talk, claims: &Claims, wrong: &mut List) {
    wrong.unless((1..=PAIRS_MAX).contains(&talk.pairs), "talk.pairs", || {
        format!("write 1 to {PAIRS_MAX} conversations: without any nothing is measured")
    });
    let per_s = talk.messages_per_s;
    wrong.unless(per_s.is_finite() && per_s > 0.0, "talk.messages_per_s", || {
        "write more than 0 messages a second, of all conversations together".to_owned()
    });
    let of_one = per_s / (2.0 * f64::from(talk.pairs.max(1)));
    wrong.unless(of_one.is_nan() || of_one < claims.per_s, "talk.messages_per_s", || {
        let pairs = per_s / (2.0 * claims.per_s);
        format!(
            "each of these people would send {of_one:.1} a second, and what one session claims to be foreground is \
             believed {} times a second: write more than {pairs:.0} pairs, or fewer messages_per_s",
            claims.per_s
        )
    });
    wrong.unless((1..=DEADLINE_MS_MAX).contains(&talk.deadline_ms), "talk.deadline_ms", || {
        format!("write 1 to {DEADLINE_MS_MAX} ms")
    });
    wrong.unless(BODY_BYTES.contains(&talk.body_bytes), "talk.body_bytes", || {
        format!("write {} to {} bytes", BODY_BYTES.start(), BODY_BYTES.end())
    });
}

fn events(scenario: &Scenario, span: &Span, wrong: &mut List) {
    wrong.unless(scenario.events.len() <= EVENTS_MAX, "events", || {
        format!("write {EVENTS_MAX} events at most")
    });
    for (n, event) in scenario.events.iter().enumerate() {
        let key = format!("events[{n}]");
        wrong.unless(span.contains(event.at_s()), &format!("{key}.at_s"), || span.words());
        match event {
            Event::Drop { percent, .. } => {
                wrong.unless((1..=100).contains(percent), &format!("{key}.percent"), || {
                    "write 1 to 100 percent of the sessions".to_owned()
                });
                wrong.unless(!scenario.crowd.is_empty(), &key, || {
                    "there are no sessions that could be lost: add a [[crowd]]".to_owned()
                });
            }
            Event::BusyNeighbour { at_s, for_s } | Event::BusyDisk { at_s, for_s } => {
                span.check_length(&key, *at_s, *for_s, wrong);
            }
            Event::Restart { .. } => {}
            Event::Order { at_s, begins_s, for_s } => {
                let begins_s = begins_s.unwrap_or(*at_s);
                wrong.unless(
                    begins_s >= *at_s && span.contains(begins_s),
                    &format!("{key}.begins_s"),
                    || format!("an order begins when it is given (at_s = {at_s}) or later; {}", span.words()),
                );
                span.check_length(&key, begins_s, *for_s, wrong);
            }
        }
    }
}

#[cfg(test)]
mod tests;
