//! Why a command ends without having done what was asked: a stable code, a sentence that says what to do, and the exit
//! code of the process.
//!
//! It exists so that every command fails in the same form, on the terminal and for scripts. It must never carry a
//! credential, a token or the text of a message.

use buslane_shared::refusal::{Code, Refusal};
use serde_json::json;

/// Exit codes, as documented in `buslane --help`. 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The server refused, or not everything was done.
    Refused = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// An address cannot be listened on.
    Port = 3,
    /// A data folder or a backup is in use, unreadable, damaged or of a newer format.
    Data = 4,
    /// The key file is missing, wrong or unreadable.
    Keys = 5,
    /// The server cannot be reached, or is not the one that is trusted.
    Unreachable = 6,
    /// The client's own state folder is in use, damaged or belongs to another system.
    State = 7,
    /// A measurement says nothing: it was not made, not valid, or ended early.
    NotMeasured = 8,
}

/// A command's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable name for scripts.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// The exit code; `None`: the reader of the output went away, which is nobody's fault.
    pub exit: Option<Exit>,
}

impl Failure {
    /// A failure with its code and its sentence.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retryable: false, exit: Some(exit) }
    }

    /// The command line or a configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The same command may succeed later.
    pub fn retryable(self) -> Self {
        Self { retryable: true, ..self }
    }

    /// The reader of the output has closed it (`buslane tail | head`): an end without a complaint.
    pub fn output_closed() -> Self {
        Self { code: "output_closed".to_owned(), message: String::new(), retryable: false, exit: None }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.exit.map_or(0, |exit| exit as u8)
    }

    /// The form for scripts: one JSON object.
    pub fn to_json(&self) -> String {
        json!({"error": {"code": self.code, "message": self.message, "retryable": self.retryable}})
            .to_string()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal.code {
            Code::Unavailable | Code::Timeout | Code::Idle | Code::Draining => Exit::Unreachable,
            _ => Exit::Refused,
        };
        Self {
            code: refusal.code.name().to_owned(),
            message: refusal.detail,
            retryable: refusal.code.retryable(),
            exit: Some(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_whether_it_may_be_retried() {
        let failure = Failure::from(Refusal::of(Code::UnknownUser));
        assert_eq!(
            (failure.code.as_str(), failure.retryable, failure.exit_code()),
            ("unknown_user", false, 1)
        );
        let failure = Failure::from(Refusal::of(Code::Unavailable));
        assert_eq!((failure.retryable, failure.exit_code()), (true, 6));
    }

    #[test]
    fn the_json_form_is_one_object_whatever_the_message_holds() {
        let text = Failure::usage("a \"quoted\"\nline").to_json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["code"], "usage");
        assert_eq!(value["error"]["message"], "a \"quoted\"\nline");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_closed_output_is_not_an_error() {
        assert_eq!(Failure::output_closed().exit_code(), 0);
    }
}
