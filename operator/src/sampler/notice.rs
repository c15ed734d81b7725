//! Notices what a node does by itself and what it was ordered: other postures, new orders, orders that are over.
//!
//! Why it exists: a timeline that has to be typed is not written. It compares what was seen with what is seen, and nothing else.

use std::collections::BTreeMap;

use buslane_chassis::oversee::{CauseView, PostureView};
use buslane_shared::overload::orders::{Order, Orders};
use buslane_shared::overload::posture;
use buslane_shared::wire::Posture;

use crate::happening::What;

/// Notices another posture.
#[derive(Debug, Default)]
pub struct PostureNotice(Option<Posture>);

impl PostureNotice {
    /// Another posture than at the last look. At the first look only one that is not normal is told.
    pub fn on(&mut self, view: &PostureView) -> Option<What> {
        let from = self.0.replace(view.posture).unwrap_or(Posture::Normal);
        (from != view.posture).then(|| What::Posture {
            from: posture::name(from).to_owned(),
            to: posture::name(view.posture).to_owned(),
            why: why(view),
        })
    }
}

/// Why a posture holds, in words.
fn why(view: &PostureView) -> String {
    // Without a signal of its own a node is only raised by others.
    let other = if is_raised(view) { "other nodes are in EMERGENCY" } else { "calm again" };
    cause(view).unwrap_or_else(|| other.to_owned())
}

/// The order or the signal to which a posture is due.
pub fn cause(view: &PostureView) -> Option<String> {
    match (view.order, &view.cause) {
        (Some(order), _) => Some(format!("order {order}")),
        (None, Some(cause)) if is_raised(view) => Some(measured(cause)),
        (None, _) => None,
    }
}

/// Whether it is one that signals raise: on the way down a signal may be over its limit for a moment, and is no reason.
fn is_raised(view: &PostureView) -> bool {
    matches!(view.posture, Posture::Guard | Posture::Emergency)
}

/// "logins 5.2 over 1.5"
pub fn measured(cause: &CauseView) -> String {
    format!("{} {:.1} over {:.1}", cause.signal, cause.value, cause.limit)
}

/// Notices orders.
#[derive(Debug, Default)]
pub struct OrderNotice(Option<BTreeMap<u64, Order>>);

impl OrderNotice {
    /// Orders that are new and orders that are gone since the last look. Those of the first look were told before.
    pub fn on(&mut self, orders: &Orders) -> Vec<What> {
        let now: BTreeMap<u64, Order> = orders.iter().map(|order| (order.id, order.clone())).collect();
        let Some(before) = self.0.replace(now.clone()) else { return Vec::new() };
        let ended = before.keys().filter(|id| !now.contains_key(id));
        let given = now.values().filter(|order| !before.contains_key(&order.id));
        ended.map(|id| What::OrderEnded { order: *id }).chain(given.map(given_order)).collect()
    }
}

fn given_order(order: &Order) -> What {
    What::OrderGiven {
        order: order.id,
        order_kind: order.kind.name().to_owned(),
        author: order.author.clone(),
        reason: order.reason.clone(),
        until_ms: order.until_ms,
    }
}

#[cfg(test)]
mod tests {
    use buslane_shared::overload::orders::{Kind, Wish};

    use super::*;

    fn view(posture: Posture, order: Option<u64>, cause: Option<CauseView>) -> PostureView {
        PostureView {
            node: "sm1".into(),
            posture,
            since_ms: 0,
            measured: posture,
            cause,
            order,
            level: 1_024,
            background_per_s: 1.0,
            ledger_ms: 0,
        }
    }

    fn said(what: Option<What>) -> Option<(String, String, String)> {
        what.map(|what| match what {
            What::Posture { from, to, why } => (from, to, why),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn each_change_is_told_once_with_its_reason() {
        let mut notice = PostureNotice::default();
        assert_eq!(notice.on(&view(Posture::Normal, None, None)), None);
        let cause = CauseView { signal: "logins_offered", value: 5.24, limit: 1.5 };
        let storm = view(Posture::Emergency, None, Some(cause));
        let told = ("normal".into(), "emergency".into(), "logins_offered 5.2 over 1.5".into());
        assert_eq!(said(notice.on(&storm)), Some(told));
        assert_eq!(notice.on(&storm), None);
        let told = ("emergency".into(), "normal".into(), "order 17".into());
        assert_eq!(said(notice.on(&view(Posture::Normal, Some(17), None))), Some(told));
    }

    #[test]
    fn what_ends_has_no_signal_to_blame_and_others_may_raise_a_node() {
        let seats = CauseView { signal: "seats_busy", value: 0.9, limit: 0.8 };
        let mut notice = PostureNotice::default();
        let steps = [
            (Posture::Guard, None, "other nodes are in EMERGENCY"),
            (Posture::Emergency, Some(seats.clone()), "seats_busy 0.9 over 0.8"),
            // Over its limit again by the time of the look.
            (Posture::Recovery, Some(seats), "calm again"),
            (Posture::Normal, None, "calm again"),
        ];
        for (posture, cause, why) in steps {
            let told = said(notice.on(&view(posture, None, cause))).unwrap();
            assert_eq!(told.2, why, "{posture:?}");
        }
    }

    #[test]
    fn a_process_that_starts_in_a_storm_says_so() {
        let told = said(PostureNotice::default().on(&view(Posture::Guard, None, None))).unwrap();
        assert_eq!((told.0.as_str(), told.1.as_str()), ("normal", "guard"));
    }

    #[test]
    fn orders_are_told_when_they_come_and_when_they_go() {
        let wish = |kind, duration_ms| Wish {
            kind,
            reason: "a drill".into(),
            author: "kim".into(),
            from_ms: None,
            duration_ms,
        };
        let mut orders = Orders::default();
        let mut notice = OrderNotice::default();
        let first = orders.plan(wish(Kind::Emergency, Some(60_000)), 1_000).unwrap();
        orders.give(first.clone(), 1_000);
        assert_eq!(notice.on(&orders), [], "it was there before");
        let second = orders.plan(wish(Kind::Normal, Some(600_000)), 2_000).unwrap();
        orders.give(second.clone(), 2_000);
        assert_eq!(notice.on(&orders), [given_order(&second)]);
        orders.forget(first.until_ms + 1);
        assert_eq!(notice.on(&orders), [What::OrderEnded { order: first.id }]);
        assert_eq!(notice.on(&orders), []);
    }
}
