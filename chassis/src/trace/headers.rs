//! The headers that go with every export, from a file: often a token of the collector.
//!
//! Why it exists: a secret has no place in a settings file, which is shown to operators. It must never say what is in the file.

use std::fs;
use std::path::Path;

use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};

use super::TraceError;
use crate::secret;

/// Reads a file of `name: value` lines; `#` begins a comment.
pub(super) fn read(path: &Path) -> Result<MetadataMap, TraceError> {
    let unreadable = |error| TraceError::Unreadable { path: path.to_owned(), error };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    if secret::is_exposed(path).map_err(unreadable)? {
        tracing::warn!(path = %path.display(), "others may read the headers of [traces]: chmod 600");
    }
    parse(&text).map_err(|line| TraceError::BadHeader { path: path.to_owned(), line })
}

/// The headers, or the line that is none.
fn parse(text: &str) -> Result<MetadataMap, usize> {
    let mut headers = MetadataMap::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(at + 1)?;
        let name: MetadataKey<_> = name.trim().parse().map_err(|_| at + 1)?;
        let mut value: MetadataValue<_> = value.trim().parse().map_err(|_| at + 1)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_headers_and_a_wrong_one_is_named() {
        let headers = parse("# of the collector\nauthorization: Bearer a:b\n\nx-tenant: one\n").unwrap();
        assert_eq!(headers.get("authorization").unwrap(), "Bearer a:b");
        assert_eq!(headers.len(), 2);
        assert_eq!(parse("a: b\nno header\n").unwrap_err(), 2);
        assert_eq!(parse("bad name: b\n").unwrap_err(), 1);
    }

    #[test]
    fn a_missing_file_is_named_and_its_contents_never() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        assert!(read(&path).unwrap_err().to_string().contains("headers"));
        secret::write(&path, b"secret-without-a-colon").unwrap();
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains(":1:") && !said.contains("secret-without"), "{said}");
    }
}
