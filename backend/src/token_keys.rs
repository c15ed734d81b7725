//! The keys of tickets, resume tokens and credentials: made, kept, replaced and handed out.
//!
//! They are stored as a secret of the sealer, so they never lie in the store in the clear, and a rotation of the key file
//! takes them along.

use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_shared::UnixMs;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use bytes::Bytes;
use prost::Message as _;
use zeroize::Zeroizing;

use crate::core::Core;
use crate::refuse;
use crate::schedule::{KeyTimes, Schedule};

/// Name of the secret.
const SECRET: &str = "token-keys";

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// How soon a failed rotation is tried again: the next key is announced ten minutes before it is needed.
const RETRY: Duration = Duration::from_secs(15);

/// Longest sleep: a clock that was set forward is noticed by then.
const SLEEP_MAX: Duration = Duration::from_secs(60);

impl Core {
    /// Brings the keys up to date and hands them out. The answer is when to do so again.
    pub(crate) async fn refresh_token_keys(&self) -> Result<UnixMs, Refusal> {
        let now_ms = self.now_ms();
        let schedule = Schedule {
            rotate_ms: u64::from(self.config.token_key_hours) * 3600 * 1000,
            token_life_ms: self.config.credential_life_ms(),
        };
        let mut set = self.stored_token_keys().await?;
        let times = |k: &wire::TokenKey| KeyTimes {
            id: k.id,
            not_before_ms: k.not_before_ms,
            expires_ms: k.expires_ms,
        };
        let plan = schedule.plan(&set.keys.iter().map(times).collect::<Vec<_>>(), now_ms);
        if plan.make.is_some() || !plan.retire.is_empty() {
            set.keys.retain(|k| !plan.retire.contains(&k.id));
            set.keys.extend(plan.make.map(|times| wire::TokenKey {
                id: times.id,
                secret: Bytes::from(clock::random::<KEY_BYTES>().to_vec()),
                not_before_ms: times.not_before_ms,
                expires_ms: times.expires_ms,
            }));
            let clear = Zeroizing::new(set.encode_to_vec());
            self.sealer.put_secret(SECRET, &clear).await.map_err(|e| refuse::write_failed(e.into()))?;
            tracing::info!(keys = set.keys.len(), "token keys replaced");
        }
        self.feed.set_keys(set);
        Ok(plan.next_ms)
    }

    async fn stored_token_keys(&self) -> Result<wire::KeySet, Refusal> {
        let stored = self.sealer.secret(SECRET).await.map_err(|e| refuse::not_done(e.into()))?;
        match stored {
            None => Ok(wire::KeySet::default()),
            Some(clear) => wire::KeySet::decode(&clear[..])
                .map_err(|_| Refusal::new(Code::Internal, "the token keys do not decode; restore a backup")),
        }
    }
}

/// Replaces keys in time, until the backend stops.
pub(crate) async fn run(core: Arc<Core>, mut next_ms: UnixMs) {
    loop {
        let wait = Duration::from_millis(next_ms.saturating_sub(core.now_ms())).min(SLEEP_MAX);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.stop.cancelled() => return,
        }
        if core.now_ms() < next_ms {
            continue;
        }
        match core.refresh_token_keys().await {
            Ok(next) => next_ms = next,
            Err(refusal) => {
                tracing::error!(%refusal, "the token keys could not be replaced; trying again");
                next_ms = core.now_ms() + RETRY.as_millis() as u64;
            }
        }
    }
}
