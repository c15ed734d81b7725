//! What every chart of the page has: a title, what its colours mean, a drawing for each size of screen, and its numbers for
//! whoever points at it.

pub mod latency;
pub mod marks;
pub mod posture;
pub mod refusals;
pub mod resources;
pub mod split;

use serde::Serialize;
use serde_json::Value;

use super::escape::{data, text};
use super::plot::Size;
use super::timeline::Timeline;

/// What a colour means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Class of the swatch in the style sheet.
    pub class: &'static str,
    /// For people.
    pub words: String,
}

impl Key {
    /// One colour.
    pub fn new(class: &'static str, words: impl Into<String>) -> Self {
        Self { class, words: words.into() }
    }
}

/// One row of what is shown for the point of time under the pointer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    name: String,
    unit: &'static str,
    values: Vec<Value>,
}

impl Reading {
    /// Of amounts.
    pub fn amounts(name: &str, unit: &'static str, values: &[f64]) -> Self {
        Self { name: name.to_owned(), unit, values: values.iter().map(|value| short(*value)).collect() }
    }

    /// Of what may be missing.
    pub fn measured(name: &str, unit: &'static str, values: &[Option<f64>]) -> Self {
        let values = values.iter().map(|value| value.map_or(Value::Null, short)).collect();
        Self { name: name.to_owned(), unit, values }
    }

    /// Of words.
    pub fn words(name: &str, words: Vec<&str>) -> Self {
        Self { name: name.to_owned(), unit: "", values: words.into_iter().map(Value::from).collect() }
    }
}

/// With as many digits as are shown: the page stays small.
fn short(value: f64) -> Value {
    let digits = if value.abs() < 100.0 { 1_000.0 } else { 1.0 };
    let rounded = (value * digits).round() / digits;
    if rounded.fract() == 0.0 { Value::from(rounded as i64) } else { Value::from(rounded) }
}

#[derive(Serialize)]
struct Pointed<'a> {
    begins_s: Vec<f64>,
    from_s: f64,
    to_s: f64,
    rows: &'a [Reading],
}

/// A chart without its drawings.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart<'a> {
    /// What is shown.
    pub title: &'a str,
    /// What else is to be known.
    pub note: &'a str,
    /// What the colours mean.
    pub keys: Vec<Key>,
    /// Its numbers.
    pub readings: Vec<Reading>,
}

impl Chart<'_> {
    /// The chart, drawn for each size.
    pub fn drawn(&self, timeline: &Timeline, draw: impl Fn(Size) -> String) -> String {
        self.figure(timeline, &Size::ALL.map(draw).concat())
    }

    /// The chart around drawings.
    pub fn figure(&self, timeline: &Timeline, drawings: &str) -> String {
        let pointed = Pointed {
            begins_s: timeline.begins_s(),
            from_s: timeline.from_s,
            to_s: timeline.to_s,
            rows: &self.readings,
        };
        let title =
            if self.title.is_empty() { String::new() } else { format!("<h3>{}</h3>", text(self.title)) };
        let note = self.note_with(timeline);
        format!(
            "<figure class=\"chart\"><figcaption>{title}{}</figcaption>{drawings}<script type=\"application/json\">{}</script>{note}</figure>",
            legend(&self.keys),
            data(&pointed)
        )
    }

    fn note_with(&self, timeline: &Timeline) -> String {
        let joined = if timeline.step > 1 {
            format!("Each point stands for {} s: the mean of amounts, the worst of latencies.", timeline.step)
        } else {
            String::new()
        };
        match (self.note.is_empty(), joined.is_empty()) {
            (true, true) => String::new(),
            _ => format!("<p class=\"note\">{} {joined}</p>", text(self.note)),
        }
    }
}

/// What colours mean, as a list.
pub fn legend(keys: &[Key]) -> String {
    let item = |key: &Key| format!("<li><i class=\"key {}\"></i>{}</li>", key.class, text(&key.words));
    match keys {
        [] => String::new(),
        _ => format!("<ul class=\"keys\">{}</ul>", keys.iter().map(item).collect::<String>()),
    }
}

/// In the place of a chart that has nothing to show.
pub fn absent(title: &str, why: &str) -> String {
    format!(
        "<figure class=\"chart\"><figcaption><h3>{}</h3></figcaption><p class=\"absent\">{}</p></figure>",
        text(title),
        text(why)
    )
}
