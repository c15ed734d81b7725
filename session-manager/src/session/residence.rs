//! The place of a session in its node: its hold on the presence, and its share of the counts.
//!
//! Why it is apart: it is let go in whatever way the task of the session ends, a panic included. What it holds must never outlive that
//! task.

use std::sync::Arc;

use crate::meters::Counted;
use crate::node::Port;
use crate::presence::Hold;
use crate::table::Parting;

/// The hold of a session that lets go in whatever way its task ends, a panic included.
pub(super) struct Residence {
    pub(super) port: Arc<Port>,
    pub(super) hold: Hold,
    pub(super) parting: Parting,
    _counted: Counted,
}

impl Residence {
    pub(super) fn new(port: &Arc<Port>, hold: Hold) -> Self {
        port.node.connected.on_came(port.lane());
        let counted = Counted::new(&port.meters.sessions);
        Self { port: Arc::clone(port), hold, parting: Parting::Lost, _counted: counted }
    }
}

impl Drop for Residence {
    fn drop(&mut self) {
        self.port.node.connected.on_went(self.port.lane());
        match &self.port.desk {
            None => self.port.node.table.part(&self.hold, self.parting),
            Some(desk) => {
                let (node, hold, parting) = (Arc::clone(&self.port.node), self.hold.clone(), self.parting);
                desk.later(move || node.table.part(&hold, parting));
            }
        }
    }
}
