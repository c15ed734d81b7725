//! Reading the tokens again where the disk did not answer at the start.
//!
//! Why it exists: a file that could not be read for a moment may be whole, and the tokens in it are people's. It must never write over what
//! it does not know, and never hold up who shows a token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Tokens, TokensError, file};

/// Between two tries to read a file that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Tokens {
    /// Reads the file, if it could not be read before. Blocks. Where it can be read, everybody may go on.
    fn read_again(&self) -> Result<(), TokensError> {
        let mut unread = self.unread.lock();
        if unread.is_none() {
            return Ok(());
        }
        *unread = Some(Instant::now());
        let read = file::read(&self.path).map_err(|error| TokensError::Unreadable(error.to_string()))?;
        *self.live.lock() = read;
        *unread = None;
        tracing::info!(path = %self.path.display(), "the tokens were read");
        Ok(())
    }

    /// Whoever shows a token while none is known is let in the next time, if the disk answers.
    pub(super) fn hurry(self: &Arc<Self>) {
        // A reading that is under way has the lock.
        let Some(mut unread) = self.unread.try_lock() else { return };
        if unread.is_none_or(|tried| tried.elapsed() < READ_AGAIN) {
            return;
        }
        // Noted before the reading begins: of those who come meanwhile nobody begins another one.
        *unread = Some(Instant::now());
        drop(unread);
        let tokens = Arc::clone(self);
        // Nobody waits for it: a disk that hangs must hold up nobody.
        drop(tokio::task::spawn_blocking(move || tokens.read_again()));
    }

    /// What is there is known, or nothing is changed.
    pub(super) async fn known(self: &Arc<Self>) -> Result<(), TokensError> {
        let tokens = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || tokens.read_again()).await;
        read.unwrap_or_else(|failed| Err(TokensError::Unreadable(failed.to_string())))
    }
}
