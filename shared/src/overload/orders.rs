//! The posture that is ordered: what operators have said, for how long, and which of it holds now.
//!
//! Orders are a set that only grows and expires, so that nodes which exchange them in any order, twice, or after a long
//! separation, agree: the newest that is in force wins, and when it ends an older one that still holds is in force again.
//! `Automatic` ends everything before it. There is no order without a reason, an author and an end.

mod wired;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::UnixMs;

/// Longest reason or author: a sentence.
pub const TEXT_BYTES_MAX: usize = 256;

/// Longest order. What is to hold longer is a matter of configuration.
pub const DURATION_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// How far ahead an order may begin: known events are known a year before.
pub const AHEAD_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Orders that are not over at a time. More of them nobody can keep in mind.
pub const ORDERS_MAX: usize = 64;

/// Ids are milliseconds of this age of the world: whoever sends a higher one would be the newest for ever.
const ID_MAX: u64 = 1 << 48;

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What is measured holds again; earlier orders are over.
    Automatic,
    /// EMERGENCY, whatever is measured.
    Emergency,
    /// NORMAL, whatever is measured.
    Normal,
}

impl Kind {
    /// Its name: JSON value, audit entry and word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Emergency => "emergency",
            Self::Normal => "normal",
        }
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Order {
    /// Of two orders the later given one has the higher id, on whichever node.
    pub id: u64,
    /// What is ordered.
    pub kind: Kind,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who gave it.
    pub author: String,
    /// When it was given.
    pub given_ms: UnixMs,
    /// When it begins.
    pub from_ms: UnixMs,
    /// When it is over.
    pub until_ms: UnixMs,
}

impl Order {
    fn has_begun(&self, now_ms: UnixMs) -> bool {
        self.from_ms <= now_ms
    }

    fn is_over(&self, now_ms: UnixMs) -> bool {
        self.until_ms <= now_ms
    }
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What is ordered.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// Who.
    pub author: String,
    /// When it is to begin; `None`: now.
    pub from_ms: Option<UnixMs>,
    /// For how long. `Automatic` ends the others for good, and needs none.
    pub duration_ms: Option<u64>,
}

/// Why an order is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No reason.
    #[error("an order needs a reason: say why, for those who read it at night")]
    NoReason,
    /// No author.
    #[error("an order needs an author: say who gives it")]
    NoAuthor,
    /// The text cannot be kept.
    #[error("the {0} is longer than {TEXT_BYTES_MAX} bytes or has control characters: write one short line")]
    BadText(&'static str),
    /// No end.
    #[error("an order needs an end: say for how long it holds, at most 7 days")]
    NoDuration,
    /// An end too far away.
    #[error("an order holds for at most 7 days: give a shorter one, or change the configuration")]
    TooLong,
    /// A beginning that is gone.
    #[error("the order would begin in the past: leave the time out to begin now")]
    InThePast,
    /// A beginning too far away.
    #[error("the order would begin more than a year ahead: give it later")]
    TooFarAhead,
    /// Too many that are not over.
    #[error("there are {ORDERS_MAX} orders that are not over: end them with an automatic one first")]
    TooMany,
    /// Of a kind that this version does not know, or with an end before its beginning.
    #[error("the order is malformed; the versions do not fit")]
    Malformed,
}

impl OrderError {
    /// Its stable name: JSON code and metric label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoReason => "order_without_reason",
            Self::NoAuthor => "order_without_author",
            Self::BadText(_) => "order_text",
            Self::NoDuration => "order_without_end",
            Self::TooLong => "order_too_long",
            Self::InThePast => "order_in_the_past",
            Self::TooFarAhead => "order_too_far_ahead",
            Self::TooMany => "too_many_orders",
            Self::Malformed => "order_malformed",
        }
    }
}

/// What came of taking over the orders of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// Those that were not known.
    pub new: Vec<Order>,
    /// Those that were refused, and why the first was.
    pub refused: Option<OrderError>,
}

/// Every order that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders(BTreeMap<u64, Order>);

impl Orders {
    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Order> {
        self.0.values()
    }

    /// The order that holds now, if any does.
    pub fn in_force(&self, now_ms: UnixMs) -> Option<&Order> {
        let newest = self.0.values().rev().find(|o| o.has_begun(now_ms) && !o.is_over(now_ms));
        newest.filter(|o| o.kind != Kind::Automatic)
    }

    /// The next time at which another order may be in force than now.
    pub fn next_change_ms(&self, now_ms: UnixMs) -> Option<UnixMs> {
        self.0.values().flat_map(|o| [o.from_ms, o.until_ms]).filter(|at| *at > now_ms).min()
    }

    /// What this wish would be as an order.
    pub fn plan(&self, wish: Wish, now_ms: UnixMs) -> Result<Order, OrderError> {
        let from_ms = wish.from_ms.unwrap_or(now_ms);
        if from_ms < now_ms {
            return Err(OrderError::InThePast);
        }
        let until_ms = match (wish.kind, wish.duration_ms) {
            (Kind::Automatic, _) => self.beyond_all(from_ms),
            (_, None | Some(0)) => return Err(OrderError::NoDuration),
            (_, Some(duration_ms)) => from_ms.saturating_add(duration_ms),
        };
        let newest = self.0.keys().next_back().copied().unwrap_or(0);
        let order = Order {
            id: now_ms.max(newest.saturating_add(1)),
            kind: wish.kind,
            reason: wish.reason.trim().to_owned(),
            author: wish.author.trim().to_owned(),
            given_ms: now_ms,
            from_ms,
            until_ms,
        };
        check(&order)?;
        let open = self.0.values().filter(|o| !o.is_over(now_ms) && !self.is_ended(o, now_ms)).count();
        if open >= ORDERS_MAX && order.kind != Kind::Automatic {
            return Err(OrderError::TooMany);
        }
        Ok(order)
    }

    /// Takes over what was planned here.
    pub fn give(&mut self, order: Order, now_ms: UnixMs) {
        self.0.insert(order.id, order);
        self.forget(now_ms);
    }

    /// Takes over what others know. The result depends on neither the order nor the number of times in which it comes.
    pub fn merge(&mut self, others: impl IntoIterator<Item = Order>, now_ms: UnixMs) -> Merged {
        let mut merged = Merged::default();
        for order in others {
            match check(&order) {
                // Two operators within a millisecond, at two nodes: any rule will do that is the same everywhere.
                Ok(()) if self.0.get(&order.id).is_some_and(|known| *known >= order) => {}
                Ok(()) => {
                    self.0.insert(order.id, order.clone());
                    merged.new.push(order);
                }
                Err(error) => merged.refused = merged.refused.or(Some(error)),
            }
        }
        self.forget(now_ms);
        merged.new.retain(|order| self.0.get(&order.id) == Some(order));
        merged
    }

    /// Forgets what is over; returns those that ended by themselves and might have been in force.
    pub fn forget(&mut self, now_ms: UnixMs) -> Vec<Order> {
        let ended: Vec<u64> =
            self.0.values().filter(|o| o.is_over(now_ms) || self.is_ended(o, now_ms)).map(|o| o.id).collect();
        let mut over = Vec::new();
        for id in ended {
            over.extend(self.0.remove(&id).filter(|o| o.kind != Kind::Automatic && o.is_over(now_ms)));
        }
        // A node that gives more than it may is not obeyed at the cost of memory.
        while self.0.len() > ORDERS_MAX {
            self.0.pop_first();
        }
        over
    }

    /// Whether a later `Automatic` has ended it.
    fn is_ended(&self, order: &Order, now_ms: UnixMs) -> bool {
        let later = self.0.range(order.id.saturating_add(1)..);
        later.into_iter().any(|(_, o)| o.kind == Kind::Automatic && o.has_begun(now_ms))
    }

    /// An `Automatic` is kept for as long as any order that it ends could come back from a node that was away.
    fn beyond_all(&self, from_ms: UnixMs) -> UnixMs {
        let others = self.0.values().filter(|o| o.kind != Kind::Automatic);
        let last = others.map(|o| o.until_ms).max().unwrap_or(0);
        last.max(from_ms.saturating_add(DURATION_MS_MAX))
    }
}

impl FromIterator<Order> for Orders {
    fn from_iter<I: IntoIterator<Item = Order>>(orders: I) -> Self {
        Self(orders.into_iter().map(|o| (o.id, o)).collect())
    }
}

/// What holds for every order, from whomever it comes.
fn check(order: &Order) -> Result<(), OrderError> {
    if order.reason.trim().is_empty() {
        return Err(OrderError::NoReason);
    }
    if order.author.trim().is_empty() {
        return Err(OrderError::NoAuthor);
    }
    for (name, text) in [("reason", &order.reason), ("author", &order.author)] {
        if text.len() > TEXT_BYTES_MAX || text.contains(char::is_control) {
            return Err(OrderError::BadText(name));
        }
    }
    if order.until_ms <= order.from_ms || order.id > ID_MAX {
        return Err(OrderError::Malformed);
    }
    if order.from_ms.saturating_sub(order.given_ms) > AHEAD_MS_MAX {
        return Err(OrderError::TooFarAhead);
    }
    let duration_ms = order.until_ms - order.from_ms;
    let most = match order.kind {
        Kind::Automatic => AHEAD_MS_MAX + DURATION_MS_MAX,
        Kind::Emergency | Kind::Normal => DURATION_MS_MAX,
    };
    if duration_ms > most { Err(OrderError::TooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
