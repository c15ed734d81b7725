//! Brings messages by e-mail, over SMTP; those about one incident are one thread in the reader's program.
//!
//! Why it exists: it is what reaches people when nothing else is set up. It must never send a password over a connection that is
//! not protected, but to this machine itself.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use tokio::time::timeout;

use super::OpenError;
use super::courier::SendError;
use super::message::Message;
use super::queue::Taste;
use crate::config::{self, EmailSecurity};
use crate::view::Severity;

/// How long the server may take for each step.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// How long a message may take in all.
const LIMIT: Duration = Duration::from_secs(30);

/// Longest password file: more is none.
const PASSWORD_BYTES_MAX: usize = 4_096;

/// A mail server, and who is told through it.
pub(super) struct Email {
    name: String,
    node: String,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    least: Severity,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Email {
    /// From its settings.
    pub(super) fn open(settings: &config::Email, node: &str) -> Result<Self, OpenError> {
        let (host, port) = address(&settings.server)?;
        let wrong = |key, why: String| OpenError::Email { key, why };
        let parameters = || {
            TlsParameters::new(host.to_owned())
                .map_err(|error| wrong("server", format!("no TLS with it: {error}")))
        };
        let tls = match settings.security {
            EmailSecurity::Tls => Tls::Wrapper(parameters()?),
            EmailSecurity::Starttls => Tls::Required(parameters()?),
            EmailSecurity::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .timeout(Some(STEP_LIMIT));
        if let Some(user) = &settings.user {
            if settings.security == EmailSecurity::None && !is_here(host) {
                let why = "the password would be sent in the open: set security to `tls` or `starttls`";
                return Err(wrong("security", why.to_owned()));
            }
            builder = builder.credentials(Credentials::new(user.clone(), password(settings)?));
        }
        let mailbox = |key, text: &str| {
            text.parse::<Mailbox>().map_err(|error| wrong(key, format!("{text:?} is no address: {error}")))
        };
        Ok(Self {
            name: format!("e-mail through {host}"),
            node: node.to_owned(),
            transport: builder.build(),
            from: mailbox("from", &settings.from)?,
            to: settings.to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?,
            least: settings.least.unwrap_or(Severity::Low),
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it wants to hear.
    pub(super) fn taste(&self) -> Taste {
        Taste { least: self.least, repeat_ms: None }
    }

    /// Brings a message.
    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let mail = self.mail(message).map_err(|error| SendError::final_one(error.to_string()))?;
        match timeout(LIMIT, self.transport.send(mail)).await {
            Err(_) => Err(SendError::passing(format!("not taken within {} s", LIMIT.as_secs()))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => Err(SendError::final_one(error.to_string())),
            Ok(Err(error)) => Err(SendError::passing(error.to_string())),
        }
    }

    fn mail(&self, message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(message.subject.clone())
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if let Some(incident) = &message.about {
            let thread = self.id(incident.no, incident.opened_ms);
            builder = match message.told_as {
                None => builder.message_id(Some(thread)),
                Some(_) => builder
                    .message_id(Some(self.id(incident.no, message.at_ms)))
                    .in_reply_to(thread.clone())
                    .references(thread),
            };
        }
        builder.body(message.lines.join("\n") + "\n")
    }

    /// Identifier of a message: the same for the same incident and time.
    fn id(&self, no: u64, at_ms: u64) -> String {
        let node: String =
            self.node.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
        format!("<incident-{no}-{at_ms}@{node}.buslane>")
    }
}

fn address(server: &str) -> Result<(&str, u16), OpenError> {
    let parts = server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let wrong = || OpenError::Email {
        key: "server",
        why: format!("{server:?} is not HOST:PORT: write mail.example.org:465"),
    };
    parts.filter(|(host, _)| !host.is_empty()).ok_or_else(wrong)
}

fn is_here(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn password(settings: &config::Email) -> Result<String, OpenError> {
    let Some(path) = &settings.password_file else {
        let why = "missing: `user` is set, and the server will want its password".to_owned();
        return Err(OpenError::Email { key: "password_file", why });
    };
    let failed = |error| OpenError::Password { path: path.clone(), error };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(failed(std::io::Error::other("it is longer than any password")));
    }
    if buslane_chassis::secret::is_exposed(path).map_err(failed)? {
        tracing::warn!(path = %path.display(), "the password file is readable by others: chmod 600 it");
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests;
