//! `chat` over pipes: a scripted conversation.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::support::{Home, LIMIT, Server, said};

struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    talk: mpsc::Receiver<String>,
}

fn lines_of(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let stream = BufReader::new(stream);
    thread::spawn(move || stream.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    lines
}

impl Chat {
    fn start(home: &Home, user: &str, peer: &str) -> Self {
        let mut child =
            home.command(&["chat", "--as", user, "--with", peer]).stdin(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let talk = lines_of(child.stderr.take().unwrap());
        Self { input: child.stdin.take(), child, lines, talk }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.input.as_mut().unwrap(), "{text}").unwrap();
    }

    /// Waits for a message.
    fn hear(&self, what: &str) {
        while !self
            .lines
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| panic!("never heard {what:?}"))
            .ends_with(what)
        {}
    }

    /// Waits for a remark about the conversation.
    fn be_told(&self, what: &str) {
        while !self
            .talk
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| panic!("was never told {what:?}"))
            .contains(what)
        {}
    }

    /// Closes the input; the chat must end by itself.
    fn end(mut self) {
        drop(self.input.take());
        let said = said(self.child);
        assert_eq!(said.code, 0, "{said:?}: {:?}", self.talk.try_iter().collect::<Vec<_>>());
    }
}

#[test]
fn two_chats_make_a_conversation_even_if_one_comes_first() {
    let home = Home::new();
    let server = Server::up(&home);
    // Bob is nobody yet: alice waits for him.
    let mut alice = Chat::start(&home, "alice", "bob");
    alice.be_told("bob is not here yet");
    let mut bob = Chat::start(&home, "bob", "alice");
    bob.say("are you there?");
    alice.hear("bob: are you there?");
    alice.say("yes!");
    bob.hear("alice: yes!");
    alice.hear("alice: yes!");
    // What was shown to bob is marked as read for her.
    alice.be_told("✓✓ read (up to 2)");
    alice.end();
    bob.end();
    server.stop();
}

#[test]
fn a_chat_goes_on_over_a_restart_and_shows_what_was_said_before() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    let mut alice = Chat::start(&home, "alice", "bob");
    alice.say("before");
    alice.hear("alice: before");
    let addresses = server.addresses();
    server.kill();
    alice.say("during");
    let server = Server::up_with(&home, &[&addresses[0], &addresses[1], &addresses[2], &addresses[3]]);
    alice.hear("alice: during");
    alice.say("after");
    alice.hear("alice: after");
    alice.end();
    assert_eq!(home.texts("bob", "alice"), ["before", "during", "after"]);
    let bob = Chat::start(&home, "bob", "alice");
    for text in ["before", "during", "after"] {
        bob.hear(&format!("alice: {text}"));
    }
    bob.end();
    server.stop();
}

#[test]
fn a_pipe_that_ends_at_once_still_delivers_everything() {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    let mut alice = Chat::start(&home, "alice", "bob");
    for n in 0..200 {
        alice.say(&format!("line {n}"));
    }
    alice.end();
    let expected: Vec<_> = (0..200).map(|n| format!("line {n}")).collect();
    assert_eq!(home.texts("bob", "alice"), expected);
    server.stop();
}
