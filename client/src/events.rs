//! What waits for the app: bounded, and honest about it.
//!
//! Messages are never dropped: without room for one the inbox leaves it in the log and fetches it when there is room again. The other
//! events are news about things that can be asked for; without room they are dropped, and the app is told that they were.
//!
//! A message counts as taken when the app asks for what comes after it. An app that dies in between gets it again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use buslane_shared::id::RoomId;
use futures_util::Stream;
use parking_lot::Mutex;

use crate::core::Core;
use crate::types::Event;

/// Messages that wait for the app: a screen or two of several conversations.
const MESSAGES_MAX: usize = 1024;

/// Their bytes.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Other events that wait for the app.
const NEWS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    messages: usize,
    bytes: usize,
    dropped: u64,
    /// The message that the app has in hand.
    in_hand: Option<(RoomId, u64)>,
    /// Only the newest stream gets anything.
    generation: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl Waiting {
    fn is_ample(&self) -> bool {
        !self.closed && self.messages <= MESSAGES_MAX / 2 && self.bytes <= BYTES_MAX / 2
    }
}

/// The queue between the connection and the app.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    waiting: Mutex<Waiting>,
}

/// What a poll of the app brings.
struct Taken {
    poll: Poll<Option<Event>>,
    finished: Option<(RoomId, u64)>,
    made_room: bool,
}

impl EventQueue {
    /// How many messages more may be put in.
    pub fn space(&self) -> usize {
        let waiting = self.waiting.lock();
        if waiting.bytes >= BYTES_MAX || waiting.closed {
            0
        } else {
            MESSAGES_MAX.saturating_sub(waiting.messages)
        }
    }

    /// Whether it is worth while to fetch from the log: a page fits.
    pub fn is_ample(&self) -> bool {
        self.waiting.lock().is_ample()
    }

    /// Puts in what the inbox passes on. It has asked for [`EventQueue::space`] before, and nobody else puts messages in.
    pub fn put_messages(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let waker = {
            let mut waiting = self.waiting.lock();
            for event in events.drain(..) {
                waiting.messages += 1;
                waiting.bytes += weight_bytes(&event);
                waiting.events.push_back(event);
            }
            waiting.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Puts in any other event, or counts it as dropped.
    pub fn put_news(&self, event: Event) {
        let waker = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return;
            }
            if waiting.dropped > 0 || waiting.events.len() - waiting.messages >= NEWS_MAX {
                waiting.dropped += 1;
                None
            } else {
                waiting.events.push_back(event);
                waiting.waker.take()
            }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// No more comes; what is there can still be taken.
    pub fn close(&self) {
        let waker = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            waiting.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn take_over(&self) -> u64 {
        let (generation, waker) = {
            let mut waiting = self.waiting.lock();
            waiting.generation += 1;
            (waiting.generation, waiting.waker.take())
        };
        waker.into_iter().for_each(Waker::wake);
        generation
    }

    fn poll(&self, generation: u64, cx: &Context<'_>) -> Taken {
        let mut waiting = self.waiting.lock();
        if waiting.generation != generation {
            return Taken { poll: Poll::Ready(None), finished: None, made_room: false };
        }
        let was_ample = waiting.is_ample();
        let finished = waiting.in_hand.take();
        let poll = match waiting.events.pop_front() {
            Some(event) => {
                if is_of_inbox(&event) {
                    waiting.messages = waiting.messages.saturating_sub(1);
                    waiting.bytes = waiting.bytes.saturating_sub(weight_bytes(&event));
                }
                waiting.in_hand = place(&event);
                Poll::Ready(Some(event))
            }
            None if waiting.dropped > 0 => {
                Poll::Ready(Some(Event::Missed { dropped: std::mem::take(&mut waiting.dropped) }))
            }
            None if waiting.closed => Poll::Ready(None),
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        };
        Taken { poll, finished, made_room: !was_ample && waiting.is_ample() }
    }
}

/// What is counted as a message: it came from the inbox and was never dropped.
fn is_of_inbox(event: &Event) -> bool {
    matches!(event, Event::Message(_) | Event::Skipped { .. })
}

fn weight_bytes(event: &Event) -> usize {
    match event {
        Event::Message(message) => message.weight_bytes(),
        _ => size_of::<Event>(),
    }
}

/// Up to where the app has the room, once it has dealt with this.
fn place(event: &Event) -> Option<(RoomId, u64)> {
    match event {
        Event::Message(message) => Some((message.room, message.seq)),
        Event::Skipped { room, to, .. } => Some((*room, *to)),
        _ => None,
    }
}

/// The stream of everything that the app hears. Ends when the client is closed, or when a newer stream was asked for.
#[derive(Debug)]
pub struct Events {
    core: Arc<Core>,
    generation: u64,
}

impl Events {
    pub(crate) fn of(core: Arc<Core>) -> Self {
        let generation = core.events.take_over();
        Self { core, generation }
    }

    /// The next event; the one before counts as dealt with. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let taken = self.core.events.poll(self.generation, cx);
        if let Some((room, seq)) = taken.finished {
            self.core.on_taken(room, seq);
        }
        if taken.made_room {
            // There is room again: what was left in the log can be fetched.
            self.core.wake.notify_one();
        }
        taken.poll
    }
}
