//! The passes that sessions are given for their next connections.
//!
//! Why it exists: a phone in a tunnel must come back ahead of a storm, and a pass is what its first packet shows. Sessions get
//! a few with their welcome, and those in the foreground fresh ones with an answer to a ping when the last are half over. It must
//! never give more to whoever pings more often.

use buslane_chassis::clock;
use buslane_chassis::feed::Feed;
use buslane_shared::UnixMs;
use buslane_shared::class::Class;
use buslane_shared::mark::{Mark, NodeTag, PASS_LIFE_MS};
use buslane_shared::slots::Asker;
use buslane_shared::wire;
use bytes::Bytes;

/// Passes given at a time: a network that is lost a few times in a row.
const PASSES_PER_BATCH: u8 = 4;

/// How old the last batch is when there is a new one.
pub(crate) const PASSES_EVERY_MS: u64 = PASS_LIFE_MS / 2;

/// Fresh passes in this class, for a session of this node, which is this asker's. `None`: no key is valid now.
pub(crate) fn make(
    feed: &Feed,
    node: &str,
    class: Class,
    asker: Asker,
    now_ms: UnixMs,
) -> Option<wire::Passes> {
    let (keys, node) = (feed.keys(), NodeTag::of(node));
    // Two batches of one moment differ.
    let [first] = clock::random();
    let marks: Option<Vec<Bytes>> = (0..PASSES_PER_BATCH)
        .map(|n| {
            let nonce = Mark::nonce(asker, first.wrapping_add(n));
            let mark = keys.marks().make(&Mark::going_on(class, node, now_ms, nonce), now_ms)?;
            Some(Bytes::copy_from_slice(&mark))
        })
        .collect();
    let valid_ms = u32::try_from(PASS_LIFE_MS).unwrap_or(u32::MAX);
    Some(wire::Passes { marks: marks?, valid_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_key_there_are_no_passes() {
        assert_eq!(make(&Feed::default(), "here", Class::Look, Asker::from_bits(1), 0), None);
    }
}
