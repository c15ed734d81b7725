//! A child that is there for this program only ends with it, however that happens.
//!
//! A driver that is killed (`kill -9`, no memory left) can stop nothing any more, and a server under test would go on for ever.
//! So the child asks the kernel to be killed when its parent dies. It learns from its environment whose child it is, because
//! only the child itself can ask without unsafe code.
//!
//! It must never end a program that somebody started by hand.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::process::Command;

/// Holds the number of the process that a child belongs to.
const VARIABLE: &str = "BUSLANE_ENDS_WITH";

/// The process that this one belongs to is not its parent (any more).
#[derive(Debug, thiserror::Error)]
#[error(
    "the process {owner:?} that this one belongs to is gone: unset {VARIABLE} to start this program by itself"
)]
pub struct Orphaned {
    owner: String,
}

/// Lets a child end with this process, if it is a program that calls [`end_with_parent`].
///
/// The kernel watches the thread that starts the child, not the process: start it on one that stays, as the main thread does.
pub fn bind(command: &mut Command) -> &mut Command {
    command.env(VARIABLE, std::process::id().to_string())
}

/// For the child, first of all and on its main thread: from now on it ends with its parent, if that one wants it so. `Err`: it is
/// too late for that, and the child is to end by itself.
pub fn end_with_parent() -> Result<(), Orphaned> {
    let Some(owner) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let owner = owner.to_string_lossy().into_owned();
    // In this order: a parent that dies in between is either noticed by the kernel or seen to be another one here.
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    // A kernel that cannot do it leaves things as they are without it.
    if asked.is_ok() && parent.as_ref() != Some(&owner) {
        return Err(Orphaned { owner });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_told_whose_it_is() {
        let said =
            bind(Command::new("sh").args(["-c", "echo $BUSLANE_ENDS_WITH $PPID"])).output().await.unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (told, parent) = said.trim().split_once(' ').unwrap();
        assert_eq!((told, told), (parent, std::process::id().to_string().as_str()));
    }
}
