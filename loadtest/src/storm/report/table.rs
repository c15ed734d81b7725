//! Columns and lines of a terminal.

use super::words::glued;

/// Width that every terminal has.
pub const WIDTH: usize = 80;

/// Whether text may have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Nothing but text.
    Plain,
    /// With the colours of the terminal.
    Coloured,
}

/// What a text is about, for its colour. No colour says anything that the text does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Nothing can be said.
    Doubtful,
    /// Beside the point.
    Quiet,
    /// The point.
    Strong,
}

impl Ink {
    /// The text in the colour of its tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "1;36",
            Tone::Bad => "1;31",
            Tone::Doubtful => "1;33",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// Rows under each other: the first column to the left, the others to the right, each as wide as its widest.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| wide(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| row_of(row, &widths)).collect()
}

fn row_of(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        let space = " ".repeat(width.saturating_sub(wide(cell)));
        if column == 0 { format!("{cell}{space}") } else { format!("  {space}{cell}") }
    });
    cells.collect::<String>().trim_end().to_owned()
}

fn wide(text: &str) -> usize {
    text.chars().count()
}

/// Lines of at most `width`, broken between words.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in glued(text).split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && wide(&line) + 1 + wide(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word.replace('\u{a0}', " "));
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_broken() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines = aligned(&[row(["a", "1", "2"]), row(["long", "10", ""])]);
        assert_eq!(lines, ["a      1  2", "long  10"]);
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one 98.2 % four", 8), ["one", "98.2 %", "four"]);
        assert_eq!(Ink::Plain.paint(Tone::Bad, "x"), "x");
        assert_eq!(Ink::Coloured.paint(Tone::Quiet, "x"), "\u{1b}[2mx\u{1b}[0m");
    }
}
