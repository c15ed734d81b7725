//! Brings the messages of one address: the shell around its queue.
//!
//! Why it exists: one task for each address, so that one that hangs keeps no other one waiting. That it fails is told to the
//! operators too. It must never log what it brings.

use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::email::Email;
use super::message::Message;
use super::queue::{Fate, Next, Pace, Queue, Taste};
use super::webhook::Webhook;
use crate::happening::{Happening, News, What};
use crate::incidents::{Notice, SELF};

/// Failures in a row after which operators are told: one lost answer is no news.
const FAILURES_TOLD: u32 = 3;

/// An address.
#[derive(Debug)]
pub(super) enum Target {
    Webhook(Webhook),
    Email(Email),
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) struct SendError {
    /// In words, without a secret.
    pub(super) why: String,
    /// Whether it may be taken later.
    pub(super) is_passing: bool,
}

impl SendError {
    pub(super) fn passing(why: String) -> Self {
        Self { why, is_passing: true }
    }

    pub(super) fn final_one(why: String) -> Self {
        Self { why, is_passing: false }
    }
}

impl Target {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => webhook.name(),
            Self::Email(email) => email.name(),
        }
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let sent = match self {
            Self::Webhook(webhook) => webhook.send(message, clock::unix_ms()).await,
            Self::Email(email) => email.send(message).await,
        };
        self.count(if sent.is_ok() { "sent" } else { "failed" });
        sent
    }

    /// Counts what became of a message.
    pub(super) fn count(&self, outcome: &'static str) {
        let kind = match self {
            Self::Webhook(webhook) => webhook.kind(),
            Self::Email(_) => "email",
        };
        metrics::counter!("buslane_notifications_total", "kind" => kind, "outcome" => outcome).increment(1);
    }

    fn taste(&self) -> Taste {
        match self {
            Self::Webhook(webhook) => webhook.taste(),
            Self::Email(email) => email.taste(),
        }
    }
}

/// The task of one address.
pub(super) struct Courier {
    pub(super) target: Arc<Target>,
    pub(super) node: String,
    pub(super) news: News,
    pub(super) pace: Pace,
}

impl Courier {
    /// Until the end; then what waits is brought once more, without a pause, as far as the time goes.
    pub(super) async fn run(self, mut inbox: mpsc::Receiver<Notice>, ending: &CancellationToken) {
        let mut queue = Queue::new(self.pace, self.target.taste());
        let time_is_up = async {
            ending.cancelled().await;
            tokio::time::sleep(self.pace.goodbye).await;
        };
        tokio::select! {
            () = self.bring(&mut queue, &mut inbox, ending) => {}
            () = time_is_up => {}
        }
        self.name_what_is_left(&mut queue, &mut inbox);
    }

    async fn bring(&self, queue: &mut Queue, inbox: &mut mpsc::Receiver<Notice>, ending: &CancellationToken) {
        loop {
            // Asked before the inbox is emptied: what was offered until then is brought.
            let ends = ending.is_cancelled();
            while let Ok(notice) = inbox.try_recv() {
                self.take(queue, notice);
            }
            match if ends { queue.last() } else { queue.next(clock::unix_ms()) } {
                Next::Bring(due) => {
                    let sent = self.target.send(&Message::about(&due, &self.node)).await;
                    match sent {
                        Ok(()) => self.on_brought(queue, &due),
                        Err(error) => {
                            let is_passing = error.is_passing && !ending.is_cancelled();
                            self.on_failed(queue, &due, &SendError { is_passing, ..error });
                        }
                    }
                }
                Next::Wait(_) if ends => return,
                Next::Wait(until_ms) => {
                    let waited = ending.run_until_cancelled(self.wait(inbox, until_ms)).await;
                    match waited {
                        Some(Some(notice)) => notice.into_iter().for_each(|notice| self.take(queue, notice)),
                        // Nobody offers any more.
                        Some(None) => return,
                        None => {}
                    }
                }
            }
        }
    }

    fn name_what_is_left(&self, queue: &mut Queue, inbox: &mut mpsc::Receiver<Notice>) {
        while let Ok(notice) = inbox.try_recv() {
            self.take(queue, notice);
        }
        for no in queue.waiting() {
            self.target.count("dropped");
            tracing::error!(to = self.target.name(), no, "not told of an incident: the process ends");
        }
    }

    /// The next notice, or that it is time; none: nobody offers any more.
    async fn wait(
        &self,
        inbox: &mut mpsc::Receiver<Notice>,
        until_ms: Option<u64>,
    ) -> Option<Option<Notice>> {
        let Some(until_ms) = until_ms else { return inbox.recv().await.map(Some) };
        let left = Duration::from_millis(until_ms.saturating_sub(clock::unix_ms()));
        tokio::select! {
            notice = inbox.recv() => notice.map(Some),
            () = tokio::time::sleep(left) => Some(None),
        }
    }

    fn take(&self, queue: &mut Queue, notice: Notice) {
        if let Some(dropped) = queue.offer(notice) {
            self.target.count("dropped");
            self.note(format!(
                "{} was not told of incident {}: too many wait",
                self.target.name(),
                dropped.incident.no
            ));
        }
    }

    fn on_brought(&self, queue: &mut Queue, due: &super::queue::Due) {
        if queue.failures() >= FAILURES_TOLD {
            self.note(format!("{} takes notifications again", self.target.name()));
        }
        queue.on_brought(due, clock::unix_ms());
    }

    fn on_failed(&self, queue: &mut Queue, due: &super::queue::Due, error: &SendError) {
        let fate = queue.on_failed(due, error.is_passing, clock::unix_ms());
        let (to, no, why) = (self.target.name(), due.notice.incident.no, &error.why);
        tracing::warn!(to, no, why, failures = queue.failures(), "a notification was not taken");
        if fate == Fate::GivenUp {
            self.target.count("given_up");
            self.note(format!("{to} was not told of incident {no}, for good: {why}"));
        } else if queue.failures() == FAILURES_TOLD {
            self.note(format!("{to} takes no notifications, it is tried again: {why}"));
        }
    }

    /// Tells operators, on the page and in the stories of incidents.
    fn note(&self, text: String) {
        let what = What::Mark { mark: "note".to_owned(), text, author: SELF.to_owned() };
        self.news.tell(Happening { at_ms: clock::unix_ms(), node: self.node.clone(), what });
    }
}
