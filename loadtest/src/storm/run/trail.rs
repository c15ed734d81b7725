//! The postures of a node as its operator sees them.
//!
//! Clients are told only what they have to do differently: that there is an EMERGENCY, and that it is over. That the node was on its
//! guard, and when it came back to NORMAL, only the node itself says. It is asked each second; since every answer holds since
//! when, the moments are exact, and only what came and went between two questions is not seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::overload::posture;
use buslane_shared::wire::Posture;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::storm::live::Live;
use crate::storm::system::Admin;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Postures, each with the moment from which it held.
pub type Postures = Vec<(Instant, Posture)>;

/// The task that asks.
#[derive(Debug)]
pub struct Trail {
    stop: CancellationToken,
    task: JoinHandle<Postures>,
}

impl Trail {
    /// Asks this node from now on. What it answers is shown live as well.
    pub fn start(admin: Admin, live: Arc<Live>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow(admin, live, stop.clone()));
        Self { stop, task }
    }

    /// Ends it.
    pub async fn finish(self) -> Postures {
        self.stop.cancel();
        // A task that has failed has seen nothing.
        self.task.await.unwrap_or_default()
    }
}

async fn follow(admin: Admin, live: Arc<Live>, stop: CancellationToken) -> Postures {
    let begin = Instant::now();
    let mut postures = Postures::new();
    let mut ticks = tokio::time::interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let asking = async {
        loop {
            ticks.tick().await;
            if let Some((at, posture)) = ask(&admin).await {
                add(&mut postures, at.max(begin), posture);
                live.set_posture(posture);
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = stop.cancelled() => {}
    }
    // What has changed since the last answer.
    if let Ok(Some((at, posture))) = tokio::time::timeout(ASK_EVERY, ask(&admin)).await {
        add(&mut postures, at.max(begin), posture);
    }
    postures
}

/// What holds, and since when. A node that is being restarted does not answer; the next answer says what holds then.
async fn ask(admin: &Admin) -> Option<(Instant, Posture)> {
    let said = admin.get("/v1/posture").await.ok()?;
    let (posture, age) = read(&said)?;
    let now = Instant::now();
    Some((now.checked_sub(age).unwrap_or(now), posture))
}

/// What holds there, and for how long.
fn read(said: &Value) -> Option<(Posture, Duration)> {
    let here = said.get("here")?;
    let name = here.get("posture")?.as_str()?;
    let all = [Posture::Normal, Posture::Guard, Posture::Emergency, Posture::Recovery];
    let posture = all.into_iter().find(|posture| posture::name(*posture) == name)?;
    let (now_ms, since_ms) = (said.get("now_ms")?.as_u64()?, here.get("since_ms")?.as_u64()?);
    Some((posture, Duration::from_millis(now_ms.saturating_sub(since_ms))))
}

/// Adds what holds since then, if it is another than before. Never before what is there.
fn add(postures: &mut Postures, at: Instant, posture: Posture) {
    match postures.last() {
        Some((_, last)) if *last == posture => {}
        Some((before, _)) => {
            let at = at.max(*before);
            postures.push((at, posture));
        }
        None => postures.push((at, posture)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_says_what_holds_and_for_how_long() {
        let said = |posture| json!({ "here": { "posture": posture, "since_ms": 4_750 }, "now_ms": 5_000 });
        let age = Duration::from_millis(250);
        assert_eq!(read(&said("recovery")), Some((Posture::Recovery, age)));
        assert_eq!(read(&said("guard")), Some((Posture::Guard, age)));
        assert_eq!(read(&said("asleep")), None);
        assert_eq!(read(&json!({ "here": null, "now_ms": 5_000 })), None, "no session manager");
    }

    #[test]
    fn what_holds_still_is_no_change() {
        let (begin, s) = (Instant::now(), Duration::from_secs(1));
        let mut postures = Postures::new();
        for (at, posture) in [
            (begin, Posture::Normal),
            (begin, Posture::Normal),
            (begin + 3 * s, Posture::Emergency),
            (begin + 3 * s, Posture::Emergency),
            (begin + 2 * s, Posture::Recovery),
        ] {
            add(&mut postures, at, posture);
        }
        let expected = [
            (begin, Posture::Normal),
            (begin + 3 * s, Posture::Emergency),
            (begin + 3 * s, Posture::Recovery),
        ];
        assert_eq!(postures, expected);
    }
}
