//! How the session managers are: what their links report is gathered and handed to everybody who is fed.
//!
//! Reports come from every manager up to twenty times a second; gateways get them together, the first change at once and
//! then every 50 ms while there are more. Nothing is concluded from them here, and nothing waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use buslane_shared::wire;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::core::Core;

/// Between two updates of the loads.
const EVERY: Duration = Duration::from_millis(50);

/// The last report of each session manager.
#[derive(Default)]
pub(crate) struct Loads {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    all: BTreeMap<String, wire::Load>,
    changed: BTreeSet<String>,
}

impl Loads {
    /// A session manager says how it is. Of one link's reports the later replaces the earlier.
    pub(crate) fn on_load(&self, node: &str, load: wire::Load) {
        let mut inner = self.inner.lock();
        inner.all.insert(node.to_owned(), load);
        inner.changed.insert(node.to_owned());
        drop(inner);
        self.changed.notify_one();
    }

    /// A session manager is gone.
    pub(crate) fn forget(&self, node: &str) {
        let mut inner = self.inner.lock();
        inner.all.remove(node);
        inner.changed.remove(node);
    }

    /// What has changed since the last time, and everything.
    fn take(&self) -> (Vec<wire::NodeLoad>, Vec<wire::NodeLoad>) {
        let mut inner = self.inner.lock();
        let changed = std::mem::take(&mut inner.changed);
        let named =
            |(node, load): (&String, &wire::Load)| wire::NodeLoad { node: node.clone(), load: Some(*load) };
        let all = inner.all.iter().map(named).collect();
        let changed = changed.iter().filter_map(|node| inner.all.get_key_value(node)).map(named).collect();
        (changed, all)
    }
}

/// Hands out what was gathered, until the backend stops.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.loads.changed.notified() => {}
            () = core.stop.cancelled() => return,
        }
        let (changed, all) = core.loads.take();
        core.feed.publish_loads(changed, all);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(loads: Vec<wire::NodeLoad>) -> Vec<(String, u32)> {
        loads.into_iter().map(|n| (n.node, n.load.unwrap_or_default().level)).collect()
    }

    #[test]
    fn reports_are_gathered_and_the_last_one_counts() {
        let loads = Loads::default();
        let load = |level| wire::Load { level, ..Default::default() };
        loads.on_load("a", load(1));
        loads.on_load("b", load(2));
        loads.on_load("a", load(3));
        let (changed, all) = loads.take();
        let both = [("a".to_owned(), 3), ("b".to_owned(), 2)];
        assert_eq!((nodes(changed), nodes(all)), (both.to_vec(), both.to_vec()));
        loads.on_load("b", load(4));
        loads.on_load("a", load(5));
        loads.forget("a");
        let (changed, all) = loads.take();
        let only = vec![("b".to_owned(), 4)];
        assert_eq!((nodes(changed), nodes(all)), (only.clone(), only));
        assert_eq!(loads.take().0, []);
    }
}
