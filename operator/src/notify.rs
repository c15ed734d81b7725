//! Tells people who do not look: webhooks and e-mail, one thread for each incident.
//!
//! Each address has a courier: a task that holds a queue of its own, so that one that does not answer keeps no other one
//! waiting. `message` puts an incident into words, `webhook` and `email` bring them.
//!
//! Why it exists: somebody must be woken, once, with what they need to decide whether to get up. It must never wait for an
//! address, never hold more than its bounds, never show a password or the address of a webhook, and never fail in silence.

mod courier;
mod email;
mod message;
mod queue;
mod webhook;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use buslane_chassis::shutdown::Shutdown;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::happening::News;
use crate::incidents::Notice;

use courier::{Courier, Target};
use email::Email;
use message::Message;
use queue::Pace;
use webhook::Webhook;

/// Notices that a courier has not taken yet: it takes them in microseconds, but not while it waits for an address.
const INBOX_MAX: usize = 1_024;

/// How long those who offer notices may take to say that there are no more, once the shutdown has begun.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An address is none.
    #[error("console.notify.webhooks[{index}].url: {why}; write http://HOST/… or https://HOST/…")]
    Webhook {
        /// Which, from 0.
        index: usize,
        /// Why.
        why: String,
    },
    /// A mail address or server is none.
    #[error("console.notify.email.{key}: {why}")]
    Email {
        /// Which setting.
        key: &'static str,
        /// Why, and what to do.
        why: String,
    },
    /// The password cannot be read.
    #[error("console.notify.email.password_file {}: {error}; see to its owner and mode", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// How telling somebody went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Who, without secrets: "slack webhook at hooks.example".
    pub to: String,
    /// Whether it was taken.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}

/// Everybody who is told.
#[derive(Debug)]
pub struct Messenger {
    node: String,
    doors: Vec<Door>,
    /// One test at a time: it is for people, and each makes noise.
    testing: tokio::sync::Mutex<()>,
    ending: CancellationToken,
}

#[derive(Debug)]
struct Door {
    target: Arc<Target>,
    /// Hash of whom it leads to, so that processes can tell whether they tell the same people.
    channel: String,
    inbox: mpsc::Sender<Notice>,
    /// Taken by the courier when it starts.
    waiting: Mutex<Option<mpsc::Receiver<Notice>>>,
}

impl Messenger {
    /// Reads the settings. Nobody is told yet.
    pub fn open(config: &config::Notify, node: &str) -> Result<Arc<Self>, OpenError> {
        let mut targets = Vec::new();
        for (index, settings) in config.webhooks.iter().enumerate() {
            let webhook = Webhook::open(settings, node);
            let target = Target::Webhook(webhook.map_err(|why| OpenError::Webhook { index, why })?);
            targets.push((target, channel(&[&settings.url])));
        }
        if let Some(settings) = &config.email {
            let whom: Vec<&str> =
                std::iter::once(&settings.server).chain(&settings.to).map(String::as_str).collect();
            targets.push((Target::Email(Email::open(settings, node)?), channel(&whom)));
        }
        let doors = targets.into_iter().map(|(target, channel)| {
            let (inbox, waiting) = mpsc::channel(INBOX_MAX);
            Door { target: Arc::new(target), channel, inbox, waiting: Mutex::new(Some(waiting)) }
        });
        let node = node.to_owned();
        Ok(Arc::new(Self {
            node,
            doors: doors.collect(),
            testing: tokio::sync::Mutex::default(),
            ending: CancellationToken::new(),
        }))
    }

    /// The process that tells.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whom it can tell, each as a hash.
    pub fn channels(&self) -> BTreeSet<String> {
        self.doors.iter().map(|door| door.channel.clone()).collect()
    }

    /// Tells everybody who is to know. Never waits.
    pub fn offer(&self, notice: Notice) {
        for door in self.doors.iter().filter(|door| notice.audience.has(&door.channel)) {
            // After the shutdown nobody takes it: that is no failure.
            if let Err(TrySendError::Full(notice)) = door.inbox.try_send(notice.clone()) {
                door.target.count("dropped");
                let (to, no) = (door.target.name(), notice.incident.no);
                tracing::error!(to, no, "a notification was dropped: too many wait");
            }
        }
    }

    /// Nobody offers any more: what waits is brought within seconds, or named in the log.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Brings notices until [`Messenger::end`]. Whoever cannot be told is a happening too.
    pub fn run(&self, news: &News, shutdown: &Shutdown) {
        self.run_at(Pace::default(), news, shutdown);
    }

    fn run_at(&self, pace: Pace, news: &News, shutdown: &Shutdown) {
        let (token, ending) = (shutdown.token().clone(), self.ending.clone());
        shutdown.tracker().spawn(async move {
            let limit = async {
                token.cancelled().await;
                tokio::time::sleep(LAST_WORDS).await;
            };
            tokio::select! {
                () = ending.cancelled() => {}
                () = limit => ending.cancel(),
            }
        });
        for door in &self.doors {
            let Some(waiting) = door.waiting.lock().take() else { continue };
            let courier = Courier {
                target: Arc::clone(&door.target),
                node: self.node.clone(),
                news: news.clone(),
                pace,
            };
            let ending = self.ending.clone();
            shutdown.tracker().spawn(async move { courier.run(waiting, &ending).await });
        }
    }

    /// Tells everybody that this is a test, now; none: another test is under way.
    pub async fn test(&self, author: &str, reason: &str, now_ms: u64) -> Option<Vec<Told>> {
        let _one = self.testing.try_lock().ok()?;
        let message = Message::test(author, reason, &self.node, now_ms);
        let told = self.doors.iter().map(|door| async {
            let sent = door.target.send(&message).await;
            Told {
                to: door.target.name().to_owned(),
                ok: sent.is_ok(),
                error: sent.err().map(|error| error.why),
            }
        });
        Some(join_all(told).await)
    }
}

/// An address that another process can compare and not read.
fn channel(parts: &[&str]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finish())
}

#[cfg(test)]
mod tests;
