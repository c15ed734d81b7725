use super::*;
use crate::incidents::Occasion;
use crate::notify::tests::{Mail, due, email, notice};

fn message(told_as: Option<Severity>) -> Message {
    let mut due = due(notice(Occasion::Opened, 1_767_225_792_000));
    due.told_as = told_as;
    Message::about(&due, "n 1")
}

#[tokio::test]
async fn messages_about_an_incident_are_one_thread() {
    let mut mail = Mail::open("354 go").await;
    let email = Email::open(&email(mail.addr), "n 1").unwrap();
    email.send(&message(None)).await.unwrap();
    let first = mail.next().await;
    assert!(first.contains(&"MAIL FROM:<buslane@example.org>".to_owned()), "{first:?}");
    for to in ["RCPT TO:<mina@example.org>", "RCPT TO:<jo@example.org>"] {
        assert!(first.contains(&to.to_owned()), "{first:?}");
    }
    let thread = "<incident-3-1767225600000@n-1.buslane>";
    assert!(first.contains(&format!("Message-ID: {thread}")), "{first:?}");
    assert!(first.contains(&"Affected: backend.".to_owned()), "{first:?}");
    email.send(&message(Some(Severity::High))).await.unwrap();
    let second = mail.next().await;
    assert!(second.contains(&"Message-ID: <incident-3-1767225792000@n-1.buslane>".to_owned()));
    assert!(second.contains(&format!("In-Reply-To: {thread}")), "{second:?}");
}

#[tokio::test]
async fn a_title_cannot_add_a_header() {
    let mut mail = Mail::open("354 go").await;
    let email = Email::open(&email(mail.addr), "n1").unwrap();
    let mut notice = notice(Occasion::Opened, 5);
    notice.incident.title = "x\r\nBcc: evil@example.org\r\n\r\nbody".to_owned();
    email.send(&Message::about(&due(notice), "n1")).await.unwrap();
    let said = mail.next().await;
    assert!(!said.iter().any(|line| line.starts_with("Bcc:") || line.contains("RCPT TO:<evil")), "{said:?}");
}

#[tokio::test]
async fn the_server_says_whether_it_may_be_tried_again() {
    for (answer, is_passing) in [("451 later", true), ("554 never", false)] {
        let mail = Mail::open(answer).await;
        let email = Email::open(&email(mail.addr), "n1").unwrap();
        let error = email.send(&message(None)).await.unwrap_err();
        assert_eq!(error.is_passing, is_passing, "{}", error.why);
    }
}

#[tokio::test]
async fn a_password_goes_to_this_machine_or_over_tls_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    buslane_chassis::secret::write(&path, b"pass word\n").unwrap();
    let mut mail = Mail::open("354 go").await;
    let mut settings = email(mail.addr);
    settings.user = Some("mina".into());
    let missing = Email::open(&settings, "n1").unwrap_err().to_string();
    assert!(missing.contains("email.password_file: missing"), "{missing}");
    settings.password_file = Some(path);
    let opened = Email::open(&settings, "n1").unwrap();
    opened.send(&message(None)).await.unwrap();
    // "\0mina\0pass word".
    assert!(mail.next().await.contains(&"AUTH PLAIN AG1pbmEAcGFzcyB3b3Jk".to_owned()));
    settings.server = "mail.example.org:25".into();
    let open = Email::open(&settings, "n1").unwrap_err().to_string();
    assert!(open.contains("set security to `tls` or `starttls`"), "{open}");
    settings.security = EmailSecurity::Starttls;
    Email::open(&settings, "n1").unwrap();
}

#[tokio::test]
async fn starttls_that_is_not_offered_is_no_mail() {
    let mut mail = Mail::open("354 go").await;
    let mut settings = email(mail.addr);
    settings.security = EmailSecurity::Starttls;
    assert!(Email::open(&settings, "n1").unwrap().send(&message(None)).await.is_err());
    assert!(!mail.next().await.iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn settings_that_are_wrong_say_which() {
    let good = email("127.0.0.1:25".parse().unwrap());
    let table = [
        (config::Email { server: "mail.example.org".into(), ..good.clone() }, "email.server"),
        (config::Email { from: "nobody".into(), ..good.clone() }, "email.from"),
        (config::Email { to: vec!["a@b@c".into()], ..good.clone() }, "email.to"),
        (
            config::Email { user: Some("u".into()), password_file: Some("/nowhere/at/all".into()), ..good },
            "password_file /nowhere/at/all",
        ),
    ];
    for (settings, wanted) in table {
        let error = Email::open(&settings, "n1").unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
