//! Where things lie on this machine when nobody says otherwise.
//!
//! It exists so that `up`, the clients and the operator's commands find each other without a flag. It only computes
//! paths: it never creates one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use buslane_shared::id::UserId;

use crate::failure::Failure;

/// Name of the environment variable that moves everything.
const HOME_VARIABLE: &str = "BUSLANE_HOME";

/// The folder under which everything lies by default.
pub fn home() -> Result<PathBuf, Failure> {
    home_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()))
}

/// The data folder of a local `up`.
pub fn up_data() -> Result<PathBuf, Failure> {
    Ok(home()?.join("up"))
}

/// The state folder of a client.
pub fn client_state(user: &UserId) -> Result<PathBuf, Failure> {
    Ok(home()?.join("clients").join(user.as_str()))
}

/// The folder of the keys of a data folder: beside it, so that a copy of the data is not a copy of the keys.
pub fn keys_beside(data: &Path) -> PathBuf {
    // Taken apart and put together, so that a slash at the end does not move the keys into the folder.
    let mut name: OsString = data.components().collect::<PathBuf>().into_os_string();
    name.push(".keys");
    PathBuf::from(name)
}

fn home_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    if let Some(home) = variable(HOME_VARIABLE) {
        return Ok(PathBuf::from(home));
    }
    if let Some(data) = variable("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("buslane"));
    }
    match variable("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".local/share/buslane")),
        None => Err(Failure::usage(format!(
            "there is no home folder: set {HOME_VARIABLE} to a folder, or name the folders with --data and --state"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_wins() {
        let all = |name: &str| match name {
            "BUSLANE_HOME" => Some("/b".into()),
            "XDG_DATA_HOME" => Some("/x".into()),
            "HOME" => Some("/h".into()),
            _ => None,
        };
        assert_eq!(home_from(all), Ok("/b".into()));
        assert_eq!(home_from(|n| all(n).filter(|_| n != "BUSLANE_HOME")), Ok("/x/buslane".into()));
        assert_eq!(home_from(|n| all(n).filter(|_| n == "HOME")), Ok("/h/.local/share/buslane".into()));
        assert!(home_from(|_| None).unwrap_err().message.contains("BUSLANE_HOME"));
    }

    #[test]
    fn keys_lie_beside_the_data_and_not_in_it() {
        assert_eq!(keys_beside(Path::new("/data/up")), Path::new("/data/up.keys"));
        assert_eq!(keys_beside(Path::new("/data/up//")), Path::new("/data/up.keys"));
    }
}
