//! Notices for the tests of this module, a web server and a mail server that really answer, and the messenger between them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::queue::Due;
use super::*;
use crate::config::{EmailSecurity, WebhookFormat};
use crate::happening::What;
use crate::incidents::{Audience, Occasion, SELF};
use crate::view::{Entry, IncidentState, IncidentView, Severity};

const LIMIT: Duration = Duration::from_secs(20);

/// A notice of incident 3.
pub(super) fn notice(occasion: Occasion, at_ms: u64) -> Notice {
    of(3, occasion, at_ms)
}

pub(super) fn of(no: u64, occasion: Occasion, at_ms: u64) -> Notice {
    let incident = IncidentView {
        no,
        title: "The store does not answer.".into(),
        key: "store/down".into(),
        opened_by: SELF.into(),
        severity: Severity::High,
        grade: 2,
        state: IncidentState::Detected,
        opened_ms: 1_767_225_600_000,
        recovered_ms: None,
        resolved_ms: None,
        expected_ms: 1_767_227_400_000,
        acknowledged_by: None,
        silenced_until_ms: None,
        why: "3 of 5 writes failed".into(),
        affects: vec!["backend".into()],
        runbook: "#the-store-does-not-answer".into(),
        told_by: None,
        entries: 1,
        timeline: Vec::new(),
    };
    let change = Entry {
        at_ms: 1_767_225_540_000,
        author: "jo".into(),
        kind: "mark".into(),
        text: "deploy: v2".into(),
    };
    Notice { occasion, at_ms, incident, is_silenced: false, changes: vec![change], audience: Audience::All }
}

pub(super) fn due(notice: Notice) -> Due {
    let occasions = vec![(notice.at_ms, notice.occasion)];
    Due { notice, occasions, told_as: None, is_repeat: false }
}

/// A web server that gives these answers, one a request, then 200; and what it was asked.
pub(super) struct Web {
    pub(super) addr: SocketAddr,
    pub(super) asked: mpsc::UnboundedReceiver<(String, String)>,
    task: tokio::task::JoinHandle<()>,
}

impl Web {
    pub(super) async fn open(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        let answers = answers.to_vec();
        let task = tokio::spawn(async move {
            let mut answers = answers.into_iter();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let answer = answers.next().unwrap_or("200 OK");
                let Some(request) = answer_one(tcp, answer).await else { continue };
                tell.send(request).unwrap();
            }
        });
        Self { addr, asked, task }
    }

    pub(super) async fn next(&mut self) -> (String, String) {
        timeout(LIMIT, self.asked.recv()).await.expect("nobody asked").unwrap()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Head and body of a request.
async fn answer_one(tcp: TcpStream, answer: &str) -> Option<(String, String)> {
    let mut stream = BufReader::new(tcp);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

/// A mail server that takes everything, or answers DATA with this; and what it was said.
pub(super) struct Mail {
    pub(super) addr: SocketAddr,
    pub(super) mails: mpsc::UnboundedReceiver<Vec<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Mail {
    pub(super) async fn open(at_data: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tell, mails) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut said = Vec::new();
                let _ = talk(tcp, at_data, &mut said).await;
                tell.send(said).unwrap();
            }
        });
        Self { addr, mails, task }
    }

    pub(super) async fn next(&mut self) -> Vec<String> {
        timeout(LIMIT, self.mails.recv()).await.expect("no mail").unwrap()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One conversation, as in RFC 5321, as far as the tests need it.
async fn talk(tcp: TcpStream, at_data: &str, said: &mut Vec<String>) -> io::Result<()> {
    let mut lines = BufReader::new(tcp);
    lines.write_all(b"220 test ESMTP\r\n").await?;
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let answer = match line.split(' ').next().unwrap_or_default() {
            "." if in_data => {
                in_data = false;
                "250 taken"
            }
            _ if in_data => "",
            "EHLO" => "250-test\r\n250-AUTH PLAIN\r\n250 8BITMIME",
            "AUTH" => "235 welcome",
            "DATA" => {
                in_data = at_data.starts_with("354");
                at_data
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        said.push(line);
        if !answer.is_empty() {
            lines.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }
}

pub(super) fn webhook(addr: SocketAddr, format: WebhookFormat) -> config::Webhook {
    config::Webhook { url: format!("http://{addr}/services/SECRET"), format, least: None }
}

pub(super) fn email(addr: SocketAddr) -> config::Email {
    config::Email {
        server: addr.to_string(),
        security: EmailSecurity::None,
        from: "Buslane <buslane@example.org>".into(),
        to: vec!["mina@example.org".into(), "jo@example.org".into()],
        user: None,
        password_file: None,
        least: None,
    }
}

/// Milliseconds in place of minutes.
const FAST: Pace = Pace {
    apart_ms: 1,
    retry_ms: 1,
    retry_ms_max: 4,
    give_up_ms: 60_000,
    goodbye: Duration::from_millis(300),
};

struct Running {
    messenger: Arc<Messenger>,
    news: News,
    shutdown: Shutdown,
}

fn run(config: &config::Notify) -> Running {
    run_at(FAST, config)
}

fn run_at(pace: Pace, config: &config::Notify) -> Running {
    let running = Running {
        messenger: Messenger::open(config, "n1").unwrap(),
        news: News::default(),
        shutdown: Shutdown::new(),
    };
    running.messenger.run_at(pace, &running.news, &running.shutdown);
    running
}

impl Running {
    async fn end(self) {
        self.messenger.end();
        assert!(self.shutdown.finish(LIMIT).await);
    }
}

#[tokio::test]
async fn everybody_is_told_and_one_that_hangs_keeps_nobody_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut web, mut mail) = (Web::open(&[]).await, Mail::open("354 go").await);
    let hanging = webhook(silent.local_addr().unwrap(), WebhookFormat::Slack);
    let config = config::Notify {
        webhooks: vec![hanging, webhook(web.addr, WebhookFormat::Slack)],
        email: Some(email(mail.addr)),
    };
    let running = run(&config);
    running.messenger.offer(notice(Occasion::Opened, 1));
    let (head, body) = web.next().await;
    assert!(head.starts_with("POST /services/SECRET HTTP/1.1"), "{head}");
    assert!(body.contains("HIGH incident 3 opened: The store does not answer."), "{body}");
    assert!(body.contains("deploy: v2"), "{body}");
    let said = mail.next().await;
    assert!(
        said.contains(&"Subject: HIGH incident 3 opened: The store does not answer.".to_owned()),
        "{said:?}"
    );
    running.end().await;
}

#[tokio::test]
async fn failures_are_tried_again_and_told_to_operators() {
    let mut web = Web::open(&["503 Busy", "429 Slow Down", "500 Oops", "200 OK"]).await;
    let config = config::Notify { webhooks: vec![webhook(web.addr, WebhookFormat::Slack)], email: None };
    let running = run(&config);
    let mut heard = running.news.listen();
    running.messenger.offer(notice(Occasion::Opened, buslane_chassis::clock::unix_ms()));
    for _ in 0..4 {
        web.next().await;
    }
    let mut notes = Vec::new();
    while notes.len() < 2 {
        let happening = timeout(LIMIT, heard.recv()).await.unwrap().unwrap();
        let What::Mark { text, author, .. } = happening.what else { panic!("a mark") };
        assert_eq!(author, SELF);
        notes.push(text);
    }
    let to = format!("slack webhook at {}", web.addr);
    assert_eq!(
        notes,
        [
            format!("{to} takes no notifications, it is tried again: it answered 500 Internal Server Error"),
            format!("{to} takes notifications again"),
        ]
    );
    running.end().await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_told_at_once() {
    let mut web = Web::open(&["404 Not Found"]).await;
    let config =
        config::Notify { webhooks: vec![webhook(web.addr, WebhookFormat::Alertmanager)], email: None };
    let running = run(&config);
    let mut heard = running.news.listen();
    running.messenger.offer(notice(Occasion::Opened, 1));
    web.next().await;
    let happening = timeout(LIMIT, heard.recv()).await.unwrap().unwrap();
    let What::Mark { text, .. } = happening.what else { panic!("a mark") };
    assert!(text.contains("was not told of incident 3, for good: it answered 404"), "{text}");
    assert!(!text.contains("SECRET"), "{text}");
    running.end().await;
}

#[tokio::test]
async fn a_test_says_for_each_whether_it_was_told() {
    let (mut web, mut mail) = (Web::open(&["403 Forbidden"]).await, Mail::open("354 go").await);
    let config = config::Notify {
        webhooks: vec![webhook(web.addr, WebhookFormat::Slack)],
        email: Some(email(mail.addr)),
    };
    let messenger = Messenger::open(&config, "n1").unwrap();
    let told = messenger.test("mina", "new <pager>", 5).await.unwrap();
    let wanted = [
        Told {
            to: format!("slack webhook at {}", web.addr),
            ok: false,
            error: Some("it answered 403 Forbidden".into()),
        },
        Told { to: "e-mail through 127.0.0.1".into(), ok: true, error: None },
    ];
    assert_eq!(told, wanted);
    let (_, body) = web.next().await;
    assert!(body.contains("mina tries on n1 whether you are told: new &lt;pager&gt;"), "{body}");
    assert!(mail.next().await.contains(&"Subject: Buslane: a test, nothing is wrong".to_owned()));
}

#[test]
fn nobody_to_tell_is_nobody_told() {
    let messenger = Messenger::open(&config::Notify::default(), "n1").unwrap();
    messenger.offer(notice(Occasion::Opened, 1));
    assert!(messenger.doors.is_empty());
}

#[tokio::test]
async fn what_waits_at_the_end_is_brought() {
    let mut web = Web::open(&[]).await;
    let config = config::Notify { webhooks: vec![webhook(web.addr, WebhookFormat::Slack)], email: None };
    // A minute lies between two messages, and the process does not live that long.
    let running = run_at(Pace { goodbye: LIMIT, ..Pace::default() }, &config);
    running.messenger.offer(notice(Occasion::Opened, 1));
    web.next().await;
    running.messenger.offer(notice(Occasion::Escalated, 2));
    running.messenger.offer(notice(Occasion::Resolved, 3));
    running.end().await;
    let (_, body) = web.next().await;
    assert!(body.contains("escalated") && body.contains("resolved"), "{body}");
}

#[tokio::test]
async fn an_address_that_takes_nothing_does_not_hold_up_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config::Notify {
        webhooks: vec![webhook(silent.local_addr().unwrap(), WebhookFormat::Slack)],
        email: None,
    };
    let running = run(&config);
    running.messenger.offer(notice(Occasion::Opened, 1));
    let begun = tokio::time::Instant::now();
    running.end().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it may take 300 ms, and 10 s without a bound");
}
