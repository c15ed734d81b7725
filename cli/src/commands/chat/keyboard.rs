//! Lines that a person types or a pipe brings, and a screen on which other lines may appear meanwhile.
//!
//! Reading blocks, so it has a thread of its own, which ends with the input or when nobody listens any more. It reads a
//! line only when it is asked for one: a pipe is not read faster than its lines are sent, and between two lines the
//! terminal is as it was found.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::mpsc as std_mpsc;
use std::thread;

use buslane_shared::limits::BODY_BYTES_MAX;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use crate::failure::{Exit, Failure};
use crate::output::{Output, print_line};

/// What comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line without its end.
    Text(String),
    /// A line that no message can hold; it was skipped.
    TooLong,
}

/// Where lines appear.
pub enum Screen {
    /// Above the line that is being edited.
    Terminal(Box<dyn ExternalPrinter + Send>),
    /// Results on stdout, talk on stderr.
    Stream(Output),
}

impl Screen {
    /// A line of the conversation.
    pub fn show(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Self::Terminal(printer) => printer.print(format!("{line}\n")).map_err(|e| {
                Failure::new(Exit::Refused, "terminal", format!("cannot write to the terminal: {e}"))
            }),
            Self::Stream(_) => print_line(line),
        }
    }

    /// A line about the conversation.
    pub fn talk(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Self::Terminal(_) => self.show(line),
            Self::Stream(output) => {
                output.talk(line);
                Ok(())
            }
        }
    }

    /// Whether a person sits in front of it.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

/// Where lines come from.
pub struct Keyboard {
    lines: mpsc::Receiver<Line>,
    wanted: std_mpsc::Sender<()>,
    asked: bool,
}

impl Keyboard {
    /// The next line; `None`: the input is at its end. Nothing is lost if this is dropped and called again.
    pub async fn next(&mut self) -> Option<Line> {
        if !self.asked {
            self.asked = true;
            // A thread that has ended says so by the end of its lines.
            let _ = self.wanted.send(());
        }
        let line = self.lines.recv().await;
        self.asked = false;
        line
    }
}

/// The thread's side: a line is only read when one is wanted.
struct Reader {
    lines: mpsc::Sender<Line>,
    wanted: std_mpsc::Receiver<()>,
}

impl Reader {
    fn is_wanted(&self) -> bool {
        self.wanted.recv().is_ok()
    }

    fn give(&self, line: Line) -> bool {
        self.lines.blocking_send(line).is_ok()
    }
}

/// Opens the keyboard and the screen.
pub fn open(output: Output, prompt: String) -> Result<(Keyboard, Screen), Failure> {
    let (line_sender, lines) = mpsc::channel(1);
    let (wanted, wanted_receiver) = std_mpsc::channel();
    let reader = Reader { lines: line_sender, wanted: wanted_receiver };
    let terminal = !output.json && io::stdin().is_terminal() && io::stdout().is_terminal();
    let screen = if terminal {
        let unusable = |e: ReadlineError| {
            Failure::new(Exit::Refused, "terminal", format!("this terminal cannot be used: {e}"))
        };
        let mut editor = DefaultEditor::new().map_err(unusable)?;
        let printer = editor.create_external_printer().map_err(unusable)?;
        start(move || edit(editor, &prompt, &reader))?;
        Screen::Terminal(Box::new(printer))
    } else {
        start(move || read(io::stdin().lock(), &reader))?;
        Screen::Stream(output)
    };
    Ok((Keyboard { lines, wanted, asked: false }, screen))
}

fn start(reader: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().name("keyboard".to_owned()).spawn(reader);
    started
        .map(drop)
        .map_err(|e| Failure::new(Exit::Refused, "system", format!("cannot start a thread: {e}")))
}

/// Lines from a terminal. Ctrl-C and Ctrl-D end them.
fn edit(mut editor: DefaultEditor, prompt: &str, reader: &Reader) {
    while reader.is_wanted() {
        let Ok(text) = editor.readline(prompt) else { return };
        // A line that does not get into the history can still be sent.
        let _ = editor.add_history_entry(text.as_str());
        let line = if text.len() > BODY_BYTES_MAX { Line::TooLong } else { Line::Text(text) };
        if !reader.give(line) {
            return;
        }
    }
}

/// Lines from anything else.
fn read(mut input: impl BufRead, reader: &Reader) {
    while reader.is_wanted() {
        let Ok(Some(line)) = next_line(&mut input) else { return };
        if !reader.give(line) {
            return;
        }
    }
}

/// The next line, without ever holding more than a message may have.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    // The line's end, and one byte that shows that there is more.
    let longest = BODY_BYTES_MAX as u64 + 2;
    let mut bytes = Vec::new();
    if input.by_ref().take(longest).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let mut whole = bytes.ends_with(b"\n");
    while !whole {
        let mut rest = Vec::new();
        if input.by_ref().take(longest).read_until(b'\n', &mut rest)? == 0 {
            break;
        }
        whole = rest.ends_with(b"\n");
        bytes.truncate(0);
        bytes.resize(BODY_BYTES_MAX + 1, 0);
    }
    while bytes.ends_with(b"\n") || bytes.ends_with(b"\r") {
        bytes.pop();
    }
    if bytes.len() > BODY_BYTES_MAX {
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(Line::Text(String::from_utf8_lossy(&bytes).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<Line> {
        std::iter::from_fn(|| next_line(&mut input).unwrap()).collect()
    }

    #[test]
    fn lines_come_without_their_ends_and_the_last_one_needs_none() {
        let text = |s: &str| Line::Text(s.to_owned());
        assert_eq!(all(b"one\ntwo\r\n\nthree"), [text("one"), text("two"), text(""), text("three")]);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_that_no_message_holds_is_skipped_as_a_whole() {
        for surplus in [1, 2, 3, BODY_BYTES_MAX * 3] {
            let mut input = vec![b'x'; BODY_BYTES_MAX + surplus];
            input.extend_from_slice(b"\nnext\n");
            assert_eq!(all(&input), [Line::TooLong, Line::Text("next".to_owned())], "{surplus}");
        }
        let mut longest = vec![b'x'; BODY_BYTES_MAX];
        longest.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&longest).len(), 2);
        assert!(matches!(&all(&longest)[0], Line::Text(text) if text.len() == BODY_BYTES_MAX));
    }
}
