//! What is believed of a process that was heard of some time ago.
//!
//! Why it exists: a node that is silent is not well, whatever it said last. Within five seconds its own word counts; then nothing is
//! known of it, which is never shown as if it worked; after fifteen seconds it counts as down. Pure: the time is an argument.

use std::net::SocketAddr;
use std::time::Duration;

use crate::view::{NodeView, State};

/// How long the word of a process counts.
pub const FRESH: Duration = Duration::from_secs(5);

/// When a silent one counts as down.
pub const GONE: Duration = Duration::from_secs(15);

/// What was heard of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// What it said of itself.
    pub view: NodeView,
    /// How far its clock is from ours.
    pub skew_ms: i64,
}

/// What is believed of the process at `addr`. `silence` is how long nothing was heard of it: since its last word, or since it is
/// asked. `failure` is why the last question had no answer.
pub fn judge(addr: SocketAddr, word: Option<&Word>, silence: Duration, failure: Option<&str>) -> NodeView {
    let said = word.map_or_else(|| stranger(addr), |word| word.view.clone());
    let age_ms = word.is_some().then(|| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX));
    let skew = word.map(|word| word.skew_ms);
    let state = match silence {
        silence if silence > GONE => State::Down,
        silence if silence > FRESH || word.is_none() => State::Unknown,
        _ => said.state,
    };
    let why = if state == said.state && word.is_some() && silence <= FRESH {
        said.why.clone()
    } else {
        Some(silent(word.is_some(), silence, failure))
    };
    NodeView { admin: Some(addr.to_string()), here: false, state, why, age_ms, clock_skew_ms: skew, ..said }
}

fn silent(was_heard: bool, silence: Duration, failure: Option<&str>) -> String {
    let since = if was_heard {
        format!("nothing heard of it for {} s", silence.as_secs())
    } else {
        "nothing was heard of it yet".to_owned()
    };
    failure.map_or_else(|| since.clone(), |failure| format!("{since}: {failure}"))
}

/// A process that has never answered has no name but its address.
fn stranger(addr: SocketAddr) -> NodeView {
    NodeView::unknown(&addr.to_string(), "unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(state: State) -> Word {
        let addr = "127.0.0.1:9".parse().unwrap();
        let view = NodeView { node: "sm2".into(), state, why: Some("its own".into()), ..stranger(addr) };
        Word { view, skew_ms: -7 }
    }

    #[test]
    fn silence_is_never_shown_as_if_it_worked() {
        let addr = "127.0.0.1:7480".parse().unwrap();
        let (up, down) = (word(State::Up), word(State::Down));
        let cases = [
            (Some(&up), 0, State::Up, "its own"),
            (Some(&up), 5_000, State::Up, "its own"),
            (Some(&up), 5_001, State::Unknown, "nothing heard of it for 5 s: refused"),
            (Some(&up), 15_000, State::Unknown, "nothing heard of it for 15 s: refused"),
            (Some(&up), 15_001, State::Down, "nothing heard of it for 15 s: refused"),
            (Some(&down), 1_000, State::Down, "its own"),
            (Some(&down), 6_000, State::Unknown, "nothing heard of it for 6 s: refused"),
            (Some(&down), 16_000, State::Down, "nothing heard of it for 16 s: refused"),
            (None, 0, State::Unknown, "nothing was heard of it yet: refused"),
            (None, 16_000, State::Down, "nothing was heard of it yet: refused"),
        ];
        for (word, silence_ms, state, why) in cases {
            let view = judge(addr, word, Duration::from_millis(silence_ms), Some("refused"));
            assert_eq!(
                (view.state, view.why.as_deref()),
                (state, Some(why)),
                "{word:?} after {silence_ms} ms"
            );
            assert_eq!(view.admin.as_deref(), Some("127.0.0.1:7480"));
            assert_eq!(view.clock_skew_ms, word.map(|_| -7));
            assert_eq!(view.age_ms.is_some(), word.is_some());
        }
    }

    #[test]
    fn who_never_answered_is_called_by_the_address() {
        let view = judge("127.0.0.1:7480".parse().unwrap(), None, Duration::ZERO, None);
        assert_eq!((view.node.as_str(), view.role.as_str()), ("127.0.0.1:7480", "unknown"));
    }
}
