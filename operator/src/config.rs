//! Settings of the operator's seat: `[console]` in the configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use garde::Validate;
use serde::{Deserialize, Serialize, Serializer};

/// Settings of the seat.
#[derive(Debug, Clone, Default, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Admin addresses of the other processes of this system, so that each shows all of them and orders reach them even without
    /// the backend.
    #[garde(length(max = 64))]
    pub peers: Vec<SocketAddr>,
    /// File with the token that the peers accept (role operator). The path is relative to the configuration file.
    #[garde(skip)]
    pub peer_token: Option<PathBuf>,
    /// File with the authority of the peers' `[admin_tls]`: with it they are asked over TLS, all of them, and the certificate
    /// of each must name the address that stands in `peers`. The path is relative to the configuration file.
    #[garde(skip)]
    pub peer_ca: Option<PathBuf>,
    /// The probe from outside.
    #[garde(dive)]
    pub probe: Probe,
    /// Who is told.
    #[garde(dive)]
    pub notify: Notify,
    /// Seconds after which recovery from an incident takes longer than expected.
    #[garde(skip)]
    pub expected_recovery_s: Option<u32>,
}

impl Config {
    /// Makes the paths relative to the folder of the configuration file.
    pub fn relative_to(&mut self, folder: &Path) {
        let password = self.notify.email.as_mut().and_then(|email| email.password_file.as_mut());
        for path in [self.peer_token.as_mut(), self.peer_ca.as_mut(), password].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

/// Settings of the probe: a client that enters, sends and receives.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// Seconds between two probes; 0: none.
    #[garde(range(max = 3_600))]
    pub every_s: u32,
    /// Seconds after which a probe has failed.
    #[garde(range(min = 1, max = 60))]
    pub limit_s: u32,
    /// The gate that it goes to, where the process that probes has none itself: a backend.
    #[garde(skip)]
    pub gate: Option<SocketAddr>,
}

impl Default for Probe {
    fn default() -> Self {
        Self { every_s: 10, limit_s: 5, gate: None }
    }
}

/// Who is told about incidents.
#[derive(Debug, Clone, Default, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Web addresses that take a JSON message.
    #[garde(dive)]
    pub webhooks: Vec<Webhook>,
    /// E-mail.
    #[garde(dive)]
    pub email: Option<Email>,
}

/// A web address that is told.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `http://` or `https://`.
    #[garde(length(min = 8, max = 2_048))]
    #[serde(serialize_with = "without_secret")]
    pub url: String,
    /// "slack" or "alertmanager".
    #[garde(skip)]
    pub format: WebhookFormat,
    /// The least severity that is told. `from` is its former name.
    #[garde(skip)]
    #[serde(alias = "from")]
    pub least: Option<crate::view::Severity>,
}

/// How a webhook is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// `{"text": …}`, as Slack, Mattermost and others take it.
    Slack,
    /// A list of alerts, as Alertmanager's `/api/v2/alerts` takes it.
    Alertmanager,
}

/// E-mail over SMTP.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// Host and port of the server.
    #[garde(length(min = 3, max = 256))]
    pub server: String,
    /// "tls", "starttls" or "none".
    #[garde(skip)]
    pub security: EmailSecurity,
    /// Sender.
    #[garde(length(min = 3, max = 256))]
    pub from: String,
    /// Recipients.
    #[garde(length(min = 1, max = 32))]
    pub to: Vec<String>,
    /// User, where the server wants one.
    #[garde(skip)]
    pub user: Option<String>,
    /// File with the password.
    #[garde(skip)]
    pub password_file: Option<PathBuf>,
    /// The least severity that is told.
    #[garde(skip)]
    pub least: Option<crate::view::Severity>,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EmailSecurity {
    /// TLS from the beginning.
    Tls,
    /// TLS after a plain greeting; required.
    Starttls,
    /// None: for a relay on this machine.
    None,
}

/// Such an address is a secret behind its host: whoever knows it may write there.
fn without_secret<S: Serializer>(url: &str, to: S) -> Result<S::Ok, S::Error> {
    let host = url.split('/').take(3).collect::<Vec<_>>().join("/");
    // A name and a password may stand before the host.
    let host = host.rsplit_once('@').map_or(host.as_str(), |(_, host)| host);
    to.serialize_str(&format!("{host}/…"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Severity;

    #[test]
    fn the_least_severity_has_one_name_and_its_former_one_is_understood() {
        for name in ["least", "from"] {
            let text =
                format!(r#"{{"url": "https://hooks.example/x", "format": "slack", "{name}": "high"}}"#);
            let webhook: Webhook = serde_json::from_str(&text).unwrap();
            assert_eq!(webhook.least, Some(Severity::High), "{name}");
        }
    }
}
