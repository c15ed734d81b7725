//! What a command says: results on stdout, talk on stderr; JSON lines for scripts, sentences for people.
//!
//! It exists so that no command decides for itself how it prints. Text from other users never reaches a terminal as it
//! came: control characters are shown, not obeyed.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Exit, Failure};

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object a line, instead of sentences.
    pub json: bool,
    /// stdout is a terminal that shows colours.
    pub colour: bool,
}

impl Output {
    /// Looks at the environment: colours only on a terminal, and never with `NO_COLOR` (no-color.org).
    pub fn new(json: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { json, colour: !json && !no_colour && io::stdout().is_terminal() }
    }

    /// Prints one result: `value` as a JSON line, or the sentence for people.
    pub fn result<T: Serialize>(&self, value: &T, human: impl FnOnce() -> String) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(value).map_err(|e| {
                Failure::new(Exit::Refused, "internal", format!("a result does not encode: {e}"))
            })?
        } else {
            human()
        };
        print_line(&line)
    }

    /// Says something to the person at the terminal; silent with `--json`, so that stderr holds errors only.
    pub fn talk(&self, text: &str) {
        if !self.json {
            // Nobody reads it: then nothing is lost.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// `text`, dimmed where colours are shown.
    pub fn dim<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.colour { Cow::Owned(format!("\x1b[2m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    /// `text`, bold where colours are shown.
    pub fn bold<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.colour { Cow::Owned(format!("\x1b[1m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }
}

/// Prints a line on stdout at once.
pub fn print_line(line: &str) -> Result<(), Failure> {
    write_all(format!("{line}\n").as_bytes())
}

/// Writes to stdout at once, as it is.
pub fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Failure::output_closed(),
        _ => Failure::new(Exit::Refused, "output", format!("cannot write to stdout: {e}")),
    })
}

/// Text from the network as it may be shown on a terminal: no control characters but the tab.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let shown =
        |c: char| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_others_are_shown_and_not_obeyed() {
        assert_eq!(printable("plain, with\ttab and ünïcode"), "plain, with\ttab and ünïcode");
        assert_eq!(printable("\x1b[2Jgone\r\n"), "\\u{1b}[2Jgone\\r\\n");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
    }
}
