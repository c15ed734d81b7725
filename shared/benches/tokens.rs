//! What a login costs beyond its handshake: the sealed ticket with its MAC, beside what signatures would cost instead.
//! The figures are in docs/decisions/0002-sealed-tickets.md.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use buslane_shared::proof::{gate_proof_holds, gate_statement, session_proof, session_proof_holds};
use buslane_shared::token::{KeyRing, Purpose};
use buslane_shared::wire;
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;

const NOW_MS: u64 = 1_000_000;
const EXPORTER: [u8; 32] = [3; 32];

/// A month of daily keys: the ring as it is in an old system.
fn ring() -> KeyRing {
    let key = |id: u32| wire::TokenKey {
        id,
        secret: vec![id as u8; 32].into(),
        not_before_ms: u64::from(id),
        expires_ms: 2 * NOW_MS,
    };
    KeyRing::new(&wire::KeySet { keys: (1..=32).map(key).collect() })
}

fn ticket() -> wire::TicketBody {
    wire::TicketBody {
        user: "somebody@example.org".into(),
        device: vec![1; 16].into(),
        proof_key: vec![2; 32].into(),
        issued_at_ms: NOW_MS,
        expires_ms: 2 * NOW_MS,
        nodes: vec!["manager-1".into(), "manager-2".into(), "manager-3".into()],
        choice_version: 1,
        ..Default::default()
    }
}

fn tokens(c: &mut Criterion) {
    let ring = ring();
    let body = ticket();
    let token = ring.seal(Purpose::Ticket, &body, [9; 12], NOW_MS).unwrap();
    let proof = session_proof(&body.proof_key, &EXPORTER);
    c.bench_function("ticket: seal", |b| {
        b.iter(|| ring.seal(Purpose::Ticket, black_box(&body), [9; 12], NOW_MS).unwrap());
    });
    c.bench_function("ticket: open", |b| {
        b.iter(|| ring.open::<wire::TicketBody>(Purpose::Ticket, black_box(&token), NOW_MS).unwrap());
    });
    c.bench_function("session proof: check the MAC", |b| {
        b.iter(|| assert!(session_proof_holds(black_box(&body.proof_key), &EXPORTER, &proof)));
    });
    c.bench_function("login as it is: open the ticket, check the MAC", |b| {
        b.iter(|| {
            let body: wire::TicketBody = ring.open(Purpose::Ticket, black_box(&token), NOW_MS).unwrap();
            assert!(session_proof_holds(&body.proof_key, &EXPORTER, &proof));
        });
    });
}

fn signatures(c: &mut Criterion) {
    let device = Ed25519KeyPair::generate().unwrap();
    let gateway = Ed25519KeyPair::generate().unwrap();
    let key = device.public_key().as_ref().to_vec();
    let proof = device.sign(&gate_statement(&EXPORTER));
    let clear = ticket().encode_to_vec();
    let signature = gateway.sign(&clear);
    let gateway_key = gateway.public_key().as_ref().to_vec();
    c.bench_function("device proof: check Ed25519", |b| {
        b.iter(|| assert!(gate_proof_holds(black_box(&key), &EXPORTER, proof.as_ref())));
    });
    c.bench_function("login by signatures: check the ticket, check the device", |b| {
        b.iter(|| {
            let signed = UnparsedPublicKey::new(&ED25519, &gateway_key);
            signed.verify(black_box(&clear), signature.as_ref()).unwrap();
            wire::TicketBody::decode(clear.as_slice()).unwrap();
            assert!(gate_proof_holds(black_box(&key), &EXPORTER, proof.as_ref()));
        });
    });
}

criterion_group!(benches, tokens, signatures);
criterion_main!(benches);
