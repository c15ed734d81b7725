//! One message as one line: JSON for scripts, a sentence for people.
//!
//! The JSON form is a contract: `room, seq, sender, client_id, text, sent_at`. A body that is no text has `body_hex` in
//! place of `text`; a change of a group's members, which is part of the room's numbers, has `event` (with `users` and
//! `title`) in place of it.

use buslane_client::{Change, Content, Message};
use serde::Serialize;

use crate::output::{Output, printable};
use crate::time_text;

/// A message as it is printed with `--json`.
#[derive(Debug, Serialize)]
pub struct MessageLine<'a> {
    room: String,
    seq: u64,
    sender: &'a str,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    mentions: &'a [String],
    sent_at: String,
}

impl<'a> MessageLine<'a> {
    /// The line of a message.
    pub fn new(message: &'a Message) -> Self {
        let mut line = Self {
            room: message.room.to_string(),
            seq: message.seq,
            sender: message.sender.as_str(),
            client_id: message.client_id.to_string(),
            text: None,
            body_hex: None,
            event: None,
            users: None,
            title: None,
            mentions: &message.mentions,
            sent_at: time_text::rfc3339(message.sent_at_ms),
        };
        match &message.content {
            Content::Body(body) => match message.text() {
                Some(text) => line.text = Some(text),
                None => line.body_hex = Some(hex::encode(body)),
            },
            Content::Membership { change, users, title } => {
                line.event = Some(event_name(*change));
                line.users = Some(users);
                line.title = (!title.is_empty()).then_some(title);
            }
        }
        line
    }
}

/// The line for people.
pub fn sentence(message: &Message, output: &Output) -> String {
    let time = time_text::hour_minute(message.sent_at_ms);
    let said = match &message.content {
        Content::Body(body) => match message.text() {
            Some(text) => printable(text).into_owned(),
            None => format!("({} bytes that are no text)", body.len()),
        },
        Content::Membership { change, users, title } => {
            let what = match change {
                Change::Created => format!("created \"{}\" with", printable(title)),
                Change::Unspecified => "changed something about".to_owned(),
                _ => event_name(*change).to_owned(),
            };
            return output
                .dim(&format!("{time} {:>5} {} {what} {}", message.seq, message.sender, users.join(", ")))
                .into_owned();
        }
    };
    let head = format!("{time} {:>5}", message.seq);
    format!("{} {} {said}", output.dim(&head), output.bold(&format!("{}:", message.sender)))
}

fn event_name(change: Change) -> &'static str {
    match change {
        Change::Unspecified => "unknown",
        Change::Created => "created",
        Change::Joined => "joined",
        Change::Left => "left",
        Change::Kicked => "kicked",
        Change::Invited => "invited",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::id::{ClientId, RoomId};

    fn message(content: Content) -> Message {
        Message {
            room: RoomId::from_bytes([1; 16]),
            seq: 7,
            sender: "alice".parse().unwrap(),
            client_id: ClientId::from_bytes([2; 16]),
            sent_at_ms: 1_795_233_016_123,
            mentions: vec![],
            content,
            notify: false,
        }
    }

    #[test]
    fn the_json_line_has_the_promised_keys_and_no_others() {
        let message = message(Content::Body("hello\n\"you\"".into()));
        let line = serde_json::to_string(&MessageLine::new(&message)).unwrap();
        assert_eq!(
            line,
            "{\"room\":\"01010101-0101-0101-0101-010101010101\",\"seq\":7,\"sender\":\"alice\",\
             \"client_id\":\"02020202-0202-0202-0202-020202020202\",\"text\":\"hello\\n\\\"you\\\"\",\
             \"sent_at\":\"2026-11-21T03:50:16.123Z\"}"
        );
    }

    #[test]
    fn a_body_that_is_no_text_and_a_change_of_members_are_lines_too() {
        let bytes = message(Content::Body(vec![0xff, 0x00].into()));
        let value = serde_json::to_value(MessageLine::new(&bytes)).unwrap();
        assert_eq!(value["body_hex"], "ff00");
        assert!(value.get("text").is_none());
        let joined = message(Content::Membership {
            change: Change::Joined,
            users: vec!["bob".into()],
            title: String::new(),
        });
        let value = serde_json::to_value(MessageLine::new(&joined)).unwrap();
        assert_eq!((value["event"].as_str(), value["users"][0].as_str()), (Some("joined"), Some("bob")));
        assert!(value.get("title").is_none());
    }

    #[test]
    fn a_message_cannot_move_the_cursor_of_a_terminal() {
        let output = Output { json: false, colour: false };
        let line = sentence(&message(Content::Body("\x1b[2Jboo".into())), &output);
        assert_eq!(line, "03:50Z     7 alice: \\u{1b}[2Jboo");
    }
}
