//! Orders on the wire, where everything that comes is checked.

use super::{Kind, Order, OrderError, Orders, check};
use crate::wire;

impl From<&Order> for wire::Order {
    fn from(order: &Order) -> Self {
        let kind = match order.kind {
            Kind::Automatic => wire::OrderKind::Automatic,
            Kind::Emergency => wire::OrderKind::Emergency,
            Kind::Normal => wire::OrderKind::Normal,
        };
        Self {
            id: order.id,
            kind: kind.into(),
            reason: order.reason.clone(),
            author: order.author.clone(),
            given_ms: order.given_ms,
            from_ms: order.from_ms,
            until_ms: order.until_ms,
        }
    }
}

impl TryFrom<wire::Order> for Order {
    type Error = OrderError;

    fn try_from(order: wire::Order) -> Result<Self, OrderError> {
        let kind = match order.kind() {
            wire::OrderKind::Automatic => Kind::Automatic,
            wire::OrderKind::Emergency => Kind::Emergency,
            wire::OrderKind::Normal => Kind::Normal,
            wire::OrderKind::Unspecified => return Err(OrderError::Malformed),
        };
        let wire::Order { id, reason, author, given_ms, from_ms, until_ms, .. } = order;
        let order = Self { id, kind, reason, author, given_ms, from_ms, until_ms };
        check(&order).map(|()| order)
    }
}

impl From<&Orders> for wire::OrderSet {
    fn from(orders: &Orders) -> Self {
        Self { orders: orders.iter().map(wire::Order::from).collect() }
    }
}
