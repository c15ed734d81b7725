//! Lets the person at the terminal type what is about to be done to, before it is done.
//!
//! A script has nobody who could type: it says what it wants on the command line, and is not asked.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Exit, Failure};

/// Asks for `word`, if somebody can be asked.
pub fn typed(what: &str, word: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let refused = |why: String| Failure::new(Exit::Usage, "not_confirmed", why);
    write!(io::stderr(), "{what} Type {word} to go on: ").map_err(|e| refused(format!("cannot ask: {e}")))?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|e| refused(format!("cannot read what is typed: {e}")))?;
    if line.trim() == word {
        Ok(())
    } else {
        Err(refused("that was something else: nothing was done".to_owned()))
    }
}
