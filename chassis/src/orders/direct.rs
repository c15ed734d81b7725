//! Nodes that were asked directly which order they obey.
//!
//! Why it exists: without the backend the feed says nothing new, and an operator must still be told how many nodes obey. A node that
//! was heard of directly counts among those that should: while it answers, and while the feed cannot say that it is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A node that is silent for longer counts only while the feed cannot say whether it is gone.
const SILENT: Duration = Duration::from_secs(15);

/// Nodes that are remembered: as many as may be configured.
const NODES_MAX: usize = 64;

/// When each node was heard of last.
#[derive(Debug, Default)]
pub(super) struct Direct(BTreeMap<String, Instant>);

impl Direct {
    /// A node has answered.
    pub(super) fn on_said(&mut self, node: &str, now: Instant) {
        self.0.insert(node.to_owned(), now);
        if self.0.len() > NODES_MAX {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(node, _)| node.clone());
            oldest.and_then(|node| self.0.remove(&node));
        }
    }

    /// The nodes that should obey, as far as they are known from here.
    pub(super) fn nodes(&self, now: Instant, feed_is_connected: bool) -> Vec<String> {
        let counts = |at: Instant| !feed_is_connected || now.saturating_duration_since(at) <= SILENT;
        self.0.iter().filter(|(_, at)| counts(**at)).map(|(node, _)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_counts_until_the_feed_can_say_that_it_is_gone() {
        let (mut direct, begun) = (Direct::default(), Instant::now());
        direct.on_said("sm2", begun);
        let later = begun + SILENT + Duration::from_millis(1);
        assert_eq!(direct.nodes(begun, true), ["sm2"]);
        assert_eq!(direct.nodes(later, false), ["sm2"]);
        assert!(direct.nodes(later, true).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_silent_for_longest_is_forgotten_first() {
        let (mut direct, begun) = (Direct::default(), Instant::now());
        for n in 0..=NODES_MAX {
            direct.on_said(&format!("sm{n}"), begun + Duration::from_secs(n as u64));
        }
        let known = direct.nodes(begun, false);
        assert_eq!(known.len(), NODES_MAX);
        assert!(!known.contains(&"sm0".to_owned()));
    }
}
