//! The whole table of hellos that are accepted and refused.

use buslane_shared::proof::session_proof;

use super::*;

const NOW: UnixMs = 1_000;
const EXPORTER: [u8; EXPORTER_BYTES] = [3; EXPORTER_BYTES];
const PROOF_KEY: [u8; 32] = [5; 32];

fn ring(secret: u8) -> KeyRing {
    let secret = Bytes::copy_from_slice(&[secret; 32]);
    KeyRing::new(&wire::KeySet {
        keys: vec![wire::TokenKey { id: 1, secret, not_before_ms: 0, expires_ms: u64::MAX }],
    })
}

fn ticket_body() -> wire::TicketBody {
    wire::TicketBody {
        user: "alice".into(),
        device: Bytes::from_static(&[1; 16]),
        proof_key: Bytes::from_static(&PROOF_KEY),
        issued_at_ms: 500,
        expires_ms: 2_000,
        nodes: vec!["other".into(), "here".into()],
        choice_version: 1,
        ..Default::default()
    }
}

fn resume_body() -> wire::ResumeBody {
    wire::ResumeBody {
        user: "alice".into(),
        device: Bytes::from_static(&[1; 16]),
        proof_key: Bytes::from_static(&PROOF_KEY),
        session: Bytes::from_static(&[7; 16]),
        expires_ms: 2_000,
        node: "here".into(),
        issued_at_ms: 500,
    }
}

fn hello(token: Token) -> wire::Hello {
    wire::Hello {
        version: 1,
        token: Some(token),
        proof: Bytes::copy_from_slice(&session_proof(&PROOF_KEY, &EXPORTER)),
        app_state: wire::AppState::Foreground.into(),
        seen: 4,
        ..Default::default()
    }
}

fn with_ticket(change: impl FnOnce(&mut wire::TicketBody)) -> wire::Hello {
    let mut body = ticket_body();
    change(&mut body);
    hello(Token::Ticket(ring(9).seal(Purpose::Ticket, &body, [0; 12], NOW).unwrap()))
}

fn with_resume(change: impl FnOnce(&mut wire::ResumeBody)) -> wire::Hello {
    let mut body = resume_body();
    change(&mut body);
    hello(Token::Resume(ring(9).seal(Purpose::Resume, &body, [0; 12], NOW).unwrap()))
}

fn judge(hello: &wire::Hello) -> Result<Verified, Code> {
    let is_revoked = |device: &DeviceId, issued: UnixMs| device.as_bytes() == &[2; 16] && issued <= 600;
    let facts =
        Facts { keys: &ring(9), node: "here", now_ms: NOW, exporter: &EXPORTER, is_revoked: &is_revoked };
    verify(hello, &facts).map_err(|rejected| {
        let is_known = rejected.refusal.code == Code::Revoked;
        assert_eq!(rejected.who.is_some(), is_known, "{rejected:?}");
        rejected.refusal.code
    })
}

#[test]
fn a_ticket_of_this_node_opens_a_session() {
    let verified = judge(&with_ticket(|_| ())).unwrap();
    assert_eq!((verified.user.as_str(), verified.expires_ms, verified.resume), ("alice", 2_000, None));
    assert_eq!(verified.app_state, wire::AppState::Foreground);
}

#[test]
fn a_resume_token_names_its_session() {
    let verified = judge(&with_resume(|_| ())).unwrap();
    assert_eq!(verified.resume, Some((SessionId::from_bytes([7; 16]), 4)));
    assert_eq!(verified.issued_at_ms, 500);
}

#[test]
fn everything_else_is_refused_with_its_code() {
    let changed = |change: fn(&mut wire::Hello)| {
        let mut hello = with_ticket(|_| ());
        change(&mut hello);
        hello
    };
    let foreign = ring(8).seal(Purpose::Ticket, &ticket_body(), [0; 12], NOW).unwrap();
    let swapped = ring(9).seal(Purpose::Ticket, &ticket_body(), [0; 12], NOW).unwrap();
    let revoked = Bytes::from_static(&[2; 16]);
    let again = revoked.clone();
    let table: Vec<(&str, wire::Hello, Code)> = vec![
        ("no version", changed(|h| h.version = 0), Code::BadVersion),
        ("no token", changed(|h| h.token = None), Code::BadField),
        ("a long agent", changed(|h| h.agent = "x".repeat(65)), Code::BadField),
        ("no proof", changed(|h| h.proof = Bytes::new()), Code::BadProof),
        (
            "the proof of another connection",
            changed(|h| h.proof = Bytes::copy_from_slice(&session_proof(&PROOF_KEY, &[4; 32]))),
            Code::BadProof,
        ),
        (
            "the proof of another device",
            changed(|h| h.proof = Bytes::copy_from_slice(&session_proof(&[6; 32], &EXPORTER))),
            Code::BadProof,
        ),
        ("nonsense as ticket", hello(Token::Ticket(Bytes::from_static(b"nonsense"))), Code::BadTicket),
        ("a ticket of another system", hello(Token::Ticket(foreign)), Code::BadTicket),
        ("a ticket as resume token", hello(Token::Resume(swapped)), Code::BadTicket),
        ("a ticket that is over", with_ticket(|t| t.expires_ms = NOW), Code::TicketExpired),
        ("a ticket for other nodes", with_ticket(|t| t.nodes = vec!["other".into()]), Code::BadTicket),
        ("a ticket without a device", with_ticket(|t| t.device = Bytes::new()), Code::BadTicket),
        ("a ticket for a bad name", with_ticket(|t| t.user = "A B".into()), Code::BadTicket),
        ("a revoked device", with_ticket(|t| t.device = revoked), Code::Revoked),
        ("a resume token that is over", with_resume(|r| r.expires_ms = NOW), Code::TicketExpired),
        ("a resume token of another node", with_resume(|r| r.node = "other".into()), Code::BadTicket),
        ("a resume token without a session", with_resume(|r| r.session = Bytes::new()), Code::BadTicket),
    ];
    for (what, hello, code) in table {
        assert_eq!(judge(&hello).err(), Some(code), "{what}");
    }
    let enrolled_again = with_ticket(|t| (t.device, t.issued_at_ms) = (again, 601));
    assert!(judge(&enrolled_again).is_ok());
}

#[test]
fn without_keys_a_client_is_told_to_come_back() {
    let (keys, is_revoked) = (KeyRing::default(), |_: &DeviceId, _: UnixMs| false);
    let facts =
        Facts { keys: &keys, node: "here", now_ms: NOW, exporter: &EXPORTER, is_revoked: &is_revoked };
    assert_eq!(verify(&with_ticket(|_| ()), &facts).unwrap_err().refusal.code, Code::Unavailable);
}
