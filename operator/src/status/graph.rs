//! Who suffers from whom: from what each component is and needs to the one that is to blame. Pure.
//!
//! Why it exists: when the store goes, forty things go wrong, and somebody has to find the one. A component that fails by
//! itself is a cause. One that fails, or would fail, because what it needs has failed is affected, and blames the cause at the end
//! of the chain. It must never blame a healthy component, and never loop.

use std::collections::{BTreeMap, BTreeSet};

use crate::view::State;

/// A component before anybody is blamed.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Stable name.
    pub id: String,
    /// For people.
    pub title: String,
    /// On which node, where it is of one.
    pub node: Option<String>,
    /// How it looks.
    pub state: State,
    /// Why, unless it is up.
    pub why: Option<String>,
    /// Since it was looked at last.
    pub age_ms: Option<u64>,
    /// What it needs.
    pub needs: Vec<Need>,
    /// Through which component it is seen, where it was not looked at directly.
    pub seen_through: Option<String>,
    /// Whether it can be to blame.
    pub fault: Fault,
    /// How much of it counts for the whole.
    pub weight: Weight,
}

/// What a component needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// This one.
    One(String),
    /// At least one of these.
    AnyOf(Vec<String>),
}

/// Whether a component can be to blame for how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not fail.
    None,
    /// It fails, and nothing that it needs can be the reason: it is silent.
    Own,
    /// It fails; what it needs may be the reason.
    Perhaps,
}

/// How much a component counts for the state of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Without it nothing goes.
    Whole,
    /// The others of its kind do its work.
    OneOfMany,
    /// It is no more than a warning.
    Warning,
    /// It says nothing about the whole.
    Nothing,
}

impl Judged {
    /// One that is up and needs nothing.
    pub fn up(id: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            node: None,
            state: State::Up,
            why: None,
            age_ms: None,
            needs: Vec::new(),
            seen_through: None,
            fault: Fault::None,
            weight: Weight::Whole,
        }
    }

    /// In this state, for this reason.
    pub fn being(self, state: State, why: impl Into<String>) -> Self {
        Self { state, why: Some(why.into()), ..self }
    }

    /// Failing, for this reason.
    pub fn failing(self, state: State, fault: Fault, why: impl Into<String>) -> Self {
        Self { state, fault, why: Some(why.into()), ..self }
    }

    /// Needing this.
    pub fn needing(mut self, need: Need) -> Self {
        if need != Need::AnyOf(Vec::new()) {
            self.needs.push(need);
        }
        self
    }

    /// Counting this much.
    pub fn weighing(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// Names of everything that it needs.
    pub fn needs_flat(&self) -> Vec<String> {
        let mut all = Vec::new();
        for need in &self.needs {
            match need {
                Need::One(id) => all.push(id.clone()),
                Need::AnyOf(ids) => all.extend(ids.iter().cloned()),
            }
        }
        all
    }
}

/// For each component that fails or suffers the one that is to blame; itself, where it is. The others are absent.
pub type Blame = BTreeMap<String, String>;

/// Finds who is to blame.
pub fn blame(components: &[Judged]) -> Blame {
    let by_id: BTreeMap<&str, &Judged> = components.iter().map(|c| (c.id.as_str(), c)).collect();
    let mut blame = Blame::new();
    for component in components {
        if let Some(cause) = cause(component, &by_id, &mut BTreeSet::new()) {
            blame.insert(component.id.clone(), cause.to_owned());
        }
    }
    blame
}

/// Asked anew for each component: what was found on a way through a circle does not hold for others on it.
fn cause<'a>(
    of: &'a Judged,
    by_id: &BTreeMap<&'a str, &'a Judged>,
    on_the_way: &mut BTreeSet<&'a str>,
) -> Option<&'a str> {
    if of.fault == Fault::Own {
        return Some(&of.id);
    }
    if !on_the_way.insert(&of.id) {
        return None;
    }
    let blamed = |id: &str, on_the_way: &mut BTreeSet<&'a str>| {
        by_id.get(id).and_then(|need| cause(need, by_id, on_the_way))
    };
    let through = of.seen_through.as_ref().filter(|_| of.fault != Fault::None);
    let mut found = through.and_then(|id| blamed(id, on_the_way));
    for need in &of.needs {
        if found.is_some() {
            break;
        }
        found = match need {
            Need::One(id) => blamed(id, on_the_way),
            Need::AnyOf(ids) => {
                let causes: Option<Vec<_>> = ids.iter().map(|id| blamed(id, on_the_way)).collect();
                causes.and_then(|causes| causes.first().copied())
            }
        };
    }
    on_the_way.remove(of.id.as_str());
    found.or_else(|| (of.fault == Fault::Perhaps).then_some(of.id.as_str()))
}

#[cfg(test)]
mod tests;
