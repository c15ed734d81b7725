//! Who gives an order, where the command line does not say it: the user of this system.
//!
//! A name for the record, and no proof of anything: whoever has the admin token may write any.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Adds the author to what is told to a server, where this system says who it is. Whoever shows a token of his own is written
/// down under its name, whatever stands here.
pub fn sign(mut body: Value) -> Value {
    if let (Value::Object(fields), Some(author)) = (&mut body, of_this_process()) {
        fields.entry("author").or_insert(author.into());
    }
    body
}

/// The user of this process. `None` where the system does not say.
pub fn of_this_process() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
    variable("USER").or_else(|| variable("LOGNAME")).or_else(|| {
        // Services and containers have no such variable.
        let uid = uid(Path::new("/proc/self"))?;
        let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(name_in(&known, uid).unwrap_or_else(|| format!("uid {uid}")))
    })
}

#[cfg(unix)]
fn uid(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|about| std::os::unix::fs::MetadataExt::uid(&about))
}

#[cfg(not(unix))]
fn uid(_path: &Path) -> Option<u32> {
    None
}

/// The name of a user in the text of `/etc/passwd`.
fn name_in(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_their_number() {
        let text = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nkim:x:1000:100::/home/kim:/bin/sh\n";
        assert_eq!(name_in(text, 0).as_deref(), Some("root"));
        assert_eq!(name_in(text, 1000).as_deref(), Some("kim"));
        assert_eq!(name_in(text, 100), None);
    }
}
