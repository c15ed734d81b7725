//! A backend that does what a defective one would: it changes what goes through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buslane_chassis::api::{Backend, BackendApi, Call, LINK_QUEUE};
use buslane_shared::refusal::Refusal;
use buslane_shared::wire::{self, answer, event, message, request, to_manager};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use tokio::sync::mpsc;

use super::PREFIX;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// No message of a room has this one: see [`SKIPPED`].
    SkipsSequence,
    /// Each tenth delivery is made twice.
    DeliversTwice,
    /// Each tenth delivery also goes to people of other conversations.
    DeliversToStranger,
    /// Each tenth delivery is not made.
    ForgetsDelivery,
    /// Each tenth delivery comes after the next one for the same people.
    SwapsDeliveries,
}

/// The sequence that is left out.
const SKIPPED: u64 = 7;

/// Every so many deliveries the defect shows.
const EVERY: u64 = 10;

/// The backend and its defect.
pub struct Bent {
    inner: Backend,
    defect: Defect,
    deliveries: Arc<AtomicU64>,
}

impl Bent {
    pub fn around(inner: Backend, defect: Defect) -> Self {
        Self { inner, defect, deliveries: Arc::default() }
    }
}

/// As everybody sees it whose backend has left one out.
fn skipped(seq: u64) -> u64 {
    if seq >= SKIPPED { seq + 1 } else { seq }
}

fn unskipped(seq: u64) -> u64 {
    if seq >= SKIPPED { seq - 1 } else { seq }
}

fn bend_answer(result: &mut answer::Result) {
    match result {
        answer::Result::Receipt(receipt) => receipt.seq = skipped(receipt.seq),
        answer::Result::Batch(batch) => {
            batch.head = skipped(batch.head);
            batch.messages.iter_mut().for_each(|message| message.seq = skipped(message.seq));
        }
        _ => {}
    }
}

/// The message of a delivery, if it is one of somebody's words.
fn bend_message(bytes: &Bytes, bend: impl FnOnce(&mut wire::Message)) -> Option<Bytes> {
    let mut event = wire::Event::decode(bytes.clone()).unwrap();
    let Some(event::Kind::Delivery(delivery)) = &mut event.kind else { return None };
    let message = delivery.message.as_mut()?;
    if !matches!(message.content, Some(message::Content::Body(_))) {
        return None;
    }
    bend(message);
    Some(event.encode_to_vec().into())
}

fn users(frame: &wire::ToManager) -> Vec<&str> {
    let Some(to_manager::Kind::Deliver(deliver)) = &frame.kind else { return Vec::new() };
    deliver.targets.iter().filter(|target| target.except_device.is_empty()).map(|t| t.user.as_str()).collect()
}

impl Defect {
    /// What goes to the session managers in place of this frame; `held` comes behind the next one for the same
    /// people.
    fn frames(
        self,
        no: u64,
        frame: wire::ToManager,
        held: &mut Option<wire::ToManager>,
    ) -> Vec<wire::ToManager> {
        let Some(to_manager::Kind::Deliver(deliver)) = &frame.kind else { return vec![frame] };
        let bend = |message: &mut wire::Message| {
            if self == Self::SkipsSequence {
                message.seq = skipped(message.seq);
            }
        };
        let Some(event) = bend_message(&deliver.event, bend) else { return vec![frame] };
        let with = |targets: Vec<wire::DeliverTarget>| {
            let deliver = wire::Deliver { event: event.clone(), targets, ..Default::default() };
            wire::ToManager { kind: Some(to_manager::Kind::Deliver(deliver)) }
        };
        let made = with(deliver.targets.clone());
        let shows = no.is_multiple_of(EVERY);
        match self {
            Self::SkipsSequence => vec![made],
            Self::DeliversTwice if shows => vec![made.clone(), made],
            Self::ForgetsDelivery if shows => Vec::new(),
            Self::DeliversToStranger if shows => {
                let everybody = (0..2 * super::PAIRS).map(|n| format!("{PREFIX}{n}"));
                let strangers =
                    everybody.filter(|user| deliver.targets.iter().all(|target| target.user != *user));
                let strangers = strangers.map(|user| wire::DeliverTarget { user, ..Default::default() });
                vec![made, with(strangers.collect())]
            }
            Self::SwapsDeliveries => match held.take_if(|held| users(held) == users(&made)) {
                Some(first) => vec![made, first],
                None if shows && held.is_none() => {
                    *held = Some(made);
                    Vec::new()
                }
                None => vec![made],
            },
            _ => vec![made],
        }
    }
}

impl BackendApi for Bent {
    fn relay(&self, call: Call, mut request: wire::Request) -> BoxFuture<'_, wire::Answer> {
        if self.defect != Defect::SkipsSequence {
            return self.inner.relay(call, request);
        }
        if let Some(request::Op::Sync(sync)) = &mut request.op {
            sync.after = unskipped(sync.after);
        }
        let answered = self.inner.relay(call, request);
        Box::pin(async move {
            let mut answer = answered.await;
            answer.result.iter_mut().for_each(bend_answer);
            answer
        })
    }

    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        self.inner.enrol(request)
    }

    fn feed(
        &self,
        request: wire::FeedRequest,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        self.inner.feed(request)
    }

    fn link(
        &self,
        up: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        Box::pin(async move {
            let mut honest = self.inner.link(up).await?;
            let (down, bent) = mpsc::channel(LINK_QUEUE);
            let (defect, deliveries) = (self.defect, self.deliveries.clone());
            tokio::spawn(async move {
                let mut held = None;
                while let Some(frame) = honest.recv().await {
                    let no = deliveries.fetch_add(1, Ordering::Relaxed);
                    for frame in defect.frames(no, frame, &mut held) {
                        if down.send(frame).await.is_err() {
                            return;
                        }
                    }
                }
            });
            Ok(bent)
        })
    }
}
