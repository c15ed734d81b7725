//! Configuration files, and errors in them that a tired person can act on.
//!
//! Why it exists: a wrong value must stop the start before any port is bound, and say in which file, on which line, under
//! which key, and what to write instead. Types that are loaded carry `#[serde(deny_unknown_fields)]`: a misspelt key must
//! never be silently ignored.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use buslane_shared::nearest::did_you_mean;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// Largest configuration file: far above any real one, so that a wrong path (a disk image, a log) fails at once.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not there.
    #[error("{}: there is no such file; `buslane config init --dir DIR` writes a complete set", .0.display())]
    NotFound(PathBuf),
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something in it is wrong. All of it that was found is named, one line each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Finding>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1; 0 where the thing is not in the file at all.
    pub line: usize,
    /// The key with its tables, `a.b.c`; empty where there is none.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads and checks a configuration file.
pub fn load<T>(path: &Path) -> Result<T, ConfigError>
where
    T: DeserializeOwned + garde::Validate<Context: Default>,
{
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ConfigError::NotFound(path.to_owned()),
        _ => ConfigError::Unreadable { path: path.to_owned(), error },
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        let error = io::Error::other("it is over 1 MiB, which no configuration is");
        return Err(ConfigError::Unreadable { path: path.to_owned(), error });
    }
    parse(&std::fs::read_to_string(path).map_err(unreadable)?, path)
}

/// Checks the text of a configuration file; `path` is for the messages.
pub fn parse<T>(text: &str, path: &Path) -> Result<T, ConfigError>
where
    T: DeserializeOwned + garde::Validate<Context: Default>,
{
    let value: T = toml::from_str(text).map_err(|e| {
        ConfigError::Wrong(vec![found(text, path, e.message(), e.span().unwrap_or(0..text.len()))])
    })?;
    match value.validate() {
        Ok(()) => Ok(value),
        Err(report) => Err(ConfigError::Wrong(
            report
                .iter()
                .map(|(key, error)| {
                    let key = key.to_string();
                    let line = line_of_key(text, &key);
                    Finding { path: path.to_owned(), line, key, message: error.to_string() }
                })
                .collect(),
        )),
    }
}

/// The finding behind an error of the parser.
fn found(text: &str, path: &Path, message: &str, span: Range<usize>) -> Finding {
    let path = path.to_owned();
    // What is missing at the top has the whole text or nothing as its place: that is no line.
    let whole = span == (0..0) || span == (0..text.len());
    let (line, table) = if whole { (0, String::new()) } else { locate(text, span.start) };
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match missing {
        Some(name) => {
            let key = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
            Finding { path, line, key, message: "it is missing; add it".to_owned() }
        }
        None => Finding { path, line, key: table, message: explain(message) },
    }
}

/// Adds the likely spelling to the parser's message about an unknown key.
fn explain(message: &str) -> String {
    let message = message.trim();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown ")) else {
        return message.to_owned();
    };
    format!("{message}{}", did_you_mean(unknown, quoted))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// Line and key of a place in the text.
fn locate(text: &str, offset: usize) -> (usize, String) {
    let mut key = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        descend(table.get_ref(), offset, &mut key);
    }
    (line_at(text, offset), key.join("."))
}

/// Pushes the keys whose name or value covers `offset`, outermost first. False: none does.
fn descend(table: &DeTable<'_>, offset: usize, key: &mut Vec<String>) -> bool {
    table.iter().any(|(name, value)| {
        key.push(name.get_ref().to_string());
        // A `[table]` has the span of its header only, so the values are asked first.
        let found = name.span().contains(&offset)
            || within(value.get_ref(), offset, key)
            || value.span().contains(&offset);
        if !found {
            key.pop();
        }
        found
    })
}

fn within(value: &DeValue<'_>, offset: usize, key: &mut Vec<String>) -> bool {
    match value {
        DeValue::Table(table) => descend(table, offset, key),
        DeValue::Array(items) => {
            items.iter().any(|item| within(item.get_ref(), offset, key) || item.span().contains(&offset))
        }
        _ => false,
    }
}

/// The line on which a value is written, under this path of keys; `None` where it is not written.
pub fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let (last, tables) = path.split_last()?;
    for part in tables {
        match table.iter().find(|(name, _)| name.get_ref() == part)?.1.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return None,
        }
    }
    let (name, _) = table.iter().find(|(name, _)| name.get_ref() == last)?;
    Some(line_at(text, name.span().start))
}

/// The line on which a checked key stands; 0 if it is not written there (its default is wrong together with the rest).
fn line_of_key(text: &str, key: &str) -> usize {
    let Ok(table) = DeTable::parse(text) else { return 0 };
    let mut table = table.get_ref();
    let mut line = 0;
    for part in key.split('.') {
        let part = part.split('[').next().unwrap_or(part);
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
        line = line_at(text, name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    line
}

#[cfg(test)]
mod tests;
